"""Boltzmann exploration: arms are pulled with probability ∝ exp(Q / temperature), Q their average.

Sutton & Barto 2018, "Reinforcement learning: an introduction", (2.3) for the averages, and section
13.1 for the soft-max with a temperature.

    Q_{n+1} = Q_n + (R_n - Q_n) / n                                                    (2.3)
    π(a) = exp(Q(a) / τ) / Σ_b exp(Q(b) / τ)

A constant temperature never stops exploring, so the regret grows linearly; and no temperature that
falls in the same way for every arm is good for all of them (Cesa-Bianchi et al. 2017, "Boltzmann
exploration done right"): what is known of an arm does not enter its probability.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.algos import beginning
from funcrl.algos.bandits import arms
from funcrl.core import Transition, checks, tree
from funcrl.ops import averages, exploration
from funcrl.ops.averages import Averages

DEFAULT_STEPS = arms.DEFAULT_STEPS


@tree.struct
class Config:
    """Settings."""

    temperature: float = 0.1
    """τ, in the unit of the rewards; towards 0 the policy becomes greedy, towards infinity uniform"""

    def __post_init__(self) -> None:
        checks.settings(self, "boltzmann.Config", positive=("temperature",))


@tree.struct
class State:
    """A Boltzmann agent."""

    arms: Averages
    """N and Q of each arm"""
    config: Config
    """its floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""


METRICS = ("value", "greedy_share", "entropy")


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent that has pulled nothing yet.

    Args:
        key: `[2]` int32; says only where everything lives.
        config: Settings; its floats may be numbers or 0-d tensors.
        env: Anything with an `action_space` of K arms and one observation.

    Returns:
        A `State` on the key's device.

    Raises:
        ValueError: When a space is not supported.
    """
    return State(
        arms=averages.averages(arms.num_arms("boltzmann.init", env), key.device),
        config=beginning.settings(config, key),
        metrics=beginning.no_metrics(METRICS, key),
    )


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an arm from the policy.

    Args:
        state: The agent.
        obs: `[]` or `[B]`, not looked at.
        key: `[2]` int32.

    Returns:
        `[]` or `[B]` int64 arm, each drawn by itself, and no extras.
    """
    policy = exploration.boltzmann(state.arms.mean, state.config.temperature)
    return arms.choose(key, policy, obs), {}


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return the arm that paid most on average, `[]` or `[B]` int64."""
    return arms.best(state.arms.mean, obs)


def update(state: State, batch: Transition) -> State:
    """(2.3): learn from one pull.

    Args:
        state: The agent before.
        batch: One transition, `[]`.

    Returns:
        The agent after; its metric `entropy` is that of the policy after, in nats.

    Raises:
        ValueError: When the batch is more than one pull.
    """
    arms.check_pull("boltzmann.update", batch)
    after = averages.update_average(state.arms, batch.action, batch.reward)
    policy = exploration.boltzmann(after.mean, state.config.temperature)
    return State(
        arms=after,
        config=state.config,
        metrics={
            "value": after.mean.amax(dim=-1),
            "greedy_share": averages.greedy_share(after),
            "entropy": -torch.special.xlogy(policy, policy).sum(dim=-1),
        },
    )
