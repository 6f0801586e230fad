"""One environment behind `gymnasium.Env`, for everything written for single environments."""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
from gymnasium.vector import AutoresetMode

from funcrl.core import tree
from funcrl.core.checks import require
from funcrl.envs.drawing import Frame, check_mode, metadata
from funcrl.envs.registry import make_for_gymnasium
from funcrl.envs.stepping import Env
from funcrl.envs.vector import TorchVectorEnv


class TorchEnv(gymnasium.Env[Any, Any]):
    """One environment; observations and actions are tensors on its device.

    Reward, terminated and truncated are Python's, as Gymnasium's API says, so every step waits for
    the device: use `make_vec` where speed matters. With the same seed it lives through the same
    episodes as environment 0 of a `TorchVectorEnv`.
    """

    def __init__(
        self,
        env: Env,
        device: torch.device | str = "cpu",
        backend: str = "inductor",
        render_mode: str | None = None,
    ) -> None:
        """Make it; the step is compiled when it is first taken.

        Args:
            env: What to run.
            device: Where tensors live.
            backend: See `jit`; `"eager"` begins at once and is slower per step.
            render_mode: `"rgb_array"` or None.
        """
        check_mode("TorchEnv", env, render_mode)
        self._vector = TorchVectorEnv(env, 1, device, backend, AutoresetMode.DISABLED, render_mode)
        self._over = False
        self.env = env
        self.device = self._vector.device
        self.metadata = metadata(env)
        self.render_mode = render_mode
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Decides everything that follows; without one the stream goes on.
            options: None are known.

        Returns:
            `[...]` observation and an empty dict.
        """
        super().reset(seed=seed)
        obs, infos = self._vector.reset(seed=seed, options=options)
        self._over = False
        return tree.index(obs, 0), infos

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step.

        Args:
            action: `[...]` in the action space.

        Returns:
            Observation `[...]`, reward, terminated, truncated, and the statistics of the episode.

        Raises:
            ValueError: When the action is not in the space, before `reset`, or when the episode is
                over.
        """
        here, over = f"{self._vector.name}.step", self._over
        require(not over, here, "the episode", "not be over", "a step after its end", "Write env.reset().")
        try:
            action = torch.as_tensor(action, device=self.device)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{here}: action must be a tensor or an array, got {action!r}.") from None
        shape = tuple(self.action_space.shape or ())
        require(tuple(action.shape) == shape, here, "action", f"have shape {shape}", tuple(action.shape))
        obs, reward, terminated, truncated, infos = self._vector.step(action.unsqueeze(0))
        self._over = bool(terminated | truncated)
        figures = {name: value[0].item() for name, value in infos.items() if name[0] != "_"}
        return tree.index(obs, 0), float(reward), bool(terminated), bool(truncated), figures

    def render(self) -> Frame | None:
        """Return a picture, `[H, W, 3]` uint8, where `render_mode` asks for it."""
        pictures = self._vector.render()
        return None if pictures is None else pictures[0]

    def close(self) -> None:
        """End it; a closed environment can no longer be used."""
        self._vector.close()


def make_single(
    name: str,
    device: torch.device | str = "cpu",
    backend: str = "inductor",
    render_mode: str | None = None,
    **params: Any,
) -> TorchEnv:
    """Entry point of `gymnasium.make("funcrl/<name>", device=...)`.

    Gymnasium adds the time limit around it, so that `gymnasium.make`'s own `max_episode_steps`
    means what it says, and by wrappers the render modes `"human"` and `"rgb_array_list"`.

    Args:
        name: Name in `envs.REGISTRY`.
        device: Where tensors live.
        backend: See `jit`.
        render_mode: `"rgb_array"` or None.
        **params: Fields of the environment to change.

    Raises:
        TypeError: When a keyword is unknown, in Python's own words.

    >>> make_single("CartPole-v1", backend="eager").reset(seed=0)[0].shape
    torch.Size([4])
    """
    env = make_for_gymnasium("make_single", name, {"max_episode_steps": None, **params})
    return TorchEnv(env, device, backend, render_mode)


# Gymnasium reads here that it may make its other render modes out of this one.
make_single.metadata = {"render_modes": ["rgb_array"]}  # type: ignore[attr-defined]
