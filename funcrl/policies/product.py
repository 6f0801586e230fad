"""Several actions of different kinds at once, each drawn by itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from funcrl.core import random, tree
from funcrl.core.checks import require

Parts = tuple[Any, ...] | dict[str, Any]


@tree.struct
class Product:
    """Independent distributions; an action is a tuple, or a dict, of one action of each."""

    parts: Parts
    """distributions, at least one"""

    def sample(self, key: Tensor) -> Parts:
        """Draw an action of each part."""
        parts = self._list
        keys = random.split(key, len(parts))
        return self._like_parts([part.sample(keys[i]) for i, part in enumerate(parts)])

    def mode(self) -> Parts:
        """Return the most probable action of each part."""
        return self._like_parts([part.mode() for part in self._list])

    def log_prob(self, action: Parts) -> Tensor:
        """Return the sum of the parts' log-probabilities, `[...]`."""
        return _total([part.log_prob(own) for part, own in zip(self._list, self._of(action), strict=True)])

    def entropy(self) -> Tensor:
        """Return the sum of the parts' entropies, `[...]`."""
        return _total([part.entropy() for part in self._list])

    def kl(self, other: Product) -> Tensor:
        """Return KL(self ‖ other), `[...]`, the sum of the parts'."""
        return _total([part.kl(own) for part, own in zip(self._list, self._of(other.parts), strict=True)])

    @property
    def _list(self) -> list[Any]:
        return self._of(self.parts)

    def _of(self, values: Parts) -> list[Any]:
        """Return one value for each part, in the order of the parts."""
        names = sorted(self.parts) if isinstance(self.parts, dict) else list(range(len(self.parts)))
        given = sorted(values) if isinstance(values, dict) else list(range(len(values)))
        require(given == names, "Product", "an action", f"have the parts {names}", given)
        return [values[name] for name in (self.parts if isinstance(self.parts, dict) else names)]  # type: ignore[index]

    def _like_parts(self, values: list[Any]) -> Parts:
        if isinstance(self.parts, dict):
            return dict(zip(self.parts, values, strict=True))
        return tuple(values)


def _total(values: list[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
