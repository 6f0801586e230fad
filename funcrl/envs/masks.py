"""Wrappers that put the mask of valid actions into the observation, see `core.masks`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import lanes, masks, tree
from funcrl.core.checks import require
from funcrl.envs.stepping import Env
from funcrl.envs.wrappers import Wrapper


@tree.struct
class MaskActions(Wrapper):
    """An environment that says in its observations which actions are valid.

    An environment has a mask where it has the method `action_mask(state)`, `[A]` boolean; `Taxi-v3` has one.
    """

    env: Env

    def __post_init__(self) -> None:
        super().__post_init__()
        env = lanes.first(self.env)
        instead = "Write a method action_mask(state) that returns [A] booleans."
        require(
            hasattr(env, "action_mask"), "MaskActions", "env", "have a mask of valid actions", env, instead
        )
        _check_actions("MaskActions", env.action_space)

    @property
    def observation_space(self) -> spaces.Dict:
        """`observation` and `action_mask`."""
        return _masked(self.env.observation_space, self.env.action_space)

    def observation(self, state: Any, key: Tensor) -> dict[str, Any]:
        """Return what the agent sees, and `[A]` int8, 1 where an action is valid."""
        env: Any = self.env
        return {
            masks.OBSERVATION: env.observation(state, key),
            masks.MASK: env.action_mask(state).to(torch.int8),
        }


class MaskActionsOnHost(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment of Gymnasium's that says in its observations what its `info["action_mask"]` says."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        _check_actions("mask_actions", env.action_space)
        self.observation_space = _masked(env.observation_space, env.action_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin an episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        return self._both(obs, info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._both(obs, info), reward, terminated, truncated, info

    def _both(self, obs: Any, info: dict[str, Any]) -> dict[str, Any]:
        hold = f"have an {masks.MASK!r}"
        require(masks.MASK in info, str(self.env), "info", hold, sorted(info), "Leave mask_actions out.")
        return {masks.OBSERVATION: obs, masks.MASK: np.asarray(info[masks.MASK], np.int8)}


def _masked(observations: Any, actions: Any) -> spaces.Dict:
    mask = spaces.MultiBinary(masks.num_choices(actions))
    return spaces.Dict({masks.OBSERVATION: observations, masks.MASK: mask})


def _check_actions(function: str, space: Any) -> None:
    known = isinstance(space, masks.MASKABLE)
    require(known, function, "env.action_space", "be Discrete or MultiDiscrete", space)
