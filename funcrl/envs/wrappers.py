"""Environments made of other environments: pure functions around pure functions.

A wrapper is a struct with a field `env`, and itself an environment, so wrappers stack. What a
wrapper remembers is part of the state. All of them work on the N environments of a lane at once
(`initial_all`, `transition_all`), so that what is learnt about observations can be shared between
them; one environment alone is N = 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, lanes, random, tree
from funcrl.core.batching import vmap
from funcrl.core.checks import require
from funcrl.envs.stepping import Env, initial_all, next_episode, score, transition_all


class Wrapper:
    """What all wrappers share: everything that a subclass does not change is that of `env`."""

    env: Env

    def __post_init__(self) -> None:
        instead = "Environments on the host take Gymnasium's wrappers, inside from_gymnasium."
        steps = hasattr(self.env, "transition") or hasattr(self.env, "transition_all")
        fine = steps and not isinstance(self.env, type)
        name = type(self).__name__
        require(fine, name, "env", "be an environment of funcrl's", self.env, instead)

    @property
    def max_episode_steps(self) -> int | None:
        """Time limit of the environment inside."""
        return self.env.max_episode_steps

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """Space of one observation."""
        return self.env.observation_space

    @property
    def action_space(self) -> spaces.Space[Any]:
        """Space of one action."""
        return self.env.action_space

    def initial_all(self, keys: Tensor) -> Any:
        """Return the first states of N environments; `keys` is `[N, 2]`."""
        return initial_all(self.env, keys)

    def transition_all(self, states: Any, actions: Tensor, keys: Tensor) -> Any:
        """Return the `[N]` states that follow."""
        return transition_all(self.env, states, actions, keys)

    def initial(self, key: Tensor) -> Any:
        """Return the first state of an episode."""
        return tree.index(self.initial_all(key.unsqueeze(0)), 0)

    def transition(self, state: Any, action: Tensor, key: Tensor) -> Any:
        """Return the state that follows."""
        states, actions, keys = tree.map(lambda x: x.unsqueeze(0), (state, action, key))
        return tree.index(self.transition_all(states, actions, keys), 0)

    def next_episode(self, state: Any, key: Tensor) -> Any:
        """Return the first state of another episode; what outlives episodes is kept."""
        return next_episode(self.env, state, key)

    def _inside(self, state: Any) -> Any:
        """Return the state of `env` within the wrapper's state; here they are the same."""
        return state

    def observation(self, state: Any, key: Tensor) -> Any:
        """Return what the agent sees."""
        return self.env.observation(self._inside(state), key)

    def reward(self, state: Any, action: Tensor, next_state: Any, key: Tensor) -> Tensor:
        """Return the reward of a transition, `[]`."""
        return self.env.reward(self._inside(state), action, self._inside(next_state), key)

    def score(self, state: Any, action: Tensor, next_state: Any, key: Tensor) -> Tensor:
        """Return what counts in reports, `[]`: the reward before any wrapper changed it."""
        return score(self.env, self._inside(state), action, self._inside(next_state), key)

    def terminal(self, state: Any, key: Tensor) -> Tensor:
        """Return whether the episode ends here, `[]` boolean."""
        return self.env.terminal(self._inside(state), key)

    def __getattr__(self, name: str) -> Any:
        # Only what the environment inside has is there: not every environment can draw itself.
        known = ("render", "render_fps", "regret", "reset_options", "starting", "action_mask")
        if name not in known or not hasattr(self.env, name):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        inside = getattr(self.env, name)
        if name in ("render_fps", "reset_options"):
            return inside
        if name == "starting":
            return lambda **bounds: tree.replace(self, env=inside(**bounds))
        return lambda state, *rest: inside(self._inside(state), *rest)


def innermost(env: Any) -> Any:
    """Return the environment inside all wrappers."""
    while isinstance(env, Wrapper):
        env = env.env
    return env


class StatefulWrapper(Wrapper):
    """A wrapper whose state is a struct with the environment's own in its field `inner`."""

    def _inside(self, state: Any) -> Any:
        return state.inner


@tree.struct
class TimeLimit(Wrapper):
    """Another time limit in the place of the environment's own."""

    env: Env
    limit: int | None = tree.static(default=None)
    """steps after which an episode is truncated; None for never"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit is not None:
            checks.integer("TimeLimit", "limit", self.limit, 1)

    @property
    def max_episode_steps(self) -> int | None:
        """The limit."""
        return self.limit


@tree.struct
class ScaleReward(Wrapper):
    """scale · (reward + shift), for example (r + 8) / 8 with a shift of 8 and a scale of 1/8."""

    env: Env
    scale: float = 1.0
    shift: float = 0.0
    """added before scaling"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("ScaleReward", "scale", self.scale, -math.inf, math.inf)
        checks.number("ScaleReward", "shift", self.shift, -math.inf, math.inf)

    def reward(self, state: Any, action: Tensor, next_state: Any, key: Tensor) -> Tensor:
        """Return the scaled reward, `[]`."""
        return self.scale * (self.env.reward(state, action, next_state, key) + self.shift)


@tree.struct
class RepeatedState:
    """State of `RepeatAction`."""

    inner: Any
    reward: Tensor
    """`[]` float32, sum of the rewards of the last repetition"""
    score: Tensor
    """`[]` float32, sum of what counts in reports"""


