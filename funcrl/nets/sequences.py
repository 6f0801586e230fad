"""A recurrent cell that reads to the end, and a linear layer on what it holds then: sequences, and images row by row."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from funcrl.core import checks
from funcrl.nets.mlp import Linear
from funcrl.nets.recurrent import CELLS, Cell


class Reader(nn.Module):
    """What `reader` builds, on the meta device: it holds shapes, not numbers."""

    def __init__(self, cell: Cell, output_size: int) -> None:
        super().__init__()
        self.cell = cell
        self.head = Linear(cell.size, output_size, None)

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences `[B, L, X]`, or images `[B, C, H, W]` of which each row is a step, to `[B, out]`."""
        x = x.transpose(1, 2).flatten(2) if x.ndim == 4 else x
        x = x if x.is_floating_point() else x.to(torch.float32)
        nothing = torch.zeros((len(x), self.cell.size), dtype=x.dtype, device=x.device)
        hidden = self.cell(x, (nothing,) * self.cell.num_carries)[0]
        return self.head(hidden[:, -1])  # type: ignore[no-any-return]


def reader(
    input_shape: Sequence[int] = (1, 28, 28), output_size: int = 10, *, cell: str = "gru", width: int = 64
) -> nn.Module:
    """Return the template of a network that reads a sequence and answers at its end.

        h_t = cell(x_t, h_{t-1}),  h_0 = 0;  y = W h_L + b

    The same arguments return the same object. Every step is in the program: compiling takes longer with each.

    Args:
        input_shape: `(L, X)` of one sequence, of which any L will do later, or `(C, H, W)` of one image, which is read
            from the top: L = H, X = C · W.
        output_size: Number of outputs.
        cell: One of `recurrent.CELLS`: gru, lstm or rnn.
        width: Numbers that the cell holds.

    Raises:
        ValueError: When a name is unknown or a number is below 1.

    >>> reader((1, 28, 28), 10, cell="rnn", width=8)(torch.zeros(5, 1, 28, 28, device="meta")).shape
    torch.Size([5, 10])
    """
    name, shape = "nets.reader", tuple(input_shape)
    hold = "be (length, features) or (channels, height, width)"
    checks.require(len(shape) in (2, 3), name, "input_shape", hold, shape)
    for argument, sizes in (("input_shape", shape), ("output_size", (output_size,)), ("width", (width,))):
        for size in sizes:
            checks.integer(name, argument, size, 1)
    checks.known(name, "cell", cell, CELLS)
    features = shape[1] if len(shape) == 2 else shape[0] * shape[2]
    return _cached(features, output_size, cell, width)


@functools.cache
def _cached(features: int, output_size: int, cell: str, width: int) -> nn.Module:
    return Reader(CELLS[cell](features, width), output_size)
