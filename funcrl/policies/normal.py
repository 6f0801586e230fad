"""Independent normals: real actions without bounds."""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl import ops
from funcrl.core import random, tree
from funcrl.core.checks import require


@tree.struct
class Normal:
    """D independent normals.

    >>> Normal(torch.tensor([0.5]), torch.zeros(1)).mode()
    tensor([0.5000])
    """

    mean: Tensor
    """`[..., D]` μ"""
    log_std: Tensor
    """`[..., D]` log σ"""

    def sample(self, key: Tensor) -> Tensor:
        """Draw μ + σ ε with standard normal ε, `[..., D]`."""
        return self.mean + torch.exp(self.log_std) * random.normal(key, self.mean.shape)

    def mode(self) -> Tensor:
        """Return the mean, `[..., D]`."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-density, `[...]`."""
        shape, found = tuple(self.mean.shape), tuple(action.shape)
        require(found == shape, "Normal.log_prob", "action", f"have shape {shape}", found)
        return ops.normal_log_prob(action, self.mean, self.log_std)

    def entropy(self) -> Tensor:
        """Return the entropy, `[...]`."""
        return ops.normal_entropy(self.log_std)

    def kl(self, other: Normal) -> Tensor:
        """Return KL(self ‖ other), `[...]`."""
        return ops.normal_kl(self.mean, self.log_std, other.mean, other.log_std)
