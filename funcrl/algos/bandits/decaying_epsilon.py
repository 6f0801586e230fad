"""ε_t-greedy: exploration that falls as 1 / t, so that the regret grows only as ln t.

Auer, Cesa-Bianchi & Fischer 2002, "Finite-time analysis of the multiarmed bandit problem", figure 3.

    ε_t = min(1, c K / (d² t)),   t = 1, 2, …
    A_t = any arm with probability ε_t, the one with the highest average so far otherwise

Theorem 3 needs c > 5 and 0 < d ≤ the smallest gap: who does not know the gap cannot choose d. A d that
is too large stops exploring too early, and some lanes then keep to the wrong arm.

One departure: ties are broken at random.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.algos.bandits import arms, averaging
from funcrl.algos.bandits.averaging import LEARNT, State, greedy
from funcrl.core import Transition, checks, tree
from funcrl.ops import exploration
from funcrl.ops.averages import Averages

__all__ = ["DEFAULT_STEPS", "LEARNT", "LOOP", "METRICS", "Config", "State", "act", "greedy", "init", "update"]

DEFAULT_STEPS = arms.DEFAULT_STEPS
LOOP = "online"


@tree.struct
class Config:
    """Settings; the defaults suit the ten coins of `BernoulliBandit-v0`, whose smallest gap is 0.05."""

    c: float = 0.1
    """c: how long to explore; the paper's experiments use 0.05 to 0.2, far from the theorem's 5"""
    d: float = 0.05
    """d: a guess of the smallest gap between the best arm and another, in (0, 1]"""

    def __post_init__(self) -> None:
        checks.settings(self, "decaying_epsilon.Config", not_negative=("c",))
        checks.number("decaying_epsilon.Config", "d", self.d, 0, 1, open_low=True)


METRICS = (*averaging.METRICS, "epsilon")


def epsilon(c: Tensor, d: Tensor, num_arms: int, t: Tensor) -> Tensor:
    """Return ε_t = min(1, c K / (d² t)).

    Args:
        c: `[]`.
        d: `[]` in (0, 1].
        num_arms: K.
        t: `[...]` number of the pull, from 1 on.

    Returns:
        `[...]`.

    >>> epsilon(torch.tensor(0.5), torch.tensor(0.5), 2, torch.tensor([1.0, 16.0]))
    tensor([1.0000, 0.2500])
    """
    return torch.clamp(c * float(num_arms) / (d**2 * t), max=1.0)


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent that has pulled nothing yet, see `averaging.begin`."""
    return averaging.begin("decaying_epsilon.init", METRICS, key, config, env)


def _epsilon(config: Config, before: Averages) -> Tensor:
    """Return ε of the pull that comes after those that are counted."""
    t = before.count.sum(dim=-1) + 1.0
    return epsilon(config.c, config.d, before.count.shape[-1], t)  # type: ignore[arg-type]


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Choose an arm."""
    policy = exploration.epsilon_greedy(state.arms.mean, _epsilon(state.config, state.arms))
    return arms.choose(key, policy, obs), {}


def update(state: State, batch: Transition) -> State:
    """Learn from one pull.

    `epsilon` in the metrics is the ε_t of this pull.
    """
    after = averaging.learn("decaying_epsilon.update", state, batch)
    return averaging.end_update(state, after, {"epsilon": _epsilon(state.config, state.arms)})
