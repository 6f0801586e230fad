"""DenseNet. Huang et al. 2017, "Densely connected convolutional networks", arXiv 1608.06993, table 1."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from funcrl.nets.images.built import built, check_sizes


class DenseLayer(nn.Module):
    """[x, f(x)], f a bottleneck of 1 x 1 and a 3 x 3 convolution, each behind batch normalisation and ReLU (DenseNet-B)."""

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to `[B, C + growth, H, W]`."""
        y = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(y)))], dim=1)


def densenet(
    input_shape: Sequence[int] = (3, 224, 224),
    num_classes: int = 1000,
    *,
    width: int = 32,
    layers: Sequence[int] = (6, 12, 24, 16),
) -> nn.Module:
    """Return DenseNet-BC: in each block every layer sees all before it; between blocks, half the channels and half the size.

    Args:
        input_shape: `(C, H, W)` of one image.
        num_classes: Number of outputs.
        width: Channels that each layer adds (the paper's k); the first convolution has twice as many.
        layers: Of each block; those of DenseNet-121 by default.

    Raises:
        ValueError: When the images are smaller than 29 x 29, or a number is below 1.

    >>> sum(p.numel() for p in densenet().parameters())
    7978856
    """
    check_sizes("densenet", num_classes=num_classes, width=width)
    return _cached(tuple(input_shape), num_classes, width, tuple(layers))


@functools.cache
def _cached(input_shape: tuple[int, ...], num_classes: int, width: int, layers: tuple[int, ...]) -> nn.Module:
    def make() -> nn.Module:
        channels = 2 * width
        parts: list[nn.Module] = [
            nn.Conv2d(input_shape[0], channels, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        for number, count in enumerate(layers):
            if number:
                parts += [
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                    nn.Conv2d(channels, channels // 2, 1, bias=False),
                ]
                parts.append(nn.AvgPool2d(2))
                channels //= 2
            for _ in range(count):
                parts.append(DenseLayer(channels, width))
                channels += width
        parts += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*parts, nn.Linear(channels, num_classes))

    return built("densenet", make, input_shape)
