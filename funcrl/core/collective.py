"""Averages over ranks that hold the same agent and parts of its batch, as one operation within a program.

`over(W)` says, while an update is traced or run, that it sees one of W equal parts of a batch. Then `mean` is the mean
over all parts; else it is what it is given. Whoever runs an update in parts has set up `torch.distributed`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from funcrl.core import operators, tree

_count = 1


@contextlib.contextmanager
def over(count: int) -> Iterator[None]:
    """Say that batches are one of `count` parts, within this context."""
    global _count
    before, _count = _count, count
    try:
        yield
    finally:
        _count = before


def parts() -> int:
    """Return into how many parts batches are cut; 1 for whole ones."""
    return _count


def mean(x: Tensor) -> Tensor:
    """Return the mean over all parts of a batch of what each of them has, like `x`."""
    return x if _count == 1 else torch.ops.funcrl.mean_of_ranks(x)


def mean_of_all(values: Any) -> Any:
    """Return a tree of floats averaged over all parts, in one message."""
    leaves = tree.leaves(values)
    if _count == 1 or not leaves:
        return values
    flat = mean(torch.cat([leaf.reshape(-1) for leaf in leaves]))
    pieces = iter(
        [
            piece.reshape(leaf.shape)
            for piece, leaf in zip(torch.split(flat, [leaf.numel() for leaf in leaves]), leaves, strict=True)
        ]
    )
    return tree.map(lambda _: next(pieces), values)


def _mean(x: Tensor) -> Tensor:
    found = x.clone(memory_format=torch.contiguous_format)
    torch.distributed.all_reduce(found)
    return found / torch.distributed.get_world_size()


operators.add(
    "mean_of_ranks(Tensor x) -> Tensor",
    _mean,
    lambda x: torch.empty_like(x, memory_format=torch.contiguous_format),
    lambda info, in_dims, x: (torch.ops.funcrl.mean_of_ranks(x), in_dims[0]),
    is_native=False,
)


def rows(x: Tensor) -> Tensor:
    """Return what all parts of a batch have for their rows, in order: `[..., W · b]` from `[..., b]`."""
    return x if _count == 1 else torch.ops.funcrl.rows_of_ranks(x, _count)


def _rows(x: Tensor, count: int) -> Tensor:
    own = x.contiguous()
    sent = own.view(torch.uint8) if own.dtype == torch.bool else own  # for what carries no booleans
    found = [torch.empty_like(sent) for _ in range(count)]
    torch.distributed.all_gather(found, sent)
    return torch.cat(found, dim=-1).view(own.dtype)


operators.add(
    "rows_of_ranks(Tensor x, int count) -> Tensor",
    _rows,
    lambda x, count: x.new_empty((*x.shape[:-1], x.shape[-1] * count)),
    lambda info, in_dims, x, count: (torch.ops.funcrl.rows_of_ranks(x.movedim(in_dims[0], 0), count), 0),
    is_native=False,
)
