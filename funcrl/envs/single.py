"""One environment behind `gymnasium.Env`, for everything written for single environments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from funcrl.core import jit, tree
from funcrl.core.checks import require
from funcrl.envs.actions import as_numbers, check_actions
from funcrl.envs.autoreset import VectorState
from funcrl.envs.drawing import Frame, check_mode, metadata
from funcrl.envs.registry import make_for_gymnasium
from funcrl.envs.stepping import Env
from funcrl.envs.vector import TorchVectorEnv


class TorchEnv(gymnasium.Env[Any, Any]):
    """One environment; observations and actions are tensors on its device.

    This face is for what is written for single environments: evaluating, looking, other people's
    code. Reward, terminated and truncated are Python's, as Gymnasium's API says, so every step waits
    for the device: use `make_vec` where speed matters. With the same seed it lives through the same
    episodes as environment 0 of a `TorchVectorEnv`. It can be pickled and copied, in the middle of an
    episode too.
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
        self._backend = backend
        self.env = env
        self.device = self._vector.device
        self.metadata = metadata(env)
        self.render_mode = render_mode
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self._make_programs()

    def _make_programs(self) -> None:
        # Both overwrite the state and the row that they were bound to: a step then is one call
        # without arguments, and one list of numbers from the device.
        self._step_program = jit.jit(self._advance, donate=(0, 1), backend=self._backend)
        self._restart_program = jit.jit(self._begin_again, donate=(0, 1), backend=self._backend)
        self._bound: _Bound | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the compiled programs, which belong to a process; a copy makes its own."""
        programs = ("_step_program", "_restart_program", "_bound")
        return {name: value for name, value in self.__dict__.items() if name not in programs}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_programs()

    def _advance(self, state: VectorState, row: _Row, values: list[Tensor], action: Tensor) -> Any:
        after, (obs, *figures), infos = self._vector._stepping.plain_step(values, state, action)
        figures += [infos["episode_return"], infos["episode_length"]]
        return after, _Row(obs, torch.stack([figure[0].to(torch.float64) for figure in figures]))

    def _begin_again(self, state: VectorState, row: _Row, values: list[Tensor]) -> Any:
        after = self._vector._stepping.restart_some(values, state, torch.ones_like(state.ended))
        return after, _Row(tree.map(torch.clone, after.envs.obs), torch.zeros_like(row.figures))

    def _bind(self) -> _Bound:
        """Bind the programs to a state of one's own, of which no tensor is there twice."""
        own = lambda x: x.clone(memory_format=torch.contiguous_format)
        state = self._vector._state = tree.map(own, self._vector._state)
        dtype = torch.float32 if isinstance(self.action_space, spaces.Box) else torch.int64
        figures = torch.zeros(5, dtype=torch.float64, device=self.device)
        row = _Row(tree.map(own, state.envs.obs), figures)
        action = torch.zeros((1, *(self.action_space.shape or ())), dtype=dtype, device=self.device)
        values = self._vector._values
        restart = functools.cache(lambda: self._restart_program.bind(state, row, values))
        return _Bound(self._step_program.bind(state, row, values, action), restart, row, action)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Decides everything that follows; without one the stream goes on.
            options: Where the episode starts, see `TorchVectorEnv.reset`.

        Returns:
            `[...]` observation and an empty dict.
        """
        super().reset(seed=seed)
        if self._bound is not None and seed is None and not options and not self._vector.closed:
            self._bound.restart()()
            self._over = False
            return self._bound.obs(), {}
        obs, infos = self._vector.reset(seed=seed, options=options)
        self._over, self._bound = False, None
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
        if self._over or self._bound is None or self._vector.closed:
            here = f"{self._vector.name}.step"
            instead = "Write env.reset()."
            require(not self._over, here, "the episode", "not be over", "a step after its end", instead)
            self._vector._begun("step")
            self._bound = self._bind()
        self._place(action, self._bound.action)
        self._bound.step()
        reward, terminated, truncated, episode_return, length = self._bound.row.figures.tolist()
        self._over = bool(terminated or truncated)
        infos = {"episode_return": episode_return, "episode_length": int(length)}
        return self._bound.obs(), reward, bool(terminated), bool(truncated), infos

    def _place(self, action: Any, where: Tensor) -> None:
        """Write the action, checked, where the program reads it."""
        space = self.action_space
        if type(space) is spaces.Discrete:
            if isinstance(action, Tensor) and action.ndim == 0 and action.dtype == torch.int64:
                action = int(action)
            if type(action) in (int, np.int64) and 0 <= action - space.start < space.n:
                where.fill_(action)
                return
        here = f"{self._vector.name}.step"
        try:
            action = as_numbers(action, self.device)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{here}: action must be a tensor or an array, got {action!r}.") from None
        shape = tuple(space.shape or ())
        require(tuple(action.shape) == shape, here, "action", f"have shape {shape}", tuple(action.shape))
        where.copy_(check_actions(here, space, action.unsqueeze(0), 1, self.device))

    def render(self) -> Frame | None:
        """Return a picture, `[H, W, 3]` uint8, where `render_mode` asks for it."""
        pictures = self._vector.render()
        return None if pictures is None else pictures[0]

    def close(self) -> None:
        """End it; a closed environment can no longer be used."""
        self._vector.close()


@tree.struct
class _Row:
    """What a step shows."""

    obs: Any
    """`[1, ...]`"""
    figures: Tensor
    """`[5]` float64: reward, terminated, truncated, return and length of the episode"""


@dataclass(frozen=True)
class _Bound:
    """Programs that read and write these very tensors."""

    step: Callable[[], Any]
    restart: Callable[[], Callable[[], Any]]
    """binds, and so compiles, when it is first called: what is always reset with a seed does not need it"""
    row: _Row
    action: Tensor
    """`[1, ...]`"""

    def obs(self) -> Any:
        """Return the observation, `[...]`; whoever gets it may change it."""
        obs = self.row.obs
        return obs[0].clone() if isinstance(obs, Tensor) else tree.map(lambda x: x[0].clone(), obs)


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
