"""Independent coins: several things, each done or not."""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl import ops
from funcrl.core import random, tree
from funcrl.core.checks import require


@tree.struct
class Bernoulli:
    """D independent coins; a logit of -inf rules 1 out, +inf rules 0 out.

    >>> Bernoulli(torch.tensor([-1.0, 1.0])).mode()
    tensor([0, 1])
    """

    logits: Tensor
    """`[..., D]` log-odds of 1"""

    def sample(self, key: Tensor) -> Tensor:
        """Throw the coins, `[..., D]` int64 zeros and ones."""
        return random.bernoulli(key, torch.sigmoid(self.logits)).to(torch.int64)

    def mode(self) -> Tensor:
        """Return what each coin shows more often, 0 where both are equal, `[..., D]` int64."""
        return (self.logits > 0).to(torch.int64)

    def log_prob(self, action: Tensor) -> Tensor:
        """Return Σ log p(action), `[...]`."""
        shape, found = tuple(self.logits.shape), tuple(action.shape)
        require(found == shape, "Bernoulli.log_prob", "action", f"have shape {shape}", found)
        return ops.bernoulli_log_prob(self.logits, action)

    def entropy(self) -> Tensor:
        """Return the sum of the entropies, `[...]`."""
        return ops.bernoulli_entropy(self.logits)

    def kl(self, other: Bernoulli) -> Tensor:
        """Return KL(self ‖ other), `[...]`."""
        return ops.bernoulli_kl(self.logits, other.logits)
