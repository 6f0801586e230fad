"""VGG. Simonyan & Zisserman 2015, "Very deep convolutional networks", arXiv 1409.1556, table 1."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import nn

from funcrl.nets.images.built import built, check_sizes

_CONVOLUTIONS = ((1,), (2,), (4, 4), (8, 8), (8, 8))
"""of configuration A: in each block, channels as multiples of the first's"""


def vgg11(
    input_shape: Sequence[int] = (3, 224, 224), num_classes: int = 1000, *, width: int = 64
) -> nn.Module:
    """Return VGG with 11 layers (configuration A): 3 x 3 convolutions in five blocks, three linear layers with dropout.

    Whatever the images' size, the linear layers see 7 x 7 averages; parameters have the names of torchvision's.

    Args:
        input_shape: `(C, H, W)` of one image.
        num_classes: Number of outputs.
        width: Channels of the first convolution; all others are in the paper's proportion to it.

    Raises:
        ValueError: When the images are smaller than 32 x 32, or a number is below 1.

    >>> sum(p.numel() for p in vgg11().parameters())
    132863336
    """
    check_sizes("vgg11", num_classes=num_classes, width=width)
    return _cached(tuple(input_shape), num_classes, width)


@functools.cache
def _cached(input_shape: tuple[int, ...], num_classes: int, width: int) -> nn.Module:
    def make() -> nn.Module:
        layers: list[nn.Module] = []
        channels = input_shape[0]
        for block in _CONVOLUTIONS:
            for multiple in block:
                layers += [nn.Conv2d(channels, multiple * width, 3, padding=1), nn.ReLU()]
                channels = multiple * width
            layers.append(nn.MaxPool2d(2))
        network = nn.Sequential()
        network.features = nn.Sequential(*layers)
        network.avgpool = nn.AdaptiveAvgPool2d(7)
        network.flatten = nn.Flatten()
        network.classifier = nn.Sequential(
            nn.Linear(49 * channels, 64 * width),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(64 * width, 64 * width),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(64 * width, num_classes),
        )
        return network

    return built("vgg11", make, input_shape)
