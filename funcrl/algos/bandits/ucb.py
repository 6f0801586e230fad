"""Upper confidence bounds: pull the arm that may be the best one, as far as one can know.

Auer, Cesa-Bianchi & Fischer 2002, "Finite-time analysis of the multiarmed bandit problem", figure 1.
Hoeffding's inequality: the average of N rewards in a range of width w lies more than u below their
mean with probability at most p = exp(-2 N u² / w²). With p = t^(-x) that is

    U_t(a) = w √(x ln t / (2 N(a)))
    A = argmax_a Q(a) + U_t(a), arms that have not been pulled first, ties broken at random

where t counts the pulls so far. x = 4 is UCB1, √(2 ln t / N); x = 1 is the bound with p = 1 / t, which
explores less, and for which theorem 1 proves nothing.

Often wrong: a bonus for rewards in [0, 1] where they are not. Then `width` must be the width of
their range, or 2σ for normal rewards of standard deviation σ, whose tails obey the same inequality.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.algos.bandits import arms, averaging
from funcrl.algos.bandits.averaging import LEARNT, State, greedy
from funcrl.core import Transition, checks, tree
from funcrl.ops import averages, exploration
from funcrl.ops.averages import Averages

__all__ = ["DEFAULT_STEPS", "LEARNT", "LOOP", "METRICS", "Config", "State", "act", "greedy", "init", "update"]

DEFAULT_STEPS = arms.DEFAULT_STEPS
LOOP = "online"


@tree.struct
class Config:
    """Settings; the defaults are UCB1."""

    exponent: float = 4.0
    """x: how fast the allowed probability t^(-x) of being wrong falls; 4 for UCB1"""
    width: float = 1.0
    """w: largest reward less smallest reward"""

    def __post_init__(self) -> None:
        checks.settings(self, "ucb.Config", not_negative=("exponent", "width"))


METRICS = (*averaging.METRICS, "bonus")


def bonus(count: Tensor, t: Tensor, exponent: Tensor, width: Tensor) -> Tensor:
    """Return U_t = w √(x ln t / (2 N)).

    Args:
        count: `[...]` N, how often an arm was pulled.
        t: `[]` how often any arm was pulled.
        exponent: `[]` x.
        width: `[]` w.

    Returns:
        `[...]`; infinite where an arm has not been pulled.

    >>> one = torch.ones(())
    >>> bonus(torch.tensor([0.0, 2.0]), torch.exp(one), 4 * one, one).round(decimals=4)
    tensor([inf, 1.])
    """
    known = width * torch.sqrt(exponent * torch.log(t) / (2.0 * count))
    return torch.where(count > 0.0, known, torch.inf)


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent that has pulled nothing yet, see `averaging.begin`."""
    return averaging.begin("ucb.init", METRICS, key, config, env)


def _bonus(config: Config, known: Averages) -> Tensor:
    t = known.count.sum(dim=-1)
    return bonus(known.count, t, config.exponent, config.width)  # type: ignore[arg-type]


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Choose an arm of the highest upper confidence bound.

    Ties are broken by chance.
    """
    bound = state.arms.mean + _bonus(state.config, state.arms)
    return arms.choose(key, exploration.greedy_probabilities(bound), obs), {}


def update(state: State, batch: Transition) -> State:
    """Learn from one pull.

    `bonus` in the metrics is that of the arm just pulled.
    """
    after = averaging.learn("ucb.update", state, batch)
    pulled = averages.is_arm(batch.action, after.count.shape[-1])
    return averaging.end_update(
        state, after, {"bonus": torch.where(pulled, _bonus(state.config, after), 0.0).sum(dim=-1)}
    )
