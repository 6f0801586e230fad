"""Actions in an array of their own shape, where a distribution has them in a row."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from funcrl.core import tree
from funcrl.core.checks import require
from funcrl.policies.protocol import Distribution


@tree.struct
class Reshaped:
    """A distribution whose actions are arranged in another shape."""

    inner: Any
    """a distribution over `[..., D]`"""
    shape: tuple[int, ...] = tree.static()
    """of an action, with D elements"""

    def sample(self, key: Tensor) -> Tensor:
        """Draw an action, `[..., *shape]`."""
        return self._arrange(self.inner.sample(key))

    def mode(self) -> Tensor:
        """Return the most probable action, `[..., *shape]`."""
        return self._arrange(self.inner.mode())

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the logarithm of an action's probability, or density, `[...]`."""
        leading = action.shape[: action.ndim - len(self.shape)]
        found = tuple(action.shape[len(leading) :])
        require(found == self.shape, "Reshaped.log_prob", "action", f"end with shape {self.shape}", found)
        return self.inner.log_prob(action.reshape((*leading, math.prod(self.shape))))  # type: ignore[no-any-return]

    def entropy(self) -> Tensor:
        """Return the entropy, `[...]`."""
        return self.inner.entropy()  # type: ignore[no-any-return]

    def kl(self, other: Reshaped) -> Tensor:
        """Return KL(self ‖ other), `[...]`."""
        return self.inner.kl(other.inner)  # type: ignore[no-any-return]

    def masked(self, valid: Tensor) -> Reshaped:
        """Return the distribution of valid actions alone, see `MultiCategorical.masked`."""
        return Reshaped(self.inner.masked(valid), self.shape)

    def _arrange(self, row: Tensor) -> Tensor:
        return row.reshape((*row.shape[:-1], *self.shape))


def arranged(inner: Distribution, shape: tuple[int, ...]) -> Distribution:
    """Return a distribution over `[..., D]` with actions of a shape."""
    return inner if len(shape) == 1 else Reshaped(inner, shape)
