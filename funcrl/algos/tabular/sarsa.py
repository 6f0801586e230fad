"""SARSA: the values of the policy that is followed, from the action that it takes next.

Rummery & Niranjan 1994, "On-line Q-learning using connectionist systems"; the equation as in
Sutton & Barto 2018, section 6.4.

    Q(S, A) ← Q(S, A) + α [R + γ Q(S', A') - Q(S, A)]                                         (6.7)

A step is learnt from one step later, when A' is known; in the book's algorithm, too, A' is chosen
before Q(S, A) changes. Where the episode terminates there is no S', and the step is learnt from at
once; so is one that is truncated, where the expected value Σ_a π(a | S') Q(S', a) stands for that
of the action that was never taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.algos.tabular import agent
from funcrl.algos.tabular.agent import DEFAULT_STEPS, LEARNT, METRICS, Settings, State, act, greedy
from funcrl.core import Transition, tree

__all__ = [
    "DEFAULT_STEPS",
    "LEARNT",
    "LOOP",
    "METRICS",
    "Config",
    "Previous",
    "State",
    "act",
    "greedy",
    "init",
    "update",
]

LOOP = "online"


@tree.struct
class Config(Settings):
    """Settings of SARSA."""


@tree.struct
class Previous:
    """The step before, which waits for the action that follows it."""

    obs: Tensor
    """`[]` int64 S"""
    action: Tensor
    """`[]` int64 A"""
    reward: Tensor
    """`[]` float32 R"""
    waits: Tensor
    """`[]` boolean; False at the beginning of an episode"""


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent, see `agent.begin`; its memory is a `Previous`."""
    state = agent.begin("sarsa.init", key, config, env)
    zero = torch.zeros((), dtype=torch.int64, device=key.device)
    return tree.replace(state, memory=Previous(zero, zero, zero.to(torch.float32), zero > 0))


def update(state: State, batch: Transition) -> State:
    """Learn from the step before, (6.7), and from this one where it is the episode's last.

    The action of this step is A' of the step before.
    """
    previous: Previous = state.memory
    gamma, rate = state.config.gamma, agent.learning_rate(state)

    goal = previous.reward + gamma * state.values[batch.obs, batch.action]
    now = torch.where(previous.waits, rate, 0.0)
    values, error = agent.learn(state.values, (previous.obs, previous.action), goal, now)

    ended = batch.terminated | batch.truncated
    reached = agent.expected_value(state, values[batch.next_obs])
    goal = batch.reward + gamma * torch.where(batch.terminated, 0.0, reached)
    now = torch.where(ended, rate, 0.0)
    values, last_error = agent.learn(values, (batch.obs, batch.action), goal, now)

    memory = Previous(batch.obs, batch.action, batch.reward, ~ended)
    return agent.end_update(state, values, memory, torch.where(ended, last_error, error))
