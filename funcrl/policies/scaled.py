"""Where agents that act in ±1 meet an environment whose actions have other bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core.checks import require
from funcrl.core.spaces import dtype
from funcrl.policies.bounds import Bounds
from funcrl.policies.choice import for_space
from funcrl.policies.heads import Squashed


@dataclass(frozen=True)
class ScaledActions:
    """Actions of a bounded Box, and what they are in ±1, in a row of D numbers."""

    bounds: Bounds
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    """of the environment's actions"""

    @property
    def size(self) -> int:
        """D."""
        return math.prod(self.shape)

    @property
    def unit(self) -> Bounds:
        """±1 in each of D dimensions."""
        return Bounds((-1.0,) * self.size, (1.0,) * self.size)

    def of_unit(self, unit: Tensor) -> Tensor:
        """Return an action of the environment, `[..., *shape]`.

        Args:
            unit: `[..., D]` in ±1.

        >>> ScaledActions(Bounds((0.0,), (4.0,)), (1,)).of_unit(Tensor([0.5]))
        tensor([3.])
        """
        bounds = self.bounds
        # The middle and half the width may round to a sum just beyond a bound.
        row = bounds.clip(bounds.middle(unit) + bounds.half_width(unit) * unit)
        return row.reshape(*unit.shape[:-1], *self.shape).to(self.dtype)

    def to_unit(self, action: Tensor) -> Tensor:
        """Return what an action of the environment is in ±1, `[..., D]` float32.

        Args:
            action: `[..., *shape]`, within the bounds.

        >>> ScaledActions(Bounds((0.0,), (4.0,)), (1,)).to_unit(Tensor([3.0]))
        tensor([0.5000])
        """
        row = action.reshape(*action.shape[: action.ndim - len(self.shape)], self.size).to(torch.float32)
        return (row - self.bounds.middle(row)) / self.bounds.half_width(row)


def scaled_actions(function: str, space: spaces.Space[object], instead: str) -> ScaledActions:
    """Return how actions of a space are scaled.

    Args:
        function: Who complains, `"sac.init"`.
        space: A Box of floats, bounded on both sides in every dimension.
        instead: What to do where it is no Box.

    Raises:
        ValueError: When it is another space, or has no bounds.
    """
    require(isinstance(space, spaces.Box), function, "env.action_space", "be a Box", space, instead)
    head = for_space(function, space, Squashed)
    assert isinstance(head, Squashed)
    return ScaledActions(head.bounds, head.shape, dtype(space))
