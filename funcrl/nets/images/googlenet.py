"""GoogLeNet. Szegedy et al. 2015, "Going deeper with convolutions", arXiv 1409.4842, table 1."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from funcrl.nets.images.built import built, check_sizes, in_proportion

_STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""of each block: channels of 1 x 1, of 3 x 3 and what reduces to it, of 5 x 5 likewise, and behind the pooling"""


class Inception(nn.Module):
    """Four ways side by side, their channels one after the other (figure 2b)."""

    def __init__(
        self, before: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pooled: int
    ) -> None:
        super().__init__()
        relu = nn.ReLU()
        self.branch1 = nn.Sequential(nn.Conv2d(before, one, 1), relu)
        self.branch2 = nn.Sequential(
            nn.Conv2d(before, reduce3, 1), relu, nn.Conv2d(reduce3, three, 3, padding=1), relu
        )
        self.branch3 = nn.Sequential(
            nn.Conv2d(before, reduce5, 1), relu, nn.Conv2d(reduce5, five, 5, padding=2), relu
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(before, pooled, 1), relu)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to `[B, O, H, W]`."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


def googlenet(
    input_shape: Sequence[int] = (3, 224, 224), num_classes: int = 1000, *, width: int = 64
) -> nn.Module:
    """Return GoogLeNet: nine inception blocks, without the classifiers that the paper adds half-way for training.

    Local response normalisation is left out, as it has been since.

    Args:
        input_shape: `(C, H, W)` of one image.
        num_classes: Number of outputs.
        width: Channels of the first convolution; all others are in the paper's proportion to it.

    Raises:
        ValueError: When a number is below 1.

    >>> sum(p.numel() for p in googlenet().parameters())
    6998552
    """
    check_sizes("googlenet", num_classes=num_classes, width=width)
    return _cached(tuple(input_shape), num_classes, width)


@functools.cache
def _cached(input_shape: tuple[int, ...], num_classes: int, width: int) -> nn.Module:
    c = in_proportion(width, 64)

    def make() -> nn.Module:
        layers: list[nn.Module] = [
            nn.Conv2d(input_shape[0], c(64), 7, stride=2, padding=3),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(c(64), c(64), 1),
            nn.ReLU(),
            nn.Conv2d(c(64), c(192), 3, padding=1),
            nn.ReLU(),
        ]
        before = c(192)
        for stage in _STAGES:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            for sizes in stage:
                one, reduce3, three, reduce5, five, pooled = map(c, sizes)
                layers.append(Inception(before, one, reduce3, three, reduce5, five, pooled))
                before = one + three + five + pooled
        return nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.4), nn.Linear(before, num_classes)
        )

    return built("googlenet", make, input_shape)
