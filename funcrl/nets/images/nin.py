"""NiN. Lin et al. 2014, "Network in network", arXiv 1312.4400."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import nn

from funcrl.nets.images.built import built, check_sizes, in_proportion


def nin(input_shape: Sequence[int] = (3, 224, 224), num_classes: int = 1000, *, width: int = 96) -> nn.Module:
    """Return Network in network: convolutions each followed by two of 1 x 1, and averages over the image as logits.

    The four blocks are those for ImageNet, with AlexNet's sizes.

    Args:
        input_shape: `(C, H, W)` of one image.
        num_classes: Number of outputs.
        width: Channels of the first convolution; all others are in the paper's proportion to it.

    Raises:
        ValueError: When the images are smaller than 67 x 67, or a number is below 1.

    >>> sum(p.numel() for p in nin().parameters())
    7439608
    """
    check_sizes("nin", num_classes=num_classes, width=width)
    return _cached(tuple(input_shape), num_classes, width)


@functools.cache
def _cached(input_shape: tuple[int, ...], num_classes: int, width: int) -> nn.Module:
    c = in_proportion(width, 96)

    def block(before: int, channels: int, size: int, stride: int, padding: int) -> list[nn.Module]:
        return [
            nn.Conv2d(before, channels, size, stride, padding),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.ReLU(),
        ]

    def make() -> nn.Module:
        return nn.Sequential(
            *block(input_shape[0], c(96), 11, 4, 0),
            nn.MaxPool2d(3, stride=2),
            *block(c(96), c(256), 5, 1, 2),
            nn.MaxPool2d(3, stride=2),
            *block(c(256), c(384), 3, 1, 1),
            nn.MaxPool2d(3, stride=2),
            nn.Dropout(),
            *block(c(384), num_classes, 3, 1, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    return built("nin", make, input_shape)
