"""The network that fits an observation: convolutions for images, a perceptron for everything else."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from funcrl.nets.convolution import cnn
from funcrl.nets.inputs import Image, OneHot, Part, parts, value_at
from funcrl.nets.mlp import activated, mlp

TOWER_WIDTH = 64
"""Numbers that an image becomes beside other parts, where no hidden layer says how many."""


class Observing(nn.Module):
    """A network for observations that are not numbers in one array of floats; built by `for_observations`."""

    def __init__(self, own: tuple[Part, ...], towers: Sequence[nn.Module], body: nn.Module) -> None:
        super().__init__()
        self.parts = own
        self.towers = nn.ModuleList(towers)
        self.body = body

    def forward(self, obs: Any) -> Tensor:
        """Map an observation, or `[..., ]` of them, to `[..., out]`."""
        rows = [part.encode(value_at(obs, part.path)) for part in self.parts]
        if self.towers:
            towers = iter(self.towers)
            rows = [
                next(towers)(row) if isinstance(part, Image) else row
                for part, row in zip(self.parts, rows, strict=True)
            ]
        return self.body(rows[0] if len(rows) == 1 else torch.cat(rows, dim=-1))  # type: ignore[no-any-return]


def for_observations(
    space: spaces.Space[Any],
    channels: Sequence[int],
    hidden: Sequence[int],
    output_size: int,
    *,
    stride: int | Sequence[int] = 2,
    activation: str = "relu",
    normalization: str = "none",
    hidden_gain: float | None = math.sqrt(2.0),
    output_gain: float | None = 1.0,
) -> nn.Module:
    """Return the template of a network for the observations of a space.

    Images go through convolutions, with the channels first or last and bytes scaled to [0, 1]; numbered things
    become rows of zeros with a one; all else is laid out in a row and goes through a perceptron. Of a Dict or
    Tuple, each image goes through convolutions of its own to as many numbers as the first hidden layer has, and
    all parts stand beside each other before the perceptron. What counts as an image: `inputs.parts`.

    The same arguments return the same object, so that states made separately can be stacked.

    Args:
        space: Of one observation, one of `inputs.KINDS`.
        channels: Output channels of each convolution; none makes images vectors too.
        hidden: Width of each hidden layer, after the convolutions where there are some.
        output_size: Number of outputs.
        stride: Of every convolution, or one for each.
        activation: One of `elu`, `gelu`, `relu`, `silu`, `tanh`.
        normalization: `layer` or `none`, see `mlp` and `cnn`.
        hidden_gain: Scale of the orthogonal weights of all layers but the last; None for U(±1/√fan_in).
        output_gain: Scale of the last layer's, likewise.

    Raises:
        ValueError: When a size or a name is not possible.

    >>> boxes = [spaces.Box(0, 1, shape) for shape in ((1, 8, 8), (5,))]
    >>> [type(for_observations(box, (4,), (8,), 10)).__name__ for box in boxes]
    ['CNN', 'MLP']
    """
    shared: dict[str, Any] = {
        "activation": activation,
        "normalization": normalization,
        "hidden_gain": hidden_gain,
    }

    def convolutions(part: Image, layers: Sequence[int], size: int, gain: float | None) -> nn.Module:
        return cnn(part.size, channels, layers, size, stride=stride, output_gain=gain, **shared)

    def perceptron(shape: tuple[int, ...]) -> nn.Module:
        return mlp(shape, hidden, output_size, output_gain=output_gain, **shared)

    own = parts(space, images=len(channels) > 0)
    if len(own) > 1:
        width = hidden[0] if hidden else TOWER_WIDTH
        towers = tuple(
            activated(convolutions(part, (), width, hidden_gain), activation)
            for part in own
            if isinstance(part, Image)
        )
        size = sum(width if isinstance(part, Image) else part.size[0] for part in own)
        return _observing(own, towers, perceptron((size,)))
    (part,) = own
    as_it_comes = part.path == () and not isinstance(part, OneHot) and part.bounds is None
    if isinstance(part, Image):
        body = convolutions(part, hidden, output_size, output_gain)
        return body if as_it_comes and part.size == part.shape else _observing(own, (), body)
    return perceptron(part.shape) if as_it_comes else _observing(own, (), perceptron(part.size))


@functools.cache
def _observing(own: tuple[Part, ...], towers: tuple[nn.Module, ...], body: nn.Module) -> nn.Module:
    return Observing(own, towers, body)
