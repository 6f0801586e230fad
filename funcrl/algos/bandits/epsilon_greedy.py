"""ε-greedy with sample averages: mostly the arm that paid most on average, sometimes any.

Sutton & Barto 2018, "Reinforcement learning: an introduction", sections 2.2 to 2.4.

    Q_{n+1} = Q_n + (R_n - Q_n) / n                                                    (2.3)
    A = argmax_a Q(a) with probability 1 - ε, ties broken at random; any arm with probability ε

A constant ε never stops exploring: in the long run each pull costs ε times the mean gap, so the
regret grows linearly.
"""

from __future__ import annotations

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

    epsilon: float = 0.1
    """ε: how often any arm is pulled, in [0, 1]"""

    def __post_init__(self) -> None:
        checks.settings(self, "epsilon_greedy.Config", unit=("epsilon",))


METRICS = averaging.METRICS


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent that has pulled nothing yet, see `averaging.begin`."""
    return averaging.begin("epsilon_greedy.init", METRICS, key, config, env)


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Choose an arm."""
    policy = exploration.epsilon_greedy(state.arms.mean, state.config.epsilon)
    return arms.choose(key, policy, obs), {}


def update(state: State, batch: Transition) -> State:
    """(2.3): learn from one pull."""
    after = averaging.learn("epsilon_greedy.update", state, batch)
    return averaging.end_update(state, after, {})
