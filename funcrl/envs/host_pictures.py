"""One environment on the host that draws itself, played step by step."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from funcrl.core import tree
from funcrl.core.checks import require
from funcrl.envs.drawing import Frame, check_frame
from funcrl.envs.host import HostEnv
from funcrl.envs.host_checks import Checked, HostError
from funcrl.envs.host_vector import as_arrays, as_tensors

T = TypeVar("T")


class HostPictures:
    """A single environment made with `render_mode="rgb_array"`; it stays where its episode ended."""

    def __init__(self, env: HostEnv) -> None:
        """Make it.

        Args:
            env: What to make; anything but a native vector environment.

        Raises:
            ValueError: When it does not draw in this mode.
            HostError: When it cannot be made.
        """
        self._env = env
        single = env.vectorization != "native"
        hold = "be 'sync' or 'async' for pictures"
        require(single, env.name, "vectorization", hold, env.vectorization)
        with warnings.catch_warnings():
            # Gymnasium warns of a mode that an environment does not have, which is an error below.
            warnings.simplefilter("ignore")
            make = lambda: Checked(lambda: _make(env.make), env.name, "the environment that is drawn")
            self._made = self._call("make", make)
        modes = self._made.metadata.get("render_modes") or []
        hold = "draw in the mode 'rgb_array' for pictures"
        require("rgb_array" in modes, env.name, "the environment", hold, f"one with render_modes {modes}")
        instead = "Give from_gymnasium a function that takes render_mode= and makes the environment with it."
        mode = self._made.render_mode
        require(mode == "rgb_array", env.name, "the environment", hold, f"one in the mode {mode}", instead)

    @property
    def fps(self) -> float:
        """Pictures a second that it wants to be shown; 30 where it does not say."""
        return float(self._made.metadata.get("render_fps") or 30)

    def reset(self, seed: int) -> Any:
        """Begin an episode and return `[...]` what is seen, as tensors on the host."""
        return self._seen(self._call("reset", lambda: self._made.reset(seed=seed))[0])

    def step(self, action: Any) -> tuple[Any, float, bool]:
        """Return `[...]` what is seen after an action `[...]`, its reward, and whether the episode is over."""
        # Empty brackets make a number of what holds a single one, and leave all else as it is.
        given = tree.index(as_arrays(action, self._env.action_space), ())
        obs, reward, terminated, truncated, _ = self._call("step", lambda: self._made.step(given))
        return self._seen(obs), reward, terminated or truncated

    def frame(self) -> Frame:
        """Return a picture of where it is, `[H, W, 3]`."""
        return check_frame(f"{self._env.name}.render", self._call("render", self._made.render))

    def close(self) -> None:
        """End it."""
        self._made.close()

    def _seen(self, obs: Any) -> Any:
        return as_tensors(obs, self._env.observation_space)

    def _call(self, method: str, function: Callable[[], T]) -> T:
        try:
            return function()
        except HostError:
            raise
        except Exception as error:  # whatever a user's function or a simulator raises
            where = f"{self._env.name}.{method}"
            raise HostError(
                f"{where}: the host environment raised {type(error).__name__}: {error}"
            ) from error


def _make(make: Callable[..., Any]) -> Any:
    """Make an environment that draws; a function that takes no mode may do so by itself."""
    try:
        inspect.signature(make).bind(render_mode="rgb_array")
    except (TypeError, ValueError):
        return make()
    return make(render_mode="rgb_array")
