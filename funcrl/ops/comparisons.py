"""Statistics that compare algorithms over seeds and tasks (Agarwal et al. 2021).

Runs are `[n, m]`: n seeds of m tasks, each task's returns on a scale that tasks share.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from funcrl.core import random
from funcrl.core.batching import vmap
from funcrl.core.checks import require
from funcrl.ops.statistics import iqm


def median(values: Tensor, dim: int = -1) -> Tensor:
    """Return the median, of an even number of values the mean of the middle two.

    Over few seeds it is a poor summary: half of what is known does not count
    (Agarwal et al. 2021, section 4.3).

    Args:
        values: `[..., n, ...]`; NaN makes the result NaN.
        dim: Axis of the seeds.

    >>> median(torch.tensor([1.0, 2.0, 10.0, 4.0]))
    tensor(3.)
    """
    num = values.shape[dim]
    require(num >= 1, "ops.median", "values", "hold at least one value", tuple(values.shape))
    ordered = values.sort(dim=dim).values
    middle = (ordered.select(dim, (num - 1) // 2) + ordered.select(dim, num // 2)) / 2
    return torch.where(values.isnan().any(dim=dim), torch.nan, middle)


def optimality_gap(values: Tensor, target: float, dim: int = -1) -> Tensor:
    """Return by how much runs fall short of a target on average; what lies above it does not count.

        gap = 1/n Σᵢ max(target - xᵢ, 0)

    Source: Agarwal et al. 2021, section 4.3.

    Args:
        values: `[..., n, ...]`.
        target: What is good enough.
        dim: Axis of the seeds.

    >>> optimality_gap(torch.tensor([400.0, 500.0, 600.0]), target=500.0)
    tensor(33.3333)
    """
    return (target - values).clamp(min=0).mean(dim=dim)


def performance_profile(values: Tensor, thresholds: Tensor) -> Tensor:
    """Return which share of all runs earns more than each threshold, from 1 down to 0.

    Source: Agarwal et al. 2021, section 4.2 (run-score distributions). Where one profile lies above
    another everywhere, its algorithm is better whatever threshold one cares for.

    Args:
        values: `[n]` or `[n, m]`.
        thresholds: `[K]`.

    Returns:
        `[K]`.

    >>> performance_profile(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.0, 2.0, 9.0]))
    tensor([1.0000, 0.5000, 0.0000])
    """
    return (values.reshape(-1, 1) > thresholds).to(values.dtype).mean(dim=0)


def probability_of_improvement(values: Tensor, others: Tensor) -> Tensor:
    """Return how probably a run of one algorithm is better than a run of another on the same task.

        P = 1/(n k) Σᵢ Σⱼ ( [xᵢ > yⱼ] + ½ [xᵢ = yⱼ] ),  averaged over tasks

    It is U / (n k) of Mann & Whitney (1947). It says how often, not by how much.

    Source: Agarwal et al. 2021, section 4.3.

    Args:
        values: `[n]` or `[n, m]`.
        others: `[k]` or `[k, m]`.

    Returns:
        `[]` in [0, 1]; 0.5 where they are equally good.

    >>> probability_of_improvement(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 3.0]))
    tensor(0.6250)
    """
    x, y = values.reshape(len(values), 1, -1), others.reshape(1, len(others), -1)
    hold, found = "be of the same tasks", (x.shape[-1], y.shape[-1])
    require(found[0] == found[1], "ops.probability_of_improvement", "values and others", hold, found)
    return ((x > y).to(values.dtype) + 0.5 * (x == y).to(values.dtype)).mean()


def stratified_interval(
    key: Tensor,
    samples: list[Tensor],
    statistic: Callable[..., Tensor] | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
) -> tuple[Tensor, Tensor]:
    """Return a percentile bootstrap interval in which every task's seeds are drawn apart from the others'.

    Source: Agarwal et al. 2021, section 4.1 and appendix A.4 (stratified bootstrap).

    Args:
        key: `[2]` int32.
        samples: `[n, m]` runs each: of one algorithm, or of two that a statistic compares. In `[n]` there
            is one task.
        statistic: From one resample of each of `samples`, of the same shapes, to a number; the interquartile
            mean over all runs and tasks by default.
        confidence: Probability that the interval is meant to cover the truth, in (0, 1).
        num_resamples: Number of bootstrap samples.

    Returns:
        Lower and upper end, `[]` each.

    >>> low, high = stratified_interval(random.key(0), [torch.ones(5, 3)])
    >>> float(low), float(high)
    (1.0, 1.0)
    """
    require(0 < confidence < 1, "ops.stratified_interval", "confidence", "lie in (0, 1)", confidence)
    statistic = (lambda values: iqm(values.flatten())) if statistic is None else statistic
    resamples = []
    for k_sample, values in zip(random.split(key, len(samples)), samples, strict=True):
        runs = values.reshape(len(values), -1)
        shape = (num_resamples, *runs.shape)
        chosen = random.randint(k_sample, shape, 0, len(runs)).to(runs.device)
        resamples.append(runs.expand(shape).gather(1, chosen).reshape(num_resamples, *values.shape))
    found = vmap(statistic)(*resamples)
    tails = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=found.dtype, device=found.device)
    low, high = torch.quantile(found, tails)
    return low, high
