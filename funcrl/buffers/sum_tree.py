"""Drawing places in proportion to numbers that change: a wide tree of sums under a prefix sum.

Each sum is over 16 neighbours, one cache line; the uppermost level, at most 4096 sums, is searched by
its cumulative sum, which all draws of a batch share. Ten thousand numbers take one level of sums, a
million two. Against the alternatives (`benchmarks/test_buffers.py`): a cumulative sum over all numbers
takes time in proportion to them, and a binary tree has up to twenty levels, each a program of its own
to compile and to run.

A changed number's sums are added up anew rather than corrected by the difference, so that rounding
errors do not pile up, and a sum of zeros is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

WIDTH = 16
"""numbers in each sum"""
TOP = 4096
"""largest size of the uppermost level"""

Levels = tuple[Tensor, ...]
"""the numbers first, the uppermost sums last; all but the last are `[·, WIDTH]`, that is `[·]`"""


def init(num_places: int, device: torch.device, width: int = WIDTH, top: int = TOP) -> Levels:
    """Return a tree of zeros.

    Args:
        num_places: How many numbers.
        device: Where they live.
        width: Numbers in each sum.
        top: Largest size of the uppermost level.

    >>> [tuple(level.shape) for level in init(1_000_000, torch.device("cpu"))]
    [(62500, 16), (3907, 16), (3907,)]
    """
    levels = []
    while num_places > top:
        num_places = -(-num_places // width)
        levels.append(torch.zeros(num_places, width, dtype=torch.float32, device=device))
    return *levels, torch.zeros(num_places, dtype=torch.float32, device=device)


def write(levels: Levels, place: Tensor, value: Tensor) -> Levels:
    """Return the tree with other numbers in some places.

    Args:
        levels: The tree.
        place: `[B]` int64. One that occurs twice must come with the same value.
        value: `[B]` at least 0.

    >>> tree = write(init(3, torch.device("cpu"), 2, 2), torch.tensor([0, 1]), torch.tensor([1.0, 2.0]))
    >>> tree[1]
    tensor([3., 0.])
    """
    *lower, top = levels
    written = []
    for level in lower:
        row = place // level.shape[1]
        level = torch.index_put(level, (row, place % level.shape[1]), value)
        written.append(level)
        place, value = row, level[row].sum(dim=-1)
    return *written, torch.index_put(top, (place,), value)


def read(levels: Levels, place: Tensor) -> Tensor:
    """Return the numbers in some places, `[B]`."""
    numbers = levels[0]
    return (
        numbers[place] if numbers.ndim == 1 else numbers[place // numbers.shape[1], place % numbers.shape[1]]
    )


def search(levels: Levels, share: Tensor) -> Tensor:
    """Return the places at which given shares of the sum of all numbers are reached.

    For a share drawn uniformly, a place is found with a probability in proportion to its number; one
    with the number 0 never is, unless all are 0.

    Args:
        levels: The tree.
        share: `[B]` in [0, 1); float64 where there are many places.

    Returns:
        `[B]` int64, always within the tree (the numbers may be NaN).

    >>> tree = write(init(3, torch.device("cpu")), torch.arange(3), torch.tensor([1.0, 0.0, 3.0]))
    >>> search(tree, torch.tensor([0.2, 0.3]))
    tensor([0, 2])
    """
    *lower, top = levels
    cumulative = top.cumsum(dim=0, dtype=torch.float64)
    threshold = (share * cumulative[-1]).contiguous()
    found = torch.searchsorted(cumulative, threshold, right=True).clamp(max=top.shape[0] - 1)
    # On a GPU a cumulative sum may rise by a rounding error where nothing is added.
    node = torch.where(top[found] > 0, found, top.argmax())
    before = torch.where(node > 0, cumulative[node - 1], 0.0)
    # Within one sum float32 is fine enough.
    rest = (threshold - before).to(top.dtype)
    for level in reversed(lower):
        children = level[node]
        cumulative = children.cumsum(dim=-1)
        begin = cumulative - children
        possible = (begin <= rest.unsqueeze(-1)) & (children > 0)
        position = torch.arange(level.shape[1], dtype=top.dtype, device=top.device)
        child = torch.where(possible, position, 0.0).amax(dim=-1)
        rest = rest - torch.where(possible, begin, 0.0).amax(dim=-1)
        node = node * level.shape[1] + child.long()
    return node
