"""Wrappers that bring observations and rewards to one scale by what has been seen so far.

The running moments are part of the state: they outlive episodes, and the N environments of a lane
share them. Lanes do not: each has its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.core.batching import vmap
from funcrl.envs.stepping import Env, initial_all, next_episode, transition_all
from funcrl.envs.wrappers import StatefulWrapper, Wrapper, require_box, split_all
from funcrl.ops.moments import Moments, merge_moments, moments


@tree.struct
class NormalizedState:
    """State of `NormalizeObservation`."""

    inner: Any
    raw: Tensor
    """`[...]` the observation as the environment gave it"""
    moments: Moments
    """of all observations of the lane so far"""


@tree.struct
class NormalizeObservation(StatefulWrapper):
    """(obs - mean) / √(variance + ε), clipped, with the running moments of the lane's observations.

    As Gymnasium's `NormalizeObservation` for vector environments. A policy that has learnt with it
    needs the same moments afterwards: give `evaluate` the `env_states` of the result.
    """

    env: Env
    epsilon: float = 1e-8
    """ε, keeps a constant observation from dividing by zero"""
    clip: float = 10.0
    """largest magnitude; inf for none"""
    updating: bool = tree.static(default=True)
    """whether observations still change the moments"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settings(self, "NormalizeObservation", positive=("epsilon", "clip"), flags=("updating",))
        require_box("NormalizeObservation", self.env)

    @property
    def observation_space(self) -> spaces.Box:
        """Everything within ± `clip`."""
        shape = self.env.observation_space.shape
        return spaces.Box(-float(self.clip), float(self.clip), shape, np.float32)

    def initial_all(self, keys: Tensor) -> Any:
        """Return the first states; their observations are the first samples."""
        k_initial, k_observation = split_all(keys)
        inner = initial_all(self.env, k_initial)
        raw = vmap(self.env.observation)(inner, k_observation).to(torch.float32)
        begun = merge_moments(moments(tuple(raw.shape[1:]), keys.device), raw)
        return NormalizedState(inner, raw, _for_all(begun, raw.shape[0]))

    def next_episode(self, state: Any, key: Tensor) -> Any:
        """Return the first state of another episode, with the moments of before."""
        k_initial, k_observation = random.split(key, 2)
        inner = next_episode(self.env, state.inner, k_initial)
        raw = self.env.observation(inner, k_observation).to(torch.float32)
        return NormalizedState(inner, raw, state.moments)

    def transition_all(self, states: Any, actions: Tensor, keys: Tensor) -> Any:
        """Return the states that follow; their observations are new samples."""
        k_transition, k_observation = split_all(keys)
        inner = transition_all(self.env, states.inner, actions, k_transition)
        raw = vmap(self.env.observation)(inner, k_observation).to(torch.float32)
        if not self.updating:
            return NormalizedState(inner, raw, states.moments)
        merged = merge_moments(tree.index(states.moments, 0), raw)
        return NormalizedState(inner, raw, _for_all(merged, raw.shape[0]))

    def observation(self, state: Any, key: Tensor) -> Tensor:
        """Return the observation in units of its standard deviation."""
        scaled = (state.raw - state.moments.mean) / torch.sqrt(state.moments.variance + self.epsilon)
        return torch.clamp(scaled, -self.clip, self.clip)


@tree.struct
class ScaledState:
    """State of `NormalizeReward`."""

    inner: Any
    discounted: Tensor
    """`[]` Σ γ^(t-k) r_k of the episode so far"""
    reward: Tensor
    """`[]` the last reward as the environment gave it"""
    moments: Moments
    """of `discounted`, over all steps of the lane so far"""


@tree.struct
class NormalizeReward(StatefulWrapper):
    """reward / √(variance of the discounted sums of past rewards + ε), clipped.

    The sums are R_t = γ R_{t-1} + r_t, and 0 again where an episode begins: the equation of
    stable-baselines3's `VecNormalize`. With `keep_past=False` it is that of Gymnasium's vector
    `NormalizeReward` around SAME_STEP environments, which leaves γ R_{t-1} out where a step terminates.
    Unlike both, the variance starts without an imagined first sample. Reports show the original returns.
    """

    env: Env
    gamma: float = 0.99
    """discount γ of the sums, in [0, 1]"""
    epsilon: float = 1e-8
    """ε, keeps rewards that never change from dividing by zero"""
    clip: float = 10.0
    """largest magnitude; inf for none"""
    updating: bool = tree.static(default=True)
    """whether rewards still change the moments"""
    keep_past: bool = tree.static(default=True)
    """whether the sum at a terminating step holds the rewards before it"""

    def __post_init__(self) -> None:
        super().__post_init__()
        flags = ("updating", "keep_past")
        checks.settings(self, "NormalizeReward", unit=("gamma",), positive=("epsilon", "clip"), flags=flags)

    def initial_all(self, keys: Tensor) -> Any:
        """Return the first states."""
        zero = torch.zeros(keys.shape[0], dtype=torch.float32, device=keys.device)
        nothing = _for_all(moments((), keys.device), keys.shape[0])
        return ScaledState(initial_all(self.env, keys), zero, zero, nothing)

    def next_episode(self, state: Any, key: Tensor) -> Any:
        """Return the first state of another episode, with the moments of before."""
        zero = torch.zeros_like(state.reward)
        return ScaledState(next_episode(self.env, state.inner, key), zero, zero, state.moments)

    def transition_all(self, states: Any, actions: Tensor, keys: Tensor) -> Any:
        """Return the states that follow; their discounted sums are new samples."""
        k_transition, k_reward, *k_terminal = vmap(
            lambda key: random.split(key, 2 if self.keep_past else 3), out_dims=1
        )(keys)
        inner = transition_all(self.env, states.inner, actions, k_transition)
        reward = vmap(self.env.reward)(states.inner, actions, inner, k_reward).to(torch.float32)
        past = self.gamma * states.discounted
        if not self.keep_past:
            past = torch.where(vmap(self.env.terminal)(inner, *k_terminal), 0.0, past)
        discounted = past + reward
        if not self.updating:
            return ScaledState(inner, discounted, reward, states.moments)
        merged = merge_moments(tree.index(states.moments, 0), discounted)
        return ScaledState(inner, discounted, reward, _for_all(merged, discounted.shape[0]))

    def reward(self, state: Any, action: Tensor, next_state: Any, key: Tensor) -> Tensor:
        """Return the reward in units of the standard deviation of returns, `[]`."""
        scaled = next_state.reward / torch.sqrt(next_state.moments.variance + self.epsilon)
        return torch.clamp(scaled, -self.clip, self.clip)


def normalizes_observations(env: Any) -> bool:
    """Return whether there is a `NormalizeObservation` somewhere in a stack of wrappers."""
    inside = isinstance(env, Wrapper) and normalizes_observations(env.env)
    return isinstance(env, NormalizeObservation) or inside


def frozen(env: Env) -> Env:
    """Return the environment with every normalising wrapper kept as it is from now on.

    Args:
        env: Wrapped or not.
    """
    changes: dict[str, Any] = {}
    if isinstance(env, (NormalizeObservation, NormalizeReward)):
        changes["updating"] = False
    if isinstance(env, Wrapper):
        changes["env"] = frozen(env.env)
    return tree.replace(env, **changes) if changes else env


def _for_all(held: Moments, num_envs: int) -> Moments:
    """Give each of N environments a copy of the moments that they share."""
    return tree.map(lambda x: x.expand(num_envs, *x.shape).clone(), held)  # type: ignore[no-any-return]
