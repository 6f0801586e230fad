"""Independent normals squashed into bounds.

Haarnoja et al. 2018, "Soft actor-critic", arXiv 1801.01290, appendix C, with bounds other than ±1.

    a = m + h tanh(x),   x ~ N(μ, σ²),   m = ½ (low + high),   h = ½ (high - low)
    log p(a) = log N(x; μ, σ²) - Σ [log h + log(1 - tanh² x)]                                   (21)

Near a bound many x round to the same a, so x itself is kept where a density is wanted: `sample_before` draws
it, `squash` makes the action, `log_prob_before` takes it. From an action alone, x is found by the inverse of
tanh, with the action moved off its bound by the smallest step that floating-point numbers have there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl import ops
from funcrl.core import tree
from funcrl.core.checks import require
from funcrl.policies.bounds import Bounds
from funcrl.policies.normal import Normal


@tree.struct
class TanhNormal:
    """D independent normals, each squashed by tanh into its bounds.

    >>> TanhNormal(torch.zeros(1), torch.zeros(1), Bounds((0.0,), (4.0,))).mode()
    tensor([2.])
    """

    mean: Tensor
    """`[..., D]` μ, before the tanh"""
    log_std: Tensor
    """`[..., D]` log σ, before the tanh"""
    bounds: Bounds = tree.static()
    """of D dimensions, each with low < high"""

    def sample(self, key: Tensor) -> Tensor:
        """Draw an action, `[..., D]`."""
        return self.squash(self.sample_before(key))

    def sample_before(self, key: Tensor) -> Tensor:
        """Draw what goes into the tanh, `[..., D]`."""
        return self._normal.sample(key)

    def squash(self, before: Tensor) -> Tensor:
        """Return the action of what goes into the tanh, `[..., D]`."""
        bounds = self.bounds
        # The middle and half the width may round to a sum just beyond a bound.
        return bounds.clip(bounds.middle(before) + bounds.half_width(before) * torch.tanh(before))

    def mode(self) -> Tensor:
        """Return the squashed mean, `[..., D]`: the median, which is what agents of this kind take as best.

        The density itself may be highest elsewhere, at a bound for a wide σ.
        """
        return self.squash(self.mean)

    def log_prob_before(self, before: Tensor) -> Tensor:
        """(21): return the log-density of the action that `before` is squashed to, `[...]`."""
        slope = ops.tanh_log_slope(before) + self.bounds.log_half_width(before)
        return self._normal.log_prob(before) - slope.sum(dim=-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-density of an action, `[...]`; better: `log_prob_before`."""
        shape, found = tuple(self.mean.shape), tuple(action.shape)
        require(found == shape, "TanhNormal.log_prob", "action", f"have shape {shape}", found)
        unit = (action - self.bounds.middle(self.mean)) / self.bounds.half_width(self.mean)
        inside = 1.0 - torch.finfo(unit.dtype).eps
        return self.log_prob_before(torch.atanh(torch.clamp(unit, -inside, inside)))

    def entropy(self) -> Tensor:
        """Return the entropy, `[...]`, at most Σ log(high - low); integrated numerically."""
        entropy = ops.tanh_normal_entropy(self.mean, self.log_std)
        return entropy + self.bounds.log_half_width(self.mean).sum(dim=-1)

    def kl(self, other: TanhNormal) -> Tensor:
        """Return KL(self ‖ other), `[...]`: that of the normals, which squashing both alike does not change."""
        hold = f"have the bounds {self.bounds}"
        require(self.bounds == other.bounds, "TanhNormal.kl", "other", hold, other.bounds)
        return self._normal.kl(other._normal)

    @property
    def _normal(self) -> Normal:
        return Normal(self.mean, self.log_std)
