"""Statistics over seeds and episodes: what makes a table of results honest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from funcrl.core import random
from funcrl.core.checks import require


def iqm(values: Tensor, dim: int = -1) -> Tensor:
    """Return the interquartile mean: the mean of the middle half.

    The ⌊n/4⌋ smallest and largest values are left out, as `scipy.stats.trim_mean(x, 0.25)` does.

    Source: Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice", section 4.3.

    Args:
        values: `[..., n, ...]`, n at least 1 along `dim`; NaN makes the result NaN.
        dim: Axis of the seeds.

    Returns:
        `values` without `dim`.

    >>> iqm(torch.tensor([0.0, 1.0, 3.0, 100.0]))
    tensor(2.)
    """
    num = values.shape[dim]
    require(num >= 1, "ops.iqm", "values", "hold at least one value", tuple(values.shape))
    cut = num // 4
    middle = values.sort(dim=dim).values.narrow(dim, cut, num - 2 * cut).mean(dim=dim)
    return torch.where(values.isnan().any(dim=dim), torch.nan, middle)


def mean(values: Tensor, dim: int = -1) -> Tensor:
    """Return the mean: where every seed counts, as in a sum of regrets, rather than the typical one.

    Args:
        values: `[..., n, ...]`.
        dim: Axis of the seeds.

    >>> mean(torch.tensor([0.0, 1.0, 5.0]))
    tensor(2.)
    """
    return values.mean(dim=dim)


def bootstrap_interval(
    key: Tensor,
    values: Tensor,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    statistic: Callable[..., Tensor] = iqm,
) -> tuple[Tensor, Tensor]:
    """Return a percentile bootstrap interval of a statistic over seeds, the interquartile mean by default.

    Seeds are drawn with replacement, `num_resamples` times, the same draw for every column.

    Source: Efron & Tibshirani 1993, chapter 13 (percentile intervals); over runs as in
    Agarwal et al. 2021, section 4.1. With fewer than about ten seeds it is too narrow.

    Args:
        key: `[2]` int32.
        values: `[n, ...]`, seeds first.
        confidence: Probability that the interval is meant to cover the truth, in (0, 1).
        num_resamples: Number of bootstrap samples.
        statistic: `iqm` or `mean`, or any function `(values, dim=...)`.

    Returns:
        Lower and upper end, each `[...]`. For one seed both are its value: no spread is known.

    >>> low, high = bootstrap_interval(random.key(0), torch.ones(5))
    >>> float(low), float(high)
    (1.0, 1.0)
    """
    require(0 < confidence < 1, "ops.bootstrap_interval", "confidence", "lie in (0, 1)", confidence)
    num = values.shape[0]
    chosen = random.randint(key, (num_resamples, num), 0, num).to(values.device)
    flat = values.reshape(num, -1)
    tails = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=flat.dtype, device=flat.device)
    # A few columns at a time: a curve of a thousand points would otherwise need gigabytes.
    ends = [
        torch.nanquantile(statistic(columns[chosen], dim=1), tails, dim=0)
        for columns in torch.split(flat, max(1, 4_000_000 // (num_resamples * num)), dim=1)
    ]
    low, high = torch.cat(ends, dim=1).reshape(2, *values.shape[1:])
    return low, high
