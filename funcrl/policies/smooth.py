"""Normals whose noise is a function of what the network sees: smooth exploration.

Raffin, Kober & Stulp 2021, "Smooth exploration for robotic reinforcement learning", arXiv 2005.05719 (gSDE).

    ε(s) = Θᵀ z(s),  Θ_ij ~ N(0, σ_ij²)                                            (4), with policy features z
    a = μ(s) + ε(s),  so a_j ~ N(μ_j(s), Σ_i z_i(s)² σ_ij²)                        (5), (6)

With Θ drawn once for many steps, equal states have equal noise, and an actor goes one way for a while instead of
trembling. The features count as given in the spread: gradients do not reach them through it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from funcrl.core import random, tree
from funcrl.policies.bounds import Bounds
from funcrl.policies.normal import Normal
from funcrl.policies.protocol import Distribution, Parameters
from funcrl.policies.reshaped import arranged
from funcrl.policies.tanh_normal import TanhNormal


@tree.struct
class SmoothNormal(Normal):
    """D independent normals, whose samples for one key are one function of the features.

    A key decides on Θ, one for each place of the axes in front: the same key draws the same Θ again for other features.
    """

    features: Tensor
    """`[..., Z]` z"""
    scale: Tensor
    """`[Z, D]` σ, in the units of the actions"""

    def sample(self, key: Tensor) -> Tensor:
        """Draw μ + Θᵀ z, `[..., D]`."""
        noise = random.normal(key, (*self.features.shape, self.scale.shape[-1]))
        return self.mean + (self.features.unsqueeze(-1) * noise * self.scale).sum(-2)


@tree.struct
class SmoothTanhNormal(TanhNormal):
    """The same before a tanh. `sample_before` draws anew for each row, as updates want it: each row by itself has the same
    distribution either way.
    """

    features: Tensor
    """`[..., Z]` z"""
    scale: Tensor
    """`[Z, D]` σ, before the tanh"""

    def sample(self, key: Tensor) -> Tensor:
        """Draw what μ + Θᵀ z is squashed to, `[..., D]`."""
        return self.squash(SmoothNormal(self.mean, self.log_std, self.features, self.scale).sample(key))


@dataclass(frozen=True)
class Smooth:
    """Real actions whose means and noise are linear in a network's features.

    Outputs are the features z. The last layer, its bias and log σ `[Z, D]` are parameters of the head, zeros at
    first. Otherwise like `Gaussian`.
    """

    bounds: Bounds
    shape: tuple[int, ...]
    num_features: int

    @property
    def num_outputs(self) -> int:
        """Z."""
        return self.num_features

    def parameters(self, device: torch.device) -> Parameters:
        """Return the last layer and log σ in half widths."""
        size = (self.num_features, len(self.bounds.low))
        zeros = torch.zeros(size, dtype=torch.float32, device=device)
        return {"weight": zeros, "bias": zeros[0], "log_std": zeros.clone()}

    def distribution(self, outputs: Tensor, parameters: Parameters) -> Distribution:
        """Return `[..., *shape]` normals."""
        leading = outputs.shape[:-1]
        features = outputs.reshape(-1, self.num_features)
        mean = (features @ parameters["weight"] + parameters["bias"]).reshape(*leading, -1)
        width = self.bounds.half_width(mean)
        scale, given = torch.exp(parameters["log_std"]) * width, features.detach()
        variance = ((given**2) @ (scale**2)).reshape(*leading, -1)
        # All features may be zero; the reference has the same floor.
        log_std = 0.5 * torch.log(variance + 1e-6)
        mean = self.bounds.middle(mean) + width * mean
        return arranged(SmoothNormal(mean, log_std, given.reshape(*leading, -1), scale), self.shape)
