"""Stepping an environment: time limit, autoreset and episode statistics, as pure functions.

An environment itself knows states and transitions only. `reset` and `step` add what every learner
needs, for one environment; `reset_all` and `step_all` do so for the N environments of a lane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import TimeStep, random, tree
from funcrl.core.batching import vmap


class Env(Protocol):
    """What an environment must have: the methods of Gymnasium's FuncEnv, each a pure function.

    It may have more: `render(state)` returns a picture, `[H, W, 3]` uint8, on the host, of which
    `render_fps` (an integer) are shown per second;
    `next_episode(state, key)` takes the place of `initial` after the first episode, for states of
    which a part outlives episodes; `score(state, action, next_state, key)` is added up for reports
    where the reward itself was rescaled; `initial_all(keys)` and `transition_all(states, actions, keys)`
    step N environments at once that learn from each other. Wrappers have them. `regret(state, action)`,
    which bandits have, says by how much the mean reward of an action falls short of the best one's.
    `starting(**bounds)` returns the environment with other first states; `reset_options` names the bounds,
    which are what Gymnasium's `reset(options=...)` takes.
    """

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
    """`[]` float32, sum of rewards since the episode began, before wrappers rescaled them"""
    episode_length: Tensor
    """`[]` int32, steps since the episode began"""


def reset(env: Env, key: Tensor) -> EnvState:
    """Begin the first episode.

    Args:
        env: The environment.
        key: `[2]` int32.

    Returns:
        The state; `.obs` is the first observation.
    """
    k_initial, k_observation = random.split(key, 2)
    return _at_start(env, env.initial(k_initial), k_observation)


def restart(env: Env, state: EnvState, key: Tensor) -> EnvState:
    """Begin another episode; what outlives episodes, as running moments do, is kept.

    Args:
        env: The environment.
        state: Where the last episode was left.
        key: `[2]` int32.

    Returns:
        The state; for an environment where nothing outlives an episode, that of `reset(env, key)`.
    """
    k_initial, k_observation = random.split(key, 2)
    return _at_start(env, next_episode(env, state.inner, k_initial), k_observation)


def restart_all(env: Env, state: EnvState, keys: Tensor) -> EnvState:
    """Begin another episode in N environments that belong together, see `restart`.

    Args:
        env: The environment.
        state: `[M]` where some environments of the lane were left; all hold the same moments, so the first
            serves all.
        keys: `[N, 2]` int32.
    """
    kept = tree.index(state, 0)
    return vmap(lambda key: restart(env, kept, key))(keys)


def advance(env: Env, state: EnvState, action: Tensor, key: Tensor) -> tuple[EnvState, TimeStep]:
    """Take one step and stay where it led, also where the episode is over.

    Args:
        env: The environment.
        state: Where it is, in an episode that is not over.
        action: `[...]` what to do.
        key: `[2]` int32.

    Returns:
        The state after, and the time step.
    """
    k_transition, k_rest = _step_keys(key)
    inner = env.transition(state.inner, action, k_transition)
    return _look(env, state, action, inner, k_rest)


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
    after, time_step = advance(env, state, action, key)
    fresh = restart(env, after, _reset_key(key))
    return tree.where(time_step.terminated | time_step.truncated, fresh, after), time_step


def reset_all(env: Env, keys: Tensor) -> EnvState:
    """Begin the first episode in each of N environments that belong together.

    Args:
        env: The environment.
        keys: `[N, 2]` int32.

    Returns:
        `[N]` states.
    """
    split = vmap(lambda key: random.split(key, 2), out_dims=1)(keys)
    return vmap(lambda inner, key: _at_start(env, inner, key))(initial_all(env, split[0]), split[1])


def advance_all(env: Env, states: EnvState, actions: Tensor, keys: Tensor) -> tuple[EnvState, TimeStep]:
    """Take one step in each of N environments that belong together, see `advance`.

    It differs from `vmap` of `advance` only for environments whose states learn from each other,
    as those of `NormalizeObservation` do.

    Args:
        env: The environment.
        states: `[N]`.
        actions: `[N, ...]`.
        keys: `[N, 2]` int32.

    Returns:
        `[N]` states after, and `[N]` time steps.
    """
    k_transition, k_rest = vmap(_step_keys)(keys)
    inner = transition_all(env, states.inner, actions, k_transition)
    look = lambda state, action, inner, key: _look(env, state, action, inner, key)
    return vmap(look)(states, actions, inner, k_rest)


def step_all(env: Env, states: EnvState, actions: Tensor, keys: Tensor) -> tuple[EnvState, TimeStep]:
    """Take one step in each of N environments that belong together, with autoreset, see `step`."""
    after, time_steps = advance_all(env, states, actions, keys)
    fresh = vmap(lambda state, key: restart(env, state, _reset_key(key)))(after, keys)
    return tree.where(time_steps.terminated | time_steps.truncated, fresh, after), time_steps


def initial_all(env: Env, keys: Tensor) -> Any:
    """Return the first states of N environments: by the environment's own `initial_all`, if it has one."""
    own = getattr(env, "initial_all", None)
    return vmap(env.initial)(keys) if own is None else own(keys)


def transition_all(env: Env, states: Any, actions: Tensor, keys: Tensor) -> Any:
    """Return the states that follow: by the environment's own `transition_all`, if it has one."""
    own = getattr(env, "transition_all", None)
    return vmap(env.transition)(states, actions, keys) if own is None else own(states, actions, keys)


def next_episode(env: Env, state: Any, key: Tensor) -> Any:
    """Return the state in which another episode begins: by the environment's own `next_episode`, if it has one."""
    own = getattr(env, "next_episode", None)
    return env.initial(key) if own is None else own(state, key)


def score(env: Env, state: Any, action: Tensor, next_state: Any, key: Tensor) -> Tensor:
    """Return what a transition adds to the return in reports, `[]`: by `score`, if the environment has it."""
    own = getattr(env, "score", None)
    return env.reward(state, action, next_state, key) if own is None else own(state, action, next_state, key)


def regret(env: Env) -> Callable[[Any, Tensor], Tensor] | None:
    """Return the environment's own `regret(state, action) -> []`, None if it does not have one."""
    return getattr(env, "regret", None)


def _step_keys(key: Tensor) -> tuple[Tensor, Tensor]:
    """Return the key of the transition, and `[3, 2]` those of observation, reward and terminal."""
    keys = random.split(key, 5)
    return keys[0], keys[1:4]


def _reset_key(key: Tensor) -> Tensor:
    """Return the key of the episode that follows a step; the step itself does not use it."""
    return random.split(key, 5)[4]


def _at_start(env: Env, inner: Any, key: Tensor) -> EnvState:
    return EnvState(
        inner=inner,
        obs=env.observation(inner, key),
        episode_return=torch.zeros((), dtype=torch.float32, device=key.device),
        episode_length=torch.zeros((), dtype=torch.int32, device=key.device),
    )


def _look(env: Env, state: EnvState, action: Tensor, inner: Any, keys: Tensor) -> tuple[EnvState, TimeStep]:
    """Return what a transition from `state` to `inner` looks like from outside."""
    k_observation, k_reward, k_terminal = keys
    obs = env.observation(inner, k_observation)
    reward = env.reward(state.inner, action, inner, k_reward).to(torch.float32)
    earned = score(env, state.inner, action, inner, k_reward).to(torch.float32)
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
        episode_return=state.episode_return + earned,
        episode_length=length,
    )
    after = EnvState(inner=inner, obs=obs, episode_return=time_step.episode_return, episode_length=length)
    return after, time_step