@tree.struct
class RepeatAction(StatefulWrapper):
    """Each action is taken several times; the rewards are added, and a terminal state stops it.

    A time limit counts the agent's steps: the environment's own is divided, rounding up.
    """

    env: Env
    num_repeats: int = tree.static(default=4)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("RepeatAction", "num_repeats", self.num_repeats, 1)

    @property
    def max_episode_steps(self) -> int | None:
        """Number of repetitions that reach the environment's own limit."""
        limit = self.env.max_episode_steps
        return None if limit is None else -(-limit // self.num_repeats)

    def initial_all(self, keys: Tensor) -> Any:
        """Return the first states."""
        nothing = torch.zeros(keys.shape[0], dtype=torch.float32, device=keys.device)
        return RepeatedState(initial_all(self.env, keys), nothing, nothing)

    def next_episode(self, state: Any, key: Tensor) -> Any:
        """Return the first state of another episode."""
        nothing = torch.zeros_like(state.reward)
        return RepeatedState(next_episode(self.env, state.inner, key), nothing, nothing)

    def transition_all(self, states: Any, actions: Tensor, keys: Tensor) -> Any:
        """Return the states that follow."""
        inner, zero = states.inner, torch.zeros_like(states.reward)
        total, total_score = zero, zero
        over = torch.zeros_like(zero, dtype=torch.bool)
        # Reward and score share a key: they are the same but for what wrappers inside changed.
        every = vmap(lambda key: random.split(key, 3 * self.num_repeats), out_dims=1)(keys)
        for i in range(self.num_repeats):
            k_transition, k_reward, k_terminal = every[3 * i : 3 * i + 3]
            after = transition_all(self.env, inner, actions, k_transition)
            row = (inner, actions, after, k_reward)
            total = total + torch.where(over, 0.0, vmap(self.env.reward)(*row))
            scores = vmap(lambda *one: score(self.env, *one))(*row)
            total_score = total_score + torch.where(over, 0.0, scores)
            inner = tree.where(over, inner, after)
            over = over | vmap(self.env.terminal)(inner, k_terminal)
        return RepeatedState(inner, total, total_score)

    def reward(self, state: Any, action: Tensor, next_state: Any, key: Tensor) -> Tensor:
        """Return the sum of the rewards, `[]`."""
        return next_state.reward  # type: ignore[no-any-return]

    def score(self, state: Any, action: Tensor, next_state: Any, key: Tensor) -> Tensor:
        """Return the sum of what counts in reports, `[]`."""
        return next_state.score  # type: ignore[no-any-return]


@tree.struct
class StackedState:
    """State of `FrameStack`."""

    inner: Any
    frames: Tensor
    """`[num_frames, ...]`, the oldest observation first"""


@tree.struct
class FrameStack(StatefulWrapper):
    """The last observations together, the oldest first; an episode begins with copies of its first one.

    As Gymnasium's `FrameStackObservation` with `padding_type="reset"`.
    """

    env: Env
    num_frames: int = tree.static(default=4)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("FrameStack", "num_frames", self.num_frames, 1)
        require_box("FrameStack", self.env)

    @property
    def observation_space(self) -> spaces.Box:
        """`[num_frames, ...]`."""
        space: Any = self.env.observation_space
        low, high = (np.stack([bound] * self.num_frames) for bound in (space.low, space.high))
        return spaces.Box(low, high, dtype=space.dtype)

    def initial_all(self, keys: Tensor) -> Any:
        """Return the first states."""
        k_initial, k_observation = split_all(keys)
        inner = initial_all(self.env, k_initial)
        return vmap(self._begin)(inner, k_observation)

    def next_episode(self, state: Any, key: Tensor) -> Any:
        """Return the first state of another episode."""
        k_initial, k_observation = random.split(key, 2)
        return self._begin(next_episode(self.env, state.inner, k_initial), k_observation)

    def _begin(self, inner: Any, key: Tensor) -> StackedState:
        obs = self.env.observation(inner, key)
        return StackedState(inner, torch.stack([obs] * self.num_frames))

    def transition_all(self, states: Any, actions: Tensor, keys: Tensor) -> Any:
        """Return the states that follow."""
        k_transition, k_observation = split_all(keys)
        inner = transition_all(self.env, states.inner, actions, k_transition)
        obs = vmap(self.env.observation)(inner, k_observation)
        return StackedState(inner, torch.cat([states.frames[:, 1:], obs.unsqueeze(1)], dim=1))

    def observation(self, state: Any, key: Tensor) -> Tensor:
        """Return `[num_frames, ...]`."""
        return state.frames  # type: ignore[no-any-return]


def split_all(keys: Tensor) -> Tensor:
    """Split each of `[N, 2]` keys in two: `[2, N, 2]`."""
    return vmap(lambda key: random.split(key, 2), out_dims=1)(keys)


def require_box(name: str, env: Env) -> None:
    """Check that a wrapper is given an environment whose observations are one tensor."""
    space = lanes.first(env).observation_space
    instead = "Wrap it in FlattenObservation or OneHotObservation first."
    require(isinstance(space, spaces.Box), name, "env.observation_space", "be a Box", space, instead)
