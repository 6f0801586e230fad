"""Optimistic initial values: every arm disappoints until it has been tried often enough.

Sutton & Barto 2018, "Reinforcement learning: an introduction", sections 2.5 and 2.6.

    Q_1(a) = initial value, far above what any arm pays
    Q_{n+1} = Q_n + α (R_n - Q_n)                                                          (2.5)
    A = argmax_a Q(a), ties broken at random

It explores at the beginning only, so it cannot follow arms that change later; with an ε it can. The
constant α forgets the first value as (1 - α)ⁿ, which sample averages would do at the first pull.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from funcrl.algos import beginning
from funcrl.algos.bandits import arms
from funcrl.core import Transition, checks, tree
from funcrl.ops import averages, exploration

DEFAULT_STEPS = arms.DEFAULT_STEPS
LOOP = "online"
LEARNT = ("values",)


@tree.struct
class Config:
    """Settings; the defaults are those of figure 2.3."""

    initial_value: float = 5.0
    """Q_1: what every arm is thought to pay at first"""
    step_size: float = 0.1
    """α, in [0, 1]"""
    epsilon: float = 0.0
    """ε: how often any arm is pulled, in [0, 1]"""

    def __post_init__(self) -> None:
        checks.settings(self, "optimistic.Config", unit=("step_size", "epsilon"))
        checks.number("optimistic.Config", "initial_value", self.initial_value, -math.inf, math.inf)


@tree.struct
class State:
    """An optimistic agent."""

    values: Tensor
    """`[K]` float32, Q of each arm"""
    config: Config
    """its floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""


METRICS = ("value", "spread")


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent that expects much of every arm."""
    num_arms = arms.num_arms("optimistic.init", env)
    config = beginning.settings(config, key)
    return State(
        values=torch.zeros(num_arms, dtype=torch.float32, device=key.device) + config.initial_value,
        config=config,
        metrics=beginning.no_metrics(METRICS, key),
    )


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Choose an arm."""
    policy = exploration.epsilon_greedy(state.values, state.config.epsilon)
    return arms.choose(key, policy, obs), {}


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return the arm of the highest value, `[]` or `[B]` int64."""
    return arms.best(state.values, obs)


def update(state: State, batch: Transition) -> State:
    """(2.5): learn from one pull."""
    arms.check_pull("optimistic.update", batch)
    old = state.values
    pulled = averages.is_arm(batch.action, old.shape[-1])
    values = torch.where(pulled, old + state.config.step_size * (batch.reward - old), old)
    best = values.amax(dim=-1)
    return State(
        values=values,
        config=state.config,
        metrics={"value": best, "spread": best - values.amin(dim=-1)},
    )
