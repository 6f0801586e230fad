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

from funcrl.algos.bandits import arms, averaging
from funcrl.algos.bandits.averaging import LEARNT, State, greedy
from funcrl.core import Transition, checks, tree
from funcrl.ops import exploration

__all__ = ["DEFAULT_STEPS", "LEARNT", "LOOP", "METRICS", "Config", "State", "act", "greedy", "init", "update"]

DEFAULT_STEPS = arms.DEFAULT_STEPS
LOOP = "online"


@tree.struct
class Config:
    """Settings."""

    temperature: float = 0.1
    """τ, in the unit of the rewards; towards 0 the policy becomes greedy, towards infinity uniform"""

    def __post_init__(self) -> None:
        checks.settings(self, "boltzmann.Config", positive=("temperature",))


METRICS = (*averaging.METRICS, "entropy")


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent that has pulled nothing yet, see `averaging.begin`."""
    return averaging.begin("boltzmann.init", METRICS, key, config, env)


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an arm from the policy."""
    policy = exploration.boltzmann(state.arms.mean, state.config.temperature)
    return arms.choose(key, policy, obs), {}


def update(state: State, batch: Transition) -> State:
    """(2.3): learn from one pull.

    `entropy` in the metrics is that of the policy after, in nats.
    """
    after = averaging.learn("boltzmann.update", state, batch)
    policy = exploration.boltzmann(after.mean, state.config.temperature)
    return averaging.end_update(state, after, {"entropy": -torch.special.xlogy(policy, policy).sum(dim=-1)})
