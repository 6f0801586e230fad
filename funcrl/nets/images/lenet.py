"""LeNet-5. LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import nn

from funcrl.core import checks
from funcrl.nets.images.built import built, check_sizes
from funcrl.nets.mlp import ACTIVATIONS


def lenet(
    input_shape: Sequence[int] = (1, 28, 28),
    num_classes: int = 10,
    *,
    width: int = 6,
    activation: str = "tanh",
) -> nn.Module:
    """Return LeNet-5: two convolutions and three linear layers.

    As it has been written since: every map of the third layer sees all before it, plain averages for pooling, logits
    for the radial basis functions at the end, a border of 2 pixels around images of 28 x 28.

    Args:
        input_shape: `(C, H, W)` of one image.
        num_classes: Number of outputs.
        width: Channels of the first convolution; all others are in the paper's proportion to it.
        activation: `elu`, `gelu`, `relu`, `silu` or `tanh`.

    Raises:
        ValueError: When the images are smaller than 12 x 12, or a number is below 1.

    >>> sum(p.numel() for p in lenet().parameters())
    61706
    """
    check_sizes("lenet", num_classes=num_classes, width=width)
    checks.known("nets.images.lenet", "activation", activation, ACTIVATIONS)
    return _cached(tuple(input_shape), num_classes, width, activation)


@functools.cache
def _cached(input_shape: tuple[int, ...], num_classes: int, width: int, activation: str) -> nn.Module:
    def make() -> nn.Module:
        second = round(width * 16 / 6)
        act = ACTIVATIONS[activation]
        return nn.Sequential(
            nn.Conv2d(input_shape[0], width, 5, padding=2),
            act(),
            nn.AvgPool2d(2),
            nn.Conv2d(width, second, 5),
            act(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.LazyLinear(20 * width),
            act(),
            nn.Linear(20 * width, 14 * width),
            act(),
            nn.Linear(14 * width, num_classes),
        )

    return built("lenet", make, input_shape)
