"""ResNet. He et al. 2016, "Deep residual learning for image recognition", arXiv 1512.03385, table 1."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import Tensor, nn

from funcrl.nets.images.built import built, check_sizes


class Block(nn.Module):
    """y = relu(f(x) + x), f two 3 x 3 convolutions with batch normalisation (figure 2); a 1 x 1 convolution of x where sizes differ."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride > 1 or before != channels:
            shortcut = nn.Conv2d(before, channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to `[B, O, H', W']`."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))  # type: ignore[no-any-return]


def resnet18(
    input_shape: Sequence[int] = (3, 224, 224),
    num_classes: int = 1000,
    *,
    width: int = 64,
    small: bool = False,
) -> nn.Module:
    """Return ResNet with 18 layers: eight residual blocks behind one 7 x 7 convolution.

    Parameters have the names of torchvision's.

    Args:
        input_shape: `(C, H, W)` of one image.
        num_classes: Number of outputs.
        width: Channels of the first convolution; all others are in the paper's proportion to it.
        small: Whether images are small, as those of CIFAR: the first convolution is 3 x 3 with stride 1, and nothing is pooled
            after it.

    Raises:
        ValueError: When a number is below 1.

    >>> sum(p.numel() for p in resnet18().parameters())
    11689512
    """
    check_sizes("resnet18", num_classes=num_classes, width=width)
    return _cached(tuple(input_shape), num_classes, width, small)


@functools.cache
def _cached(input_shape: tuple[int, ...], num_classes: int, width: int, small: bool) -> nn.Module:
    def make() -> nn.Module:
        network = nn.Sequential()
        size, stride = (3, 1) if small else (7, 2)
        network.conv1 = nn.Conv2d(input_shape[0], width, size, stride, size // 2, bias=False)
        network.bn1 = nn.BatchNorm2d(width)
        network.relu = nn.ReLU()
        network.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        before = width
        for number, multiple in enumerate((1, 2, 4, 8), start=1):
            channels = multiple * width
            blocks = [Block(before, channels, 1 if number == 1 else 2), Block(channels, channels, 1)]
            network.add_module(f"layer{number}", nn.Sequential(*blocks))
            before = channels
        network.avgpool = nn.AdaptiveAvgPool2d(1)
        network.flatten = nn.Flatten()
        network.fc = nn.Linear(before, num_classes)
        return network

    return built("resnet18", make, input_shape)
