"""The multilayer perceptron."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from funcrl.core import checks
from funcrl.nets import initialisers

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
NORMALIZATIONS = ("layer", "none")


class Linear(nn.Linear):
    """A linear layer on the meta device that says how its parameters are to be drawn."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        gain: float | None,
    ) -> None:
        self.initialisers = initialisers.scaled(gain)
        super().__init__(in_features, out_features, device="meta")

    def reset_parameters(self) -> None:
        """Draw nothing: there is no global random state, `nets.init` draws from a key."""


def between(features: int, activation: str, normalization: str) -> list[nn.Module]:
    """Return what stands between two layers, for outputs `[..., features]` of the first.

    Normalisation comes before the activation (Ba et al. 2016, arXiv 1607.06450, equation 4), over the
    last axis: the features of a vector, the channels of each pixel where they are last.

    >>> [type(module).__name__ for module in between(3, "relu", "layer")]
    ['LayerNorm', 'ReLU']
    """
    normalize: list[nn.Module] = [nn.LayerNorm(features, device="meta")] if normalization == "layer" else []
    return [*normalize, ACTIVATIONS[activation]()]


class MLP(nn.Module):
    """Linear layers with an activation between them; the input's axes after the first are flattened away.

    Built by `mlp`, on the meta device: it holds shapes, not numbers.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        activation: str,
        hidden_gain: float | None,
        output_gain: float | None,
        input_axes: int,
        normalization: str = "none",
    ) -> None:
        super().__init__()
        self.input_axes, self.input_size = input_axes, sizes[0]
        layers: list[nn.Module] = []
        for position, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            last = position == len(sizes) - 2
            linear = Linear(fan_in, fan_out, output_gain if last else hidden_gain)
            layers += [linear] if last else [linear, *between(fan_out, activation, normalization)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., *input]` to `[..., out]`."""
        # Images and counts come as integers.
        x = x if x.is_floating_point() else x.to(torch.float32)
        # One axis of rows: under vmap, more of them would make a matrix product for each of the outer ones.
        leading = x.shape[: x.ndim - self.input_axes]
        rows = x.reshape(math.prod(leading), self.input_size)
        return self.layers(rows).reshape(*leading, -1)  # type: ignore[no-any-return]


def mlp(
    input_shape: Sequence[int],
    hidden: Sequence[int],
    output_size: int,
    *,
    activation: str = "tanh",
    normalization: str = "none",
    hidden_gain: float | None = math.sqrt(2.0),
    output_gain: float | None = 1.0,
) -> nn.Module:
    """Return the template of a multilayer perceptron with orthogonal weights and zero biases.

    The same arguments return the same object, so that states made separately can be stacked.

    Source of the defaults: Engstrom et al. 2020, arXiv 2005.12729, and the reference code of PPO.

    Args:
        input_shape: Shape of one input; its axes are flattened. `()` for a number.
        hidden: Width of each hidden layer.
        output_size: Number of outputs.
        activation: One of `elu`, `gelu`, `relu`, `silu`, `tanh`.
        normalization: `layer` to normalise the features before each activation (Ba et al. 2016, arXiv
            1607.06450), or `none`.
        hidden_gain: Scale of the hidden layers' orthogonal weights; None to draw weights and biases
            from U(±1/√fan_in), as `torch.nn.Linear` does.
        output_gain: Scale of the last layer's, likewise.

    Raises:
        ValueError: When a name is unknown or a size is not positive.

    >>> sum(p.numel() for p in mlp((4,), (64, 64), 2).parameters())
    4610
    """
    checks.known("nets.mlp", "activation", activation, ACTIVATIONS)
    checks.known("nets.mlp", "normalization", normalization, NORMALIZATIONS)
    for size in (*hidden, output_size):
        checks.integer("nets.mlp", "size of a layer", size, 1)
    sizes = (math.prod(input_shape), *hidden, output_size)
    return _cached(sizes, activation, hidden_gain, output_gain, len(input_shape), normalization)


@functools.cache
def activated(network: nn.Module, activation: str) -> nn.Module:
    """Return the template of a network with an activation behind it; the same one for the same arguments."""
    return nn.Sequential(network, ACTIVATIONS[activation]())


@functools.cache
def _cached(*arguments: object) -> nn.Module:
    return MLP(*arguments)  # type: ignore[arg-type]
