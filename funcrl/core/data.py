"""What an environment hands to an algorithm."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from funcrl.core import tree


@tree.struct
class TimeStep:
    """What one environment step returned.

    `next_obs` is what the action led to, also where the episode ended and the environment has
    already started another; where `terminated` it has no value, where only `truncated` it has one.
    """

    obs: Any
    """`[...]` what the agent saw before it acted"""
    reward: Tensor
    """`[]` float32"""
    terminated: Tensor
    """`[]` boolean: the episode reached a terminal state"""
    truncated: Tensor
    """`[]` boolean: the episode was cut off (a time limit); its last state still has a value"""
    next_obs: Any
    """`[...]` what the action led to, never the first observation of the next episode"""
    episode_return: Tensor
    """`[]` float32, sum of rewards of the episode so far, this step included"""
    episode_length: Tensor
    """`[]` int32, number of steps of the episode so far, this one included"""


@tree.struct
class Transition:
    """What an algorithm learns from: one step, with what `act` returned beside the action."""

    obs: Any
    """`[...]` what the agent saw"""
    action: Any
    """`[...]` what it did"""
    reward: Tensor
    """`[]` float32"""
    terminated: Tensor
    """`[]` boolean: reached a terminal state, nothing to bootstrap from"""
    truncated: Tensor
    """`[]` boolean: cut off, bootstrap from `next_obs`"""
    next_obs: Any
    """`[...]` what the action led to"""
    extras: dict[str, Tensor]
    """what `act` returned beside the action, for example `log_prob`"""


@tree.struct
class ReplayBatch:
    """B rows from a replay buffer, each the next m ≤ n steps of one episode from some step t on.

    Every target, of one step or of several, is `reward + discount · V(next_obs)`.
    """

    obs: Any
    """`[B, ...]` what the agent saw in step t"""
    action: Tensor
    """`[B, ...]` what it did"""
    reward: Tensor
    """`[B]` Σ_{k<m} γᵏ r_{t+k}"""
    discount: Tensor
    """`[B]` γᵐ, and 0 where the last of these steps terminated"""
    next_obs: Any
    """`[B, ...]` what the last of these steps led to"""
    weight: Tensor
    """`[B]` importance weight, in (0, 1]; 1 where every row was equally likely"""
