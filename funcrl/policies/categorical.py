"""One choice among several, and several such choices at once."""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl import ops
from funcrl.core import random, tree
from funcrl.core.checks import require


@tree.struct
class Categorical:
    """One of A actions; a logit of -inf rules one out.

    >>> Categorical(torch.tensor([0.0, 1.0])).mode()
    tensor(1)
    """

    logits: Tensor
    """`[..., A]` unnormalised log-probabilities"""
    start: int = tree.static(default=0)
    """number of the first action"""

    def sample(self, key: Tensor) -> Tensor:
        """Draw an action, `[...]` int64 in [start, start + A)."""
        return self._numbered(random.categorical(key, self.logits))

    def mode(self) -> Tensor:
        """Return the most probable action, the first of several, `[...]` int64."""
        return self._numbered(self.logits.argmax(dim=-1))

    def log_prob(self, action: Tensor) -> Tensor:
        """Return log p(action), `[...]`."""
        shape, found = tuple(self.logits.shape[:-1]), tuple(action.shape)
        require(found == shape, "Categorical.log_prob", "action", f"have shape {shape}", found)
        return ops.categorical_log_prob(self.logits, action - self.start if self.start else action)

    def entropy(self) -> Tensor:
        """Return the entropy, `[...]` in [0, log A]."""
        return ops.categorical_entropy(self.logits)

    def kl(self, other: Categorical) -> Tensor:
        """Return KL(self ‖ other), `[...]`."""
        return ops.categorical_kl(self.logits, other.logits)

    def masked(self, valid: Tensor) -> Categorical:
        """Return the distribution of valid actions alone, `valid` is `[..., A]` boolean."""
        return Categorical(torch.where(valid, self.logits, -torch.inf), self.start)

    def _numbered(self, index: Tensor) -> Tensor:
        return index + self.start if self.start else index


@tree.struct
class MultiCategorical:
    """K independent choices; where one has fewer than A actions, -inf stands for those that it lacks.

    >>> MultiCategorical(torch.tensor([[0.0, 1.0], [2.0, 1.0]])).mode()
    tensor([1, 0])
    """

    logits: Tensor
    """`[..., K, A]` unnormalised log-probabilities"""
    start: tuple[int, ...] = tree.static(default=())
    """number of the first action of each choice; empty: 0 everywhere"""
    counts: tuple[int, ...] = tree.static(default=())
    """actions of each choice, which masks need to know"""

    def sample(self, key: Tensor) -> Tensor:
        """Draw K actions, `[..., K]` int64."""
        return self._numbered(random.categorical(key, self.logits), 1)

    def mode(self) -> Tensor:
        """Return the most probable action of each choice, the first of several, `[..., K]` int64."""
        return self._numbered(self.logits.argmax(dim=-1), 1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Return Σ log p(action), `[...]`."""
        shape, found = tuple(self.logits.shape[:-1]), tuple(action.shape)
        require(found == shape, "MultiCategorical.log_prob", "action", f"have shape {shape}", found)
        return ops.categorical_log_prob(self.logits, self._numbered(action, -1)).sum(dim=-1)

    def entropy(self) -> Tensor:
        """Return the sum of the entropies, `[...]`."""
        return ops.categorical_entropy(self.logits).sum(dim=-1)

    def kl(self, other: MultiCategorical) -> Tensor:
        """Return KL(self ‖ other), `[...]`."""
        return ops.categorical_kl(self.logits, other.logits).sum(dim=-1)

    def masked(self, valid: Tensor) -> MultiCategorical:
        """Return the distribution of valid actions alone.

        Args:
            valid: `[..., Σ A_k]` boolean, the actions of each choice after those of the one before.
        """
        counts, most = self.counts, self.logits.shape[-1]
        rows = torch.split(valid, list(counts), dim=-1)
        padded = [torch.nn.functional.pad(row, (0, most - row.shape[-1])) for row in rows]
        logits = torch.where(torch.stack(padded, dim=-2), self.logits, -torch.inf)
        return tree.replace(self, logits=logits)

    def _numbered(self, index: Tensor, sign: int) -> Tensor:
        if not any(self.start):
            return index
        return index + sign * torch.tensor(self.start, dtype=torch.int64, device=index.device)
