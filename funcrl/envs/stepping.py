"""Stepping an environment: time limit, autoreset and episode statistics, as pure functions.

An environment itself knows states and transitions only. `reset` and `step` add what every learner
needs. Both are for one environment: `vmap` them for many.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import TimeStep, random, tree


class Env(Protocol):
    """What an environment must have: the methods of Gymnasium's FuncEnv, each a pure function."""

    @property
    def max_episode_steps(self) -> int | None:
        """Time limit; None for no limit."""

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """Space of one observation."""

    @property
    def action_space(self) -> spaces.Space[Any]:
        """Space of one action."""

    def initial(self, key: Tensor) -> Any:
        """Return the first state of an episode."""

    def transition(self, state: Any, action: Tensor, key: Tensor) -> Any:
        """Return the state that follows."""

    def observation(self, state: Any, key: Tensor) -> Any:
        """Return what the agent sees of a state."""

    def reward(self, state: Any, action: Tensor, next_state: Any, key: Tensor) -> Tensor:
        """Return the reward of a transition, `[]`."""
        ...

    def terminal(self, state: Any, key: Tensor) -> Tensor:
        """Return whether the episode ends here, `[]` boolean."""
        ...


@tree.struct
class EnvState:
    """An environment in the middle of an episode."""

    inner: Any
    """the environment's own state"""
    obs: Any
    """what the agent sees now"""
    episode_return: Tensor
    """`[]` float32, sum of rewards since the episode began"""
    episode_length: Tensor
    """`[]` int32, steps since the episode began"""


def reset(env: Env, key: Tensor) -> EnvState:
    """Begin an episode.

    Args:
        env: The environment.
        key: `[2]` int32.

    Returns:
        The state; `.obs` is the first observation.
    """
    k_initial, k_observation = random.split(key, 2)
    inner = env.initial(k_initial)
    return EnvState(
        inner=inner,
        obs=env.observation(inner, k_observation),
        episode_return=torch.zeros((), device=key.device),
        episode_length=torch.zeros((), dtype=torch.int32, device=key.device),
    )


def step(env: Env, state: EnvState, action: Tensor, key: Tensor) -> tuple[EnvState, TimeStep]:
    """Take one step, and begin the next episode at once where this one ends (SAME_STEP autoreset).

    The time step keeps the observation that the action truly led to; the state that is returned
    already stands at the beginning of the next episode.

    Args:
        env: The environment.
        state: Where it is.
        action: `[...]` what to do.
        key: `[2]` int32.

    Returns:
        The state to go on from, and the time step.
    """
    k_transition, k_observation, k_reward, k_terminal, k_reset = random.split(key, 5)
    inner = env.transition(state.inner, action, k_transition)
    obs = env.observation(inner, k_observation)
    reward = env.reward(state.inner, action, inner, k_reward).to(torch.float32)
    terminated = env.terminal(inner, k_terminal)
    length = state.episode_length + 1
    limit = env.max_episode_steps
    truncated = torch.zeros_like(terminated) if limit is None else length >= limit
    time_step = TimeStep(
        obs=state.obs,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        next_obs=obs,
        episode_return=state.episode_return + reward,
        episode_length=length,
    )
    going_on = EnvState(inner=inner, obs=obs, episode_return=time_step.episode_return, episode_length=length)
    return tree.where(terminated | truncated, reset(env, k_reset), going_on), time_step
