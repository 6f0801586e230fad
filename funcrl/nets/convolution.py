"""A small convolutional network, for images under `vmap` over lanes.

With weights of its own in each lane, `torch.nn.Conv2d` under `vmap` becomes a grouped convolution. The
other way is to lay patches out as rows and to multiply them with the kernel as a matrix, which under `vmap` is
one batched product. Which one is faster on a CPU, forwards and backwards, goes by how many numbers the rows
of a lane are: a few thousand are twice to five times faster as a product, a million or more twice to four times
as a grouped convolution, and in between there is little to choose (`python benchmarks/networks.py --convolutions`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funcrl.core import checks
from funcrl.nets import initialisers
from funcrl.nets.mlp import ACTIVATIONS, MLP, NORMALIZATIONS, between

LARGEST_ROWS = 2**17
"""Numbers in the rows of a lane up to which convolutions are matrix products, on a CPU; half a megabyte, which its cache holds."""


def convolution(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Return the convolution of images with channels last, padded so that stride 1 keeps their size.

    y[i, j, o] = b[o] + Σ_{u, v, c} W[o, c, u, v] · x[i·stride + u - ⌊K/2⌋, j·stride + v - ⌊K/2⌋, c]

    Equal to `torch.nn.functional.conv2d` with padding ⌊K/2⌋ (which has channels first).

    Args:
        x: `[B, H, W, C]`.
        weight: `[O, C, K, K]`, K odd.
        bias: `[O]`.
        stride: Distance between neighbouring patches.

    Returns:
        `[B, ⌈H/stride⌉, ⌈W/stride⌉, O]`.

    >>> convolution(torch.ones(1, 1, 2, 1), torch.ones(1, 1, 3, 3), torch.zeros(1), 1).flatten()
    tensor([2., 2.])
    """
    _, height, width, _ = x.shape
    size = weight.shape[-1]
    pad = size // 2
    rows, columns = -(-height // stride), -(-width // stride)
    # A program that is exported takes any number of images, which decide nothing then.
    known = x.device.type == "cpu" and isinstance(x.shape[0], int)
    if known and x.shape[0] * rows * columns * weight[0].numel() > LARGEST_ROWS:
        # The bias apart: as a part of `conv2d` its gradient takes as long as the rest.
        return F.conv2d(x.movedim(-1, 1), weight, None, stride, padding=pad).movedim(1, -1) + bias
    down, right = (rows - 1) * stride + 1, (columns - 1) * stride + 1
    # First the K rows of every patch and then its columns: 2K slices, which compile in half the
    # time that K² take. Slices and not indices, whose gradients are added up in any order.
    x = F.pad(x, (0, 0, pad, pad, pad, pad))
    x = torch.cat([x[:, i : i + down : stride] for i in range(size)], dim=-1)
    x = torch.cat([x[:, :, j : j + right : stride] for j in range(size)], dim=-1)
    kernel = weight.permute(3, 2, 1, 0).flatten(0, 2)
    return (x.flatten(0, 2) @ kernel + bias).reshape(-1, rows, columns, weight.shape[0])


class Convolution(nn.Module):
    """A layer that computes `convolution`, on the meta device: it holds shapes, not numbers."""

    def __init__(
        self, in_channels: int, out_channels: int, size: int, stride: int, gain: float | None
    ) -> None:
        super().__init__()
        self.stride = stride
        theirs = initialisers.uniform(1.0 / math.sqrt(in_channels * size**2))  # what nn.Conv2d has
        self.initialisers = initialisers.scaled(gain) or {"weight": theirs, "bias": theirs}
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, size, size, dtype=torch.float32, device="meta")
        )
        self.bias = nn.Parameter(torch.empty(out_channels, dtype=torch.float32, device="meta"))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, H, W, C]` to `[B, H', W', O]`."""
        return convolution(x, self.weight, self.bias, self.stride)


class CNN(nn.Module):
    """Convolutions and linear layers with an activation after each but the last; built by `cnn`."""

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        channels: tuple[int, ...],
        hidden: tuple[int, ...],
        output_size: int,
        kernel_size: int,
        strides: tuple[int, ...],
        activation: str,
        hidden_gain: float | None,
        output_gain: float | None,
        normalization: str,
    ) -> None:
        super().__init__()
        in_channels, height, width = input_shape
        layers: list[nn.Module] = []
        for out_channels, stride in zip(channels, strides, strict=True):
            layer = Convolution(in_channels, out_channels, kernel_size, stride, hidden_gain)
            layers += [layer, *between(out_channels, activation, normalization)]
            in_channels, height, width = out_channels, -(-height // stride), -(-width // stride)
        self.convolutions = nn.Sequential(*layers)
        sizes = (in_channels * height * width, *hidden, output_size)
        self.head = MLP(sizes, activation, hidden_gain, output_gain, 3, normalization)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., C, H, W]` to `[..., out]`."""
        # Images come as integers too.
        x = x if x.is_floating_point() else x.to(torch.float32)
        leading = x.shape[:-3]
        x = self.convolutions(x.reshape(-1, *x.shape[-3:]).movedim(1, -1))
        # Channels first again, so that the head's weights mean what they mean after an nn.Conv2d.
        return self.head(x.movedim(-1, 1)).reshape(*leading, -1)  # type: ignore[no-any-return]


def cnn(
    input_shape: Sequence[int],
    channels: Sequence[int],
    hidden: Sequence[int],
    output_size: int,
    *,
    kernel_size: int = 3,
    stride: int | Sequence[int] = 2,
    activation: str = "relu",
    normalization: str = "none",
    hidden_gain: float | None = math.sqrt(2.0),
    output_gain: float | None = 1.0,
) -> nn.Module:
    """Return the template of a small convolutional network with orthogonal weights and zero biases.

    The same arguments return the same object, so that states made separately can be stacked.
    Often wrong: feeding images as Gymnasium has them, `[H, W, C]`; channels come first here.

    Args:
        input_shape: `(C, H, W)` of one image.
        channels: Output channels of each convolution; at least one.
        hidden: Width of each hidden layer after the convolutions.
        output_size: Number of outputs.
        kernel_size: Side of the kernels, odd; images are padded with half of it on each side.
        stride: Of every convolution, or one for each.
        activation: One of `elu`, `gelu`, `relu`, `silu`, `tanh`.
        normalization: `layer` to normalise before each activation, over the channels of each pixel and
            over the features of hidden layers (Ba et al. 2016, arXiv 1607.06450), or `none`.
        hidden_gain: Scale of the orthogonal weights of all layers but the last; None for U(±1/√fan_in).
        output_gain: Scale of the last layer's, likewise.

    Raises:
        ValueError: When a size, the number of strides or a name is not possible.

    >>> sum(p.numel() for p in cnn((1, 8, 8), (16, 32), (64,), 10).parameters())
    13706
    """
    name = "nets.cnn"
    shape = tuple(input_shape)
    checks.require(len(shape) == 3, name, "input_shape", "be (channels, height, width)", shape)
    checks.require(len(channels) > 0, name, "channels", "hold at least one number", tuple(channels))
    strides = (stride,) * len(channels) if isinstance(stride, int) else tuple(stride)
    hold = f"be one integer or one for each of {len(channels)} convolutions"
    checks.require(len(strides) == len(channels), name, "stride", hold, strides)
    for size in (*shape, *channels, *hidden, output_size, kernel_size):
        checks.integer(name, "size of a layer", size, 1)
    for step in strides:
        checks.integer(name, "stride", step, 1)
    checks.require(kernel_size % 2 == 1, name, "kernel_size", "be odd", kernel_size)
    checks.known(name, "activation", activation, ACTIVATIONS)
    checks.known(name, "normalization", normalization, NORMALIZATIONS)
    layers = (tuple(channels), tuple(hidden), output_size, kernel_size, strides)
    return _cached(shape, *layers, activation, hidden_gain, output_gain, normalization)


@functools.cache
def _cached(*arguments: object) -> nn.Module:
    return CNN(*arguments)  # type: ignore[arg-type]
