"""Dueling networks: Q(s, a) from the value of the state and the advantage of the action.

Wang et al. 2016, "Dueling network architectures for deep reinforcement learning", arXiv 1511.06581.

    Q(s, a) = V(s) + (A(s, a) - max_a' A(s, a'))                                               (8)
    Q(s, a) = V(s) + (A(s, a) - (1 / |A|) Σ_a' A(s, a'))                                       (9)

A network, not a target (one of your own, `network`, must be dueling itself): it learns with that of
Double DQN, as in the paper. The paper's scaling of the gradient where the two streams meet is left
out; its clipping of the gradient is `max_grad_norm=10`.
"""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from torch import Tensor, nn

from funcrl import nets
from funcrl.algos.deep_q import agent, double_dqn
from funcrl.algos.deep_q.agent import LEARNT, METRICS, State, act, greedy
from funcrl.algos.deep_q.settings import SHARES_OF_THE_RUN, ErrorSettings
from funcrl.core import ReplayBatch, checks, tree

__all__ = [
    "LEARNT",
    "LOOP",
    "METRICS",
    "SHARES_OF_THE_RUN",
    "Config",
    "State",
    "act",
    "greedy",
    "init",
    "update",
]

LOOP = "off_policy"


@tree.struct
class Config(ErrorSettings):
    """Settings of dueling networks."""

    aggregation: str = tree.static(default="mean")
    """mean, (9), or max, (8): what is subtracted from the advantages"""

    def __post_init__(self) -> None:
        super().__post_init__()
        hold = "hold two widths at least, the last that of the two streams"
        checks.require(
            self.network is not None or len(self.hidden) >= 2,
            "dueling_dqn.Config",
            "hidden",
            hold,
            self.hidden,
        )
        checks.known("dueling_dqn.Config", "aggregation", self.aggregation, nets.AGGREGATIONS)


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    return agent.begin("dueling_dqn.init", key, config, env, describe=_network)


def update(state: State, batch: ReplayBatch) -> State:
    """Take one gradient step towards Double DQN's target."""
    agent.check_batch("dueling_dqn.update", state, batch)
    goal = double_dqn.goal(state, batch)
    return agent.descend_towards(state, batch, goal)


def _network(config: Config, space: spaces.Space[Any], num_actions: int) -> nn.Module:
    return nets.dueling(
        space,
        config.channels,
        config.hidden,
        num_actions,
        stride=config.stride,
        activation=config.activation,
        aggregation=config.aggregation,
    )
