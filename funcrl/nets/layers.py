"""Layers that take the place of torch's where a network is a pure function: their chance is a key, what they keep is returned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from funcrl.core import random
from funcrl.core.checks import require

KEY = "dropout_key"
"""the buffer in which a `Dropout` finds what it draws from"""


class Dropout(nn.Dropout):
    """Keeps each element with probability 1 - p, divided by it, while one trains; drawn from a key, not from torch's state.

    Source: Srivastava et al. 2014, JMLR 15. In any network that is run by `nets.run` it takes the place of `nn.Dropout`.
    """

    dropout_key: Tensor

    def __init__(self, p: float = 0.5) -> None:
        require(0 <= p < 1, "nets.Dropout", "p", "lie in [0, 1)", p)
        super().__init__(p)
        self.register_buffer(KEY, torch.zeros(2, dtype=torch.int32, device="meta"))

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to itself; called once more in the same run, it draws anew."""
        if not self.training or self.p == 0:
            return x
        key = self.dropout_key
        self.dropout_key = random.fold_in(key, 1)
        kept = random.uniform(key, x.shape) >= self.p
        return torch.where(kept, x / (1 - self.p), 0.0)


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """torch's batch normalisation from plain operations, which `vmap` maps within one another and compilers fuse.

    Source: Ioffe & Szegedy 2015, arXiv 1502.03167, algorithms 1 and 2. In any network that is run by `nets.run`, or is an
    agent's own, it takes the place of `nn.BatchNorm1d` to `nn.BatchNorm3d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, ...]` to itself."""
        fits = x.ndim >= 2 and x.shape[1] == self.num_features
        require(fits, "BatchNorm", "input", f"be [B, {self.num_features}, ...]", tuple(x.shape))
        others = [axis for axis in range(x.ndim) if axis != 1]
        mean, variance = self.running_mean, self.running_var
        if self.training or mean is None or variance is None:
            count, hold = x.numel() // self.num_features, "have two numbers a channel to learn from"
            instead = "Take larger batches, or nn.LayerNorm."
            require(count > 1, "BatchNorm", "input", hold, tuple(x.shape), instead)
            mean, variance = x.mean(others), x.var(others, correction=0)
            self._follow(mean.detach(), variance.detach(), count)
        row = [1, -1, *[1] * (x.ndim - 2)]
        y = (x - mean.reshape(row)) * torch.rsqrt(variance + self.eps).reshape(row)
        y = y if self.weight is None else y * self.weight.reshape(row)
        return y if self.bias is None else y + self.bias.reshape(row)

    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Let the running moments go a part of the way; what is kept is a new tensor, never written into."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked = self.num_batches_tracked + 1
        part = 1.0 / self.num_batches_tracked if self.momentum is None else self.momentum
        unbiased = variance * (count / max(count - 1, 1))
        self.running_mean = (1 - part) * self.running_mean + part * mean
        self.running_var = (1 - part) * self.running_var + part * unbiased

    def _check_input_dim(self, x: Tensor) -> None: ...


class TilesAverage(nn.AvgPool2d):
    """`nn.AvgPool2d` whose windows neither overlap nor leave gaps, as the mean over two axes.

    For the general one's gradient the compiler works out which windows a pixel lies in: three times as long as it takes for
    all the rest of a small network.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., H, W]` to `[..., ⌊H / K⌋, ⌊W / L⌋]`."""
        (down, across), (height, width) = _pair(self.kernel_size), x.shape[-2:]
        rows, columns = height // down, width // across
        require(
            rows > 0 and columns > 0, "AvgPool2d", "input", f"be at least {down} x {across}", tuple(x.shape)
        )
        x = x[..., : rows * down, : columns * across]
        return x.reshape(*x.shape[:-2], rows, down, columns, across).mean(dim=(-3, -1))


def replaced(network: nn.Module) -> nn.Module:
    """Put these layers into a network, in the place of those of exactly torch's classes; it is changed.

    A layer becomes another one where it stands, so that what is shared, or tied to others, stays so.

    >>> replaced(nn.Sequential(nn.Dropout(0.1)))
    Sequential(
      (0): Dropout(p=0.1, inplace=False)
    )
    """
    for layer in network.modules():
        if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            layer.__class__ = BatchNorm
        elif type(layer) is nn.Dropout:
            layer.__class__ = Dropout
            layer.register_buffer(KEY, torch.zeros(2, dtype=torch.int32, device="meta"))
        elif type(layer) is nn.AvgPool2d and _is_of_tiles(layer):
            layer.__class__ = TilesAverage
    return network


def _is_of_tiles(layer: nn.AvgPool2d) -> bool:
    padded = _pair(layer.padding) != (0, 0) or layer.ceil_mode or layer.divisor_override is not None
    return not padded and _pair(layer.kernel_size) == _pair(layer.stride)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
