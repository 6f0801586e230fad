"""Number of pulls and average reward of each of K arms, pull by pull."""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.core import tree


@tree.struct
class Averages:
    """Number of pulls and average reward of each arm."""

    count: Tensor
    """`[K]` float32; whole numbers, exact up to 2²⁴"""
    mean: Tensor
    """`[K]` float32, 0 where an arm has not been pulled"""


def averages(num_arms: int, device: torch.device | None = None) -> Averages:
    """Return the averages before the first pull.

    Args:
        num_arms: K.
        device: Where they live.

    >>> averages(2).mean
    tensor([0., 0.])
    """
    return Averages(
        count=torch.zeros(num_arms, dtype=torch.float32, device=device),
        mean=torch.zeros(num_arms, dtype=torch.float32, device=device),
    )


def is_arm(arm: Tensor, num_arms: int) -> Tensor:
    """Return which of the arms is the one that was pulled.

    Args:
        arm: `[...]` int64.
        num_arms: K.

    Returns:
        `[..., K]` boolean.

    >>> is_arm(torch.tensor(1), 2)
    tensor([False,  True])
    """
    return torch.arange(num_arms, device=arm.device) == arm.unsqueeze(-1)


def update_average(old: Averages, arm: Tensor, reward: Tensor) -> Averages:
    """Return the averages after one more pull, N ← N + 1 and Q ← Q + (R - Q) / N for its arm.

    Source: Sutton & Barto 2018, equation 2.3.

    Args:
        old: Averages before.
        arm: `[]` int64, the arm that was pulled.
        reward: `[]` what it paid.

    >>> update_average(Averages(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])), torch.tensor(1), 3.0)
    Averages(count=tensor([0., 2.]), mean=tensor([0., 2.]))
    """
    pulled = is_arm(arm, old.count.shape[-1])
    count = old.count + pulled.to(old.count.dtype)
    # Only the pulled arm's quotient is taken, and its count is at least 1.
    return Averages(count=count, mean=torch.where(pulled, old.mean + (reward - old.mean) / count, old.mean))


def greedy_share(arms: Averages) -> Tensor:
    """Return the share of all pulls that went to the arm that looks best now, `[]`.

    Args:
        arms: Averages after at least one pull.

    >>> greedy_share(Averages(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 5.0])))
    tensor(0.7500)
    """
    looks_best = is_arm(arms.mean.argmax(dim=-1), arms.mean.shape[-1])
    return torch.where(looks_best, arms.count, 0.0).sum(dim=-1) / arms.count.sum(dim=-1)
