"""ε-greedy with sample averages: mostly the arm that paid most on average, sometimes any.

Sutton & Barto 2018, "Reinforcement learning: an introduction", sections 2.2 to 2.4.

    Q_{n+1} = Q_n + (R_n - Q_n) / n                                                    (2.3)
    A = argmax_a Q(a) with probability 1 - ε, ties broken at random; any arm with probability ε

A constant ε never stops exploring: in the long run each pull costs ε times the mean gap, so the
regret grows linearly.
"""

from __future__ import annotations

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

    epsilon: float = 0.1
    """ε: how often any arm is pulled, in [0, 1]"""

    def __post_init__(self) -> None:
        checks.settings(self, "epsilon_greedy.Config", unit=("epsilon",))


@tree.struct
class State:
    """An ε-greedy agent."""

    arms: Averages
    """N and Q of each arm"""
    config: Config
    """its floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""


METRICS = ("value", "greedy_share")


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
        arms=averages.averages(arms.num_arms("epsilon_greedy.init", env), key.device),
        config=beginning.settings(config, key),
        metrics=beginning.no_metrics(METRICS, key),
    )


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Choose an arm.

    Args:
        state: The agent.
        obs: `[]` or `[B]`, not looked at.
        key: `[2]` int32.

    Returns:
        `[]` or `[B]` int64 arm, each drawn by itself, and no extras.
    """
    policy = exploration.epsilon_greedy(state.arms.mean, state.config.epsilon)
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
        The agent after.

    Raises:
        ValueError: When the batch is more than one pull.
    """
    arms.check_pull("epsilon_greedy.update", batch)
    after = averages.update_average(state.arms, batch.action, batch.reward)
    return State(
        arms=after,
        config=state.config,
        metrics={
            "value": after.mean.amax(dim=-1),
            "greedy_share": averages.greedy_share(after),
        },
    )
