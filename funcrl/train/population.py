"""Population-based training: settings that change while lanes learn (Jaderberg et al. 2017, arXiv:1711.09846).

Every so often each lane that is among the worst takes over everything that one of the best has learnt, which is a gather over
lanes, and goes on with that one's settings, changed a little. So a population finds not one setting but a schedule of them, in
the time of one training. All functions are pure; `search` puts them to work on runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from funcrl.core import random
from funcrl.core.checks import require


@dataclass(frozen=True)
class Range:
    """Where a number may lie."""

    low: float
    high: float
    log: bool = False
    """whether factors count, and not differences"""

    def __post_init__(self) -> None:
        finite = math.isfinite(self.low) and math.isfinite(self.high)
        require(
            finite and self.low < self.high,
            "Range",
            "low",
            "be below high, both finite",
            (self.low, self.high),
        )
        hold = "be above 0 where factors count"
        require(not self.log or self.low > 0, "Range", "low", hold, self.low)

    def at(self, places: Tensor) -> Tensor:
        """Return the numbers at places from 0, the low end, to 1.

        >>> Range(1e-4, 1e-2, log=True).at(torch.tensor([0.0, 0.5, 1.0]))
        tensor([1.0000e-04, 1.0000e-03, 1.0000e-02])
        """
        if not self.log:
            return self.low + (self.high - self.low) * places
        low, high = math.log(self.low), math.log(self.high)
        return torch.exp(low + (high - low) * places).clamp(self.low, self.high)


Values = dict[str, Tensor]
"""By name of what is searched, a number a lane, `[P]` each."""


def draw(key: Tensor, ranges: Mapping[str, Range], count: int) -> Values:
    """Return settings drawn from all of their ranges, `[count]` each.

    Args:
        key: `[2]` int32.
        ranges: By name.
        count: P.
    """
    keys = random.split(key, max(1, len(ranges)))
    return {
        name: where.at(random.uniform(keys[number], (count,)))
        for number, (name, where) in enumerate(ranges.items())
    }


def exploit(key: Tensor, scores: Tensor, share: float = 0.2) -> Tensor:
    """Return from which lane each goes on: the worst from one of the best, drawn for each; all others from themselves.

    Truncation selection, section 4.1 of the paper.

    Args:
        key: `[2]` int32.
        scores: `[P]`; one that is not finite is the worst.
        share: Of the lanes, how many are among the worst and how many among the best; one at least.

    Returns:
        `[P]` int64.

    >>> exploit(random.key(0), torch.tensor([5.0, 1.0, 3.0, torch.nan, 2.0]))
    tensor([0, 1, 2, 0, 4])
    """
    count = scores.shape[0]
    moved = min(max(1, int(share * count)), count // 2)
    order = torch.where(scores.isfinite(), scores, -torch.inf).argsort(descending=True, stable=True)
    best, worst = order[:moved], order[count - moved :]
    parents = torch.arange(count, dtype=torch.int64, device=scores.device)
    parents[worst] = best[random.randint(key, (moved,), 0, moved).to(torch.int64)]
    return parents


def explore(
    key: Tensor,
    values: Values,
    ranges: Mapping[str, Range],
    parents: Tensor,
    factor: float = 1.2,
    resample: float = 0.25,
) -> Values:
    """Return the settings with which lanes go on: of those that have moved, their parent's, changed.

    Each is drawn anew with some probability, else multiplied by the factor or divided by it (the paper's 1.2 and 0.8, but
    such that one undoes the other), within its range.

    Args:
        key: `[2]` int32.
        values: `[P]` each.
        ranges: By name.
        parents: `[P]` what `exploit` returned.
        factor: How much a number changes.
        resample: Probability of a new one.
    """
    k_new, k_which, k_sign = random.split(key, 3)
    moved = parents != torch.arange(len(parents), dtype=torch.int64, device=parents.device)
    fresh, changed = draw(k_new, ranges, len(parents)), {}
    for number, (name, where) in enumerate(ranges.items()):
        kept = values[name][parents]
        up = random.bernoulli(random.fold_in(k_sign, number), 0.5, tuple(kept.shape))
        turned = torch.where(up, kept * factor, kept / factor).clamp(where.low, where.high)
        anew = random.bernoulli(random.fold_in(k_which, number), resample, tuple(kept.shape))
        changed[name] = torch.where(moved, torch.where(anew, fresh[name], turned), kept)
    return changed
