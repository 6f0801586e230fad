"""What makes a distribution of a network's outputs, for each kind of action space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from funcrl.policies.bernoulli import Bernoulli
from funcrl.policies.bounds import Bounds
from funcrl.policies.categorical import Categorical, MultiCategorical
from funcrl.policies.normal import Normal
from funcrl.policies.product import Product
from funcrl.policies.protocol import Distribution, Head, Parameters
from funcrl.policies.reshaped import arranged
from funcrl.policies.tanh_normal import TanhNormal

LOG_STD = (-20.0, 2.0)
"""Where a log σ that a network puts out is kept (Haarnoja et al. 2018, the authors' code)."""


@dataclass(frozen=True)
class Choice:
    """One choice: an output for each action, its logit."""

    count: int
    start: int

    @property
    def num_outputs(self) -> int:
        """A."""
        return self.count

    def parameters(self, device: torch.device) -> Parameters:
        """Return nothing."""
        return {}

    def distribution(self, outputs: Tensor, parameters: Parameters) -> Distribution:
        """Return `[...]` choices."""
        return Categorical(outputs, self.start)


@dataclass(frozen=True)
class Choices:
    """Several choices: the outputs are the logits of one after the other."""

    counts: tuple[int, ...]
    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def num_outputs(self) -> int:
        """The actions of all choices."""
        return sum(self.counts)

    def parameters(self, device: torch.device) -> Parameters:
        """Return nothing."""
        return {}

    def distribution(self, outputs: Tensor, parameters: Parameters) -> Distribution:
        """Return `[..., *shape]` choices."""
        most = max(self.counts)
        if min(self.counts) == most:
            logits = outputs.reshape(*outputs.shape[:-1], len(self.counts), most)
        else:
            # One table with actions that are never taken costs less than a distribution for each choice.
            rows = [
                torch.nn.functional.pad(part, (0, most - part.shape[-1]), value=-torch.inf)
                for part in torch.split(outputs, list(self.counts), dim=-1)
            ]
            logits = torch.stack(rows, dim=-2)
        return arranged(MultiCategorical(logits, self.start, self.counts), self.shape)


@dataclass(frozen=True)
class Coins:
    """Several things to be done or not: an output for each, the log-odds of doing it."""

    shape: tuple[int, ...]

    @property
    def num_outputs(self) -> int:
        """D."""
        return math.prod(self.shape)

    def parameters(self, device: torch.device) -> Parameters:
        """Return nothing."""
        return {}

    def distribution(self, outputs: Tensor, parameters: Parameters) -> Distribution:
        """Return `[..., *shape]` zeros and ones."""
        return arranged(Bernoulli(outputs), self.shape)


@dataclass(frozen=True)
class Gaussian:
    """Real actions around the outputs, with a spread that is the same for all observations.

    log σ is a parameter, 0 at first (Huang et al. 2022, "The 37 implementation details of proximal policy
    optimization", details 1 to 3 for continuous actions). Where a dimension is bounded on both sides, outputs
    and σ count in half its width from its middle; actions may lie beyond the bounds, and the environment clips.
    """

    bounds: Bounds
    shape: tuple[int, ...]

    @property
    def num_outputs(self) -> int:
        """D."""
        return math.prod(self.shape)

    def parameters(self, device: torch.device) -> Parameters:
        """Return log σ in half widths, `[D]`."""
        return {"log_std": torch.zeros(self.num_outputs, dtype=torch.float32, device=device)}

    def distribution(self, outputs: Tensor, parameters: Parameters) -> Distribution:
        """Return `[..., *shape]` normals."""
        return _normal(self.bounds, self.shape, outputs, parameters["log_std"])


@dataclass(frozen=True)
class GaussianOfState:
    """Real actions around the first half of the outputs, with the other half for log σ: a spread of each observation's own.

    Otherwise like `Gaussian`; log σ is kept within `LOG_STD`.
    """

    bounds: Bounds
    shape: tuple[int, ...]

    @property
    def num_outputs(self) -> int:
        """2 D."""
        return 2 * math.prod(self.shape)

    def parameters(self, device: torch.device) -> Parameters:
        """Return nothing."""
        return {}

    def distribution(self, outputs: Tensor, parameters: Parameters) -> Distribution:
        """Return `[..., *shape]` normals."""
        mean, log_std = torch.chunk(outputs, 2, dim=-1)
        return _normal(self.bounds, self.shape, mean, torch.clamp(log_std, *LOG_STD))


@dataclass(frozen=True)
class Squashed:
    """Real actions within bounds: outputs for the means, then for log σ, of normals before a tanh."""

    bounds: Bounds
    shape: tuple[int, ...]

    @property
    def num_outputs(self) -> int:
        """2 D."""
        return 2 * math.prod(self.shape)

    def parameters(self, device: torch.device) -> Parameters:
        """Return nothing."""
        return {}

    def distribution(self, outputs: Tensor, parameters: Parameters) -> Distribution:
        """Return `[..., *shape]` squashed normals."""
        mean, log_std = torch.chunk(outputs, 2, dim=-1)
        return arranged(TanhNormal(mean, torch.clamp(log_std, *LOG_STD), self.bounds), self.shape)


@dataclass(frozen=True)
class Several:
    """Actions of several kinds: the outputs of one head after those of the other."""

    names: tuple[str, ...] | None
    """of a dict; None for a tuple"""
    heads: tuple[Head, ...]

    @property
    def num_outputs(self) -> int:
        """Those of all heads."""
        return sum(self._sizes)

    def parameters(self, device: torch.device) -> Parameters:
        """Return those of all heads, each with its place or its name in front."""
        own = [head.parameters(device) for head in self.heads]
        pairs = zip(self._prefixes, own, strict=True)
        return {prefix + name: value for prefix, named in pairs for name, value in named.items()}

    def distribution(self, outputs: Tensor, parameters: Parameters) -> Distribution:
        """Return a tuple or a dict of actions."""
        parts = [
            head.distribution(
                row, {name.removeprefix(at): x for name, x in parameters.items() if name.startswith(at)}
            )
            for head, row, at in zip(
                self.heads, torch.split(outputs, self._sizes, dim=-1), self._prefixes, strict=True
            )
        ]
        return Product(tuple(parts) if self.names is None else dict(zip(self.names, parts, strict=True)))

    @property
    def _sizes(self) -> list[int]:
        return [head.num_outputs for head in self.heads]

    @property
    def _prefixes(self) -> list[str]:
        return [f"{name}." for name in self.names or range(len(self.heads))]


def _normal(bounds: Bounds, shape: tuple[int, ...], mean: Tensor, log_std: Tensor) -> Distribution:
    if not bounds.usual:
        mean = bounds.middle(mean) + bounds.half_width(mean) * mean
        log_std = log_std + bounds.log_half_width(log_std)
    return arranged(Normal(mean, log_std.expand_as(mean)), shape)
