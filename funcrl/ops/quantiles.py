"""Quantile regression: many quantiles against many goals, with a gradient that is written out.

There is a loss for each pair, so that what differentiating keeps of each would fill the memory: on the CPU compiled
programs run an operator that keeps nothing, elsewhere the definition is run.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from funcrl.core import operators
from funcrl.ops.values import quantile_huber


def quantile_regression(quantiles: Tensor, goals: Tensor, threshold: float | Tensor) -> Tensor:
    """Return how far M quantiles are from those of K goals: each one's mean of ρ_τ over the goals, τ_m = (2m - 1) / 2M.

    (1 / K) Σ_k ρ_τm(y_k - θ_m)

    Its derivative by θ_m is -(1 / K) Σ_k |τ_m - 1{u < 0}| L_κ'(u), u = y_k - θ_m; goals are taken as given.

    Source: Dabney et al. 2018, arXiv 1710.10044, algorithm 1.

    Args:
        quantiles: `[..., M]` θ.
        goals: `[..., K]` y, with the same axes in front or fewer.
        threshold: κ ≥ 0, see `quantile_huber`.

    Returns:
        `[..., M]`, at least 0.

    >>> quantile_regression(torch.zeros(2), torch.tensor([4.0, -4.0]), 0.0)
    tensor([2., 2.])
    """
    theta, leading = quantiles.detach(), quantiles.shape[:-1]
    goals = goals.detach().expand(*leading, goals.shape[-1])
    threshold = torch.as_tensor(threshold, dtype=theta.dtype, device=theta.device).expand(leading)
    own = theta.device.type == "cpu" and theta.dtype == torch.float32
    run: Any = torch.ops.funcrl.quantile_regression if own else _definition
    loss, slope = run(theta.contiguous(), goals.contiguous(), threshold.contiguous()).unbind(dim=0)
    # The loss, with the derivative that it has.
    return loss + slope * (quantiles - theta)  # type: ignore[no-any-return]


def _definition(quantiles: Tensor, goals: Tensor, threshold: Tensor) -> Tensor:
    """Quantiles `[*B, M]`, goals `[*B, K]`, threshold `[*B]`; `[2, *B, M]` losses and their derivatives."""
    count = quantiles.shape[-1]
    level = (torch.arange(count, dtype=quantiles.dtype, device=quantiles.device) + 0.5) / float(count)
    level, threshold = level.unsqueeze(-1), threshold.unsqueeze(-1).unsqueeze(-1)
    error = goals.unsqueeze(-2) - quantiles.unsqueeze(-1)
    clipped = torch.clamp(error, -threshold, threshold)
    slope = torch.where(threshold > 0, clipped, error.sign())
    weighted = torch.where(error < 0, 1.0 - level, level) * slope
    return torch.stack([quantile_huber(error, level, threshold).mean(dim=-1), -weighted.mean(dim=-1)])


def _empty(quantiles: Tensor, goals: Tensor, threshold: Tensor) -> Tensor:
    return quantiles.new_empty((2, *quantiles.shape))


def _map(info: Any, in_dims: Any, *tensors: Tensor) -> Any:
    size = info.batch_size
    led = [
        x.expand(size, *x.shape) if axis is None else x.movedim(axis, 0)
        for x, axis in zip(tensors, in_dims, strict=True)
    ]
    return torch.ops.funcrl.quantile_regression(*[x.contiguous() for x in led]), 1


operators.add(
    "quantile_regression(Tensor quantiles, Tensor goals, Tensor threshold) -> Tensor",
    _definition,
    _empty,
    _map,
)
