"""AlexNet. Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", arXiv 1404.5997."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import nn

from funcrl.nets.images.built import built, check_sizes, in_proportion


def alexnet(
    input_shape: Sequence[int] = (3, 224, 224), num_classes: int = 1000, *, width: int = 64
) -> nn.Module:
    """Return AlexNet on one device: five convolutions and three linear layers, with dropout.

    Whatever the images' size, the linear layers see 6 x 6 averages; parameters have the names of torchvision's.

    Args:
        input_shape: `(C, H, W)` of one image.
        num_classes: Number of outputs.
        width: Channels of the first convolution; all others are in the paper's proportion to it.

    Raises:
        ValueError: When the images are smaller than 63 x 63, or a number is below 1.

    >>> sum(p.numel() for p in alexnet().parameters())
    61100840
    """
    check_sizes("alexnet", num_classes=num_classes, width=width)
    return _cached(tuple(input_shape), num_classes, width)


@functools.cache
def _cached(input_shape: tuple[int, ...], num_classes: int, width: int) -> nn.Module:
    c = in_proportion(width, 64)

    def make() -> nn.Module:
        network = nn.Sequential()
        network.features = nn.Sequential(
            nn.Conv2d(input_shape[0], c(64), 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(c(64), c(192), 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(c(192), c(384), 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c(384), c(256), 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c(256), c(256), 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
        )
        network.avgpool = nn.AdaptiveAvgPool2d(6)
        network.flatten = nn.Flatten()
        network.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(36 * c(256), c(4096)),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(c(4096), c(4096)),
            nn.ReLU(),
            nn.Linear(c(4096), num_classes),
        )
        return network

    return built("alexnet", make, input_shape)
