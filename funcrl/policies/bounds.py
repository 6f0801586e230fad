"""Where bounded actions are scaled: each dimension's middle and half its width."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST = torch.finfo(torch.float32).max
"""A bound of this magnitude is written where there is none, as an infinite one is."""


@dataclass(frozen=True)
class Bounds:
    """Least and greatest value of D numbers; part of the program."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def finite(self) -> tuple[bool, ...]:
        """Whether a dimension is bounded on both sides.

        >>> Bounds((-1.0, 0.0), (1.0, float("inf"))).finite
        (True, False)
        """
        return tuple(a > -LARGEST and b < LARGEST for a, b in zip(self.low, self.high, strict=True))

    def middle(self, like: Tensor) -> Tensor:
        """Return ½ (low + high), 0 where a dimension is not bounded on both sides, `[D]`.

        >>> Bounds((0.0, 0.0), (1.0, float("inf"))).middle(torch.zeros(()))
        tensor([0.5000, 0.0000])
        """
        pairs = zip(self.low, self.high, self.finite, strict=True)
        return _tensor([0.5 * (a + b) if fine else 0.0 for a, b, fine in pairs], like)

    def half_width(self, like: Tensor) -> Tensor:
        """Return ½ (high - low), 1 where a dimension is not bounded on both sides, `[D]`.

        >>> Bounds((0.0, 0.0), (1.0, float("inf"))).half_width(torch.zeros(()))
        tensor([0.5000, 1.0000])
        """
        return _tensor(self._half_widths(), like)

    def log_half_width(self, like: Tensor) -> Tensor:
        """Return log of `half_width`, `[D]`."""
        return _tensor([math.log(width) for width in self._half_widths()], like)

    def clip(self, x: Tensor) -> Tensor:
        """Return numbers within the bounds, `[..., D]`."""
        return torch.clamp(x, _tensor(self.low, x), _tensor(self.high, x))

    @property
    def usual(self) -> bool:
        """Whether nothing is to be scaled: each dimension lies in ±1, or is not bounded.

        >>> Bounds((-1.0,), (1.0,)).usual
        True
        """
        sides = zip(self.low, self.high, self.finite, strict=True)
        return all((low, high) == (-1.0, 1.0) or not fine for low, high, fine in sides)

    def _half_widths(self) -> list[float]:
        pairs = zip(self.low, self.high, self.finite, strict=True)
        return [0.5 * (b - a) if fine else 1.0 for a, b, fine in pairs]


def _tensor(values: list[float] | tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)
