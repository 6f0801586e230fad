"""Running mean and variance, merged batch by batch."""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.core import tree


@tree.struct
class Moments:
    """Mean and variance of everything seen so far, element by element."""

    mean: Tensor
    """`[...]`"""
    variance: Tensor
    """`[...]` population variance"""
    count: Tensor
    """`[]` float32, number of samples"""


def moments(shape: tuple[int, ...], device: torch.device | None = None) -> Moments:
    """Return the moments of nothing: mean 0 and variance 1, which leave numbers as they are.

    Args:
        shape: Of one sample.
        device: Where they live.

    >>> moments((2,)).count
    tensor(0.)
    """
    return Moments(
        mean=torch.zeros(shape, dtype=torch.float32, device=device),
        variance=torch.ones(shape, dtype=torch.float32, device=device),
        count=torch.zeros((), dtype=torch.float32, device=device),
    )


def merge_moments(old: Moments, batch: Tensor) -> Moments:
    """Return the moments of old samples and new ones together.

    With δ = mean_new - mean_old and n = n_old + n_new (Chan, Golub & LeVeque 1979, "Updating
    formulae and a pairwise algorithm for computing sample variances", equation 1.5):

        mean = mean_old + δ n_new / n
        n var = n_old var_old + n_new var_new + δ² n_old n_new / n

    Args:
        old: Moments of `[...]` samples.
        batch: `[N, ...]` new samples, N ≥ 1.

    Returns:
        Moments of all of them.

    >>> merge_moments(moments(()), torch.tensor([1.0, 3.0]))
    Moments(mean=tensor(2.), variance=tensor(1.), count=tensor(2.))
    """
    number = float(batch.shape[0])
    count = old.count + number
    new_mean = batch.mean(dim=0)
    new_variance = ((batch - new_mean) ** 2).mean(dim=0)
    delta = new_mean - old.mean
    share = number / count
    variance = (1.0 - share) * old.variance + share * new_variance + delta**2 * share * (1.0 - share)
    return Moments(mean=old.mean + delta * share, variance=variance, count=count)
