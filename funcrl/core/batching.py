"""`vmap` for funcrl's own code: torch's, entered and left several times faster.

Most of what a mapped call costs in Python is that torch walks every tree five times, with functions in Python.
Here optree walks each once; what maps is torch's own. Within `torch.compile` and `torch.export`, which know
`torch.vmap` by name, that one is called. So it is for everything out of the ordinary, whose errors are torch's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from funcrl.core import internals, tree

P = ParamSpec("P")
R = TypeVar("R")
Axes = int | tuple[int | tuple[Any, ...] | None, ...]


def vmap(function: Callable[P, R], in_dims: Axes = 0, out_dims: Axes = 0) -> Callable[P, R]:
    """Return what maps a function over an axis of its arguments, as `torch.vmap` does.

    Args:
        function: From trees of tensors to a tree of tensors.
        in_dims: The axis of all leaves, or one an argument; None for an argument that all share.
        out_dims: Where the axis is to lie in the leaves of the result, or one an element where that is a tuple.

    >>> vmap(lambda x, y: {"sum": x + y}, in_dims=(0, None))(torch.tensor([1, 2]), torch.tensor(3))
    {'sum': tensor([4, 5])}
    """

    @functools.wraps(function, updated=())
    def mapped(*args: Any) -> Any:
        found = None if _is_within_a_compiler() else _take_apart(args, in_dims)
        done = None if found is None else _run(function, *found, out_dims)
        return _of_torch(function, in_dims, out_dims)(*args) if done is None else done[0]

    return cast("Callable[P, R]", mapped)


_of_torch: Any = torch.vmap


def _is_within_a_compiler() -> bool:
    return torch.compiler.is_compiling() or torch.compiler.is_exporting()


Part = tuple[list[Tensor], Any, int]
"""Leaves, structure and axis of an argument."""


def _take_apart(args: tuple[Any, ...], in_dims: Axes) -> tuple[list[Any], list[Part | None], int] | None:
    """Return arguments, the parts of those that are mapped and the length of the axis; None for what is odd."""
    axes = in_dims if isinstance(in_dims, tuple) else (in_dims,) * len(args)
    if len(axes) != len(args):
        return None
    parts: list[Part | None] = []
    lengths = set()
    for arg, axis in zip(args, axes, strict=True):
        if axis is None:
            parts.append(None)
            continue
        leaves, structure = tree.flatten(arg)
        if type(axis) is not int or not all(isinstance(x, Tensor) and 0 <= axis < x.ndim for x in leaves):
            return None
        lengths.update([x.shape[axis] for x in leaves])
        parts.append((leaves, structure, axis))
    return (list(args), parts, lengths.pop()) if len(lengths) == 1 else None


def _run(
    function: Callable[..., Any], args: list[Any], parts: list[Part | None], length: int, out_dims: Axes
) -> tuple[Any] | None:
    """Return the result in a tuple; None where torch has no such functions any more, or for an odd result."""
    axes = internals.batch_axes()
    if axes is None:
        return None
    level = axes.enter(length, "error")
    try:
        for number, part in enumerate(parts):
            if part is not None:
                leaves, structure, axis = part
                args[number] = tree.unflatten(structure, [axes.add(x, axis, level) for x in leaves])
        out = function(*args)
        if not isinstance(out_dims, tuple):
            return _put_together(axes, out, out_dims, level, length)
        if not isinstance(out, tuple) or len(out) != len(out_dims):
            return None
        found = [_put_together(axes, x, axis, level, length) for x, axis in zip(out, out_dims, strict=True)]
    finally:
        axes.leave()
    return None if None in found else (tuple(x[0] for x in found if x is not None),)


def _put_together(
    axes: internals.BatchAxes, out: Any, axis: Any, level: int, length: int
) -> tuple[Any] | None:
    leaves, structure = tree.flatten(out)
    if type(axis) is not int or not all(isinstance(x, Tensor) for x in leaves):
        return None
    return (tree.unflatten(structure, [axes.remove(x, level, length, axis) for x in leaves]),)
