"""What a bandit algorithm loses, and what theory says that it must or may lose."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def gaps(means: Tensor) -> Tensor:
    """Return how much less than a best arm each arm pays, Δ_a = max_b μ_b - μ_a.

    Often wrong: a best arm that is drawn at random, or the best average so far. It is the arg-max
    of the true means.

    Args:
        means: `[..., K]` mean reward of each arm.

    Returns:
        `[..., K]`, 0 for every best arm.

    >>> gaps(torch.tensor([0.5, 2.0]))
    tensor([1.5000, 0.0000])
    """
    return means.amax(dim=-1, keepdim=True) - means


def bernoulli_kl(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p, q) = p ln(p / q) + (1 - p) ln((1 - p) / (1 - q)) of two coins, in nats.

    Args:
        p: `[...]` in [0, 1].
        q: `[...]` in [0, 1].

    Returns:
        `[...]`; 0 where p = q, infinite where q is 0 or 1 and p is not.

    >>> bernoulli_kl(torch.tensor([0.5, 0.0]), torch.tensor([0.5, 0.5]))
    tensor([0.0000, 0.6931])
    """
    return torch.where(p == q, 0.0, _surprise(p, q, p - q) + _surprise(1.0 - p, 1.0 - q, q - p))


def _surprise(p: Tensor, q: Tensor, difference: Tensor) -> Tensor:
    """Return p ln(p / q), 0 where p is 0; the difference p - q may be more exact than p and q are."""
    # Where p and q are alike, the two terms of the sum nearly cancel: there the logarithm must come
    # from how far their ratio is from one.
    alike = torch.special.xlog1py(p, difference / q)
    return torch.where(p < 0.5 * q, torch.special.xlogy(p, p / q), alike)


def gaussian_kl(mean: Tensor, other: Tensor, std: float | Tensor) -> Tensor:
    """Return KL = (μ - μ')² / (2 σ²) of two normal distributions with the same σ, in nats.

    Args:
        mean: `[...]` μ.
        other: `[...]` μ'.
        std: σ > 0.

    Returns:
        `[...]`.

    >>> gaussian_kl(torch.tensor(1.0), torch.tensor(4.0), 3.0)
    tensor(0.5000)
    """
    return 0.5 * ((mean - other) / std) ** 2


def lai_robbins(means: Tensor, divergence: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the constant c(μ) with which the regret of any consistent algorithm grows.

    lim inf R_T / ln T ≥ c(μ) = Σ_{a: Δ_a > 0} Δ_a / KL(μ_a, μ*)

    Source: Lai & Robbins 1985, "Asymptotically efficient adaptive allocation rules", theorem 2.
    Often wrong: the arguments of KL exchanged, which asks how the worse arm could look like the best.
    It says nothing about small T: there the regret may lie below c(μ) ln T.

    Args:
        means: `[..., K]` mean reward of each arm; several may be best.
        divergence: KL from the distribution with mean `[..., K]` to the one with mean `[..., 1]`,
            for example `bernoulli_kl`.

    Returns:
        `[...]`; 0 where all arms are equally good.

    >>> lai_robbins(torch.tensor([0.0, 2.0]), lambda mean, other: gaussian_kl(mean, other, 1.0))
    tensor(1.)
    """
    gap = gaps(means)
    cost = gap / divergence(means, means.amax(dim=-1, keepdim=True))
    return torch.where(gap > 0.0, cost, 0.0).sum(dim=-1)


def ucb1_bound(means: Tensor, t: Tensor) -> Tensor:
    """Return what the mean regret of UCB1 cannot exceed after t pulls.

    8 Σ_{a: Δ_a > 0} ln t / Δ_a + (1 + π²/3) Σ_a Δ_a

    Source: Auer, Cesa-Bianchi & Fischer 2002, "Finite-time analysis of the multiarmed bandit
    problem", theorem 1, for rewards in [0, 1].

    Args:
        means: `[..., K]` mean reward of each arm.
        t: `[...]` number of pulls, at least 1; broadcasts with `means[..., 0]`.

    Returns:
        `[...]`.

    >>> ucb1_bound(torch.tensor([0.0, 1.0]), torch.ones(()))
    tensor(4.2899)
    """
    gap = gaps(means)
    slope = torch.where(gap > 0.0, 1.0 / gap, 0.0).sum(dim=-1)
    return 8.0 * slope * torch.log(t) + (1.0 + math.pi**2 / 3.0) * gap.sum(dim=-1)
