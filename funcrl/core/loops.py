"""Loops without loops: prefix sums and linear recurrences in a logarithmic number of rounds.

Unrolling a recurrence over time makes a graph that is as long as the time; a compiler chokes on it.
The doubling scheme of Hillis & Steele (1986, "Data parallel algorithms") does it in ⌈log₂ T⌉ rounds
of whole-tensor operations, which compile quickly and `vmap`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _shift(x: Tensor, by: int, fill: float) -> Tensor:
    """Move rows of the first axis down by `by`, filling the top with a constant."""
    return torch.cat([torch.full_like(x[:by], fill), x[:-by]])


def prefix_sum(x: Tensor, dim: int = 0) -> Tensor:
    """Return the inclusive cumulative sum along `dim`, as `torch.cumsum` does.

    >>> prefix_sum(torch.tensor([1.0, 2.0, 3.0]))
    tensor([1., 3., 6.])
    """
    x = x.movedim(dim, 0)
    reach = 1
    while reach < x.shape[0]:
        x = x + _shift(x, reach, 0.0)
        reach *= 2
    return x.movedim(0, dim)


def linear_recurrence(factor: Tensor, term: Tensor, *, reverse: bool = False) -> Tensor:
    """Solve x_t = term_t + factor_t · x_{t-1} along the first axis, starting from x_{-1} = 0.

    Composing two steps of the recurrence gives one step of the same form, with factor
    f_t · f_{t-1} and term b_t + f_t · b_{t-1}; every round doubles the number of steps composed.

    Args:
        factor: `[T, ...]`.
        term: `[T, ...]`, of the same shape.
        reverse: Solve x_t = term_t + factor_t · x_{t+1} from the end instead.

    Returns:
        `[T, ...]`.

    >>> linear_recurrence(torch.full((3,), 0.5), torch.ones(3))
    tensor([1.0000, 1.5000, 1.7500])
    """
    if reverse:
        return linear_recurrence(factor.flip(0), term.flip(0)).flip(0)
    reach = 1
    while reach < term.shape[0]:
        term = term + factor * _shift(term, reach, 0.0)
        factor = factor * _shift(factor, reach, 1.0)
        reach *= 2
    return term
