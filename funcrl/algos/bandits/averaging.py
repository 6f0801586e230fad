"""What algorithms share that judge each arm by the average of its rewards.

An algorithm's own file says how it chooses among them, and nothing else.

    Q_{n+1} = Q_n + (R_n - Q_n) / n             Sutton & Barto 2018, (2.3)
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from funcrl.algos import beginning
from funcrl.algos.bandits import arms
from funcrl.core import Transition, tree
from funcrl.ops import averages
from funcrl.ops.averages import Averages

LEARNT = ("arms",)

METRICS = ("value", "greedy_share")
"""`value` is the highest average, `greedy_share` the share of all pulls that went to its arm"""


@tree.struct
class State:
    """An agent that counts the pulls and averages the rewards of each arm."""

    arms: Averages
    """N and Q of each arm"""
    config: Any
    """the algorithm's settings; their floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""


def begin(function: str, names: tuple[str, ...], key: Tensor, config: Any, env: object) -> State:
    """Make an agent that has pulled nothing yet.

    Args:
        function: Who complains, `"ucb.init"`.
        names: Of the metrics.
        key: `[2]` int32; says only where everything lives.
        config: Settings; its floats may be numbers or 0-d tensors.
        env: Anything with an `action_space` of K arms and one observation.

    Returns:
        A `State` on the key's device.

    Raises:
        ValueError: When a space is not supported.
    """
    return State(
        arms=averages.averages(arms.num_arms(function, env), key.device),
        config=beginning.settings(config, key),
        metrics=beginning.no_metrics(names, key),
    )


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return the arm that paid most on average."""
    return arms.best(state.arms.mean, obs)


def learn(function: str, state: State, batch: Transition) -> Averages:
    """(2.3): return the averages after one pull.

    Args:
        function: Who complains, `"ucb.update"`.
        state: The agent before.
        batch: One transition, `[]`.

    Raises:
        ValueError: When the batch is more than one pull.
    """
    arms.check_pull(function, batch)
    return averages.update_average(state.arms, batch.action, batch.reward)


def end_update(state: State, after: Averages, figures: dict[str, Tensor]) -> State:
    """Return the agent after a pull.

    Args:
        state: The agent before.
        after: What `learn` returned.
        figures: The algorithm's own metrics, `[]` each.
    """
    shared = {"value": after.mean.amax(dim=-1), "greedy_share": averages.greedy_share(after)}
    return State(arms=after, config=state.config, metrics=shared | figures)
