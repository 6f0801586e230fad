"""The network that fits an observation: convolutions for images, a perceptron for everything else."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from funcrl.core import checks
from funcrl.nets.convolution import cnn
from funcrl.nets.mlp import mlp


def for_observations(
    shape: Sequence[int],
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
    """Return the template of a convolutional network for images `[C, H, W]`, and of a perceptron elsewhere.

    The same arguments return the same object, so that states made separately can be stacked.

    Args:
        shape: Of one observation; three axes are an image, any others are flattened.
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

    >>> [type(for_observations(shape, (4,), (8,), 10)).__name__ for shape in ((1, 8, 8), (5,))]
    ['CNN', 'MLP']
    """
    if len(shape) == 3 and len(channels) > 0:
        # No one has images two to four pixels wide; many have the colours last.
        last = shape[2] in (1, 3, 4) and min(shape[:2]) >= 8
        instead = "Move the channels to the front, or write channels=() for a perceptron."
        checks.require(not last, "nets", "images", "be [C, H, W]", tuple(shape), instead)
        return cnn(
            shape,
            channels,
            hidden,
            output_size,
            stride=stride,
            activation=activation,
            normalization=normalization,
            hidden_gain=hidden_gain,
            output_gain=output_gain,
        )
    return mlp(
        shape,
        hidden,
        output_size,
        activation=activation,
        normalization=normalization,
        hidden_gain=hidden_gain,
        output_gain=output_gain,
    )
