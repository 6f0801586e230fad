"""Trees taken apart and put together in a third of the steps of torch's own, which torch.compile traces one by one.

Half of what it costs to trace `torch.vmap(update)` is how `vmap` walks the trees of states and batches,
through the same lines of torch for every algorithm. Here they are walked by the registry of torch, as
there, so that what an algorithm adds to it, its fields and static settings, is traced all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch._functorch.vmap as torch_vmap
from torch.utils._pytree import SUPPORTED_NODES, _get_node_type, tree_is_leaf


@contextmanager
def quickly_walked() -> Iterator[None]:
    """Let `torch.vmap` walk trees by the functions of this file."""
    with mock.patch.multiple(
        torch_vmap, tree_flatten=flatten, tree_unflatten=unflatten, _broadcast_to_and_flatten=broadcast
    ):
        yield


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """Return the leaves, and what `unflatten` needs beside them: nothing for a leaf."""
    if tree_is_leaf(tree):
        return [tree], None
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(node: Any, leaves: list[Any]) -> Any:
    kind = _get_node_type(node)
    children, context = SUPPORTED_NODES[kind].flatten_fn(node)
    parts = []
    for child in children:
        if tree_is_leaf(child):
            leaves.append(child)
            parts.append(None)
        else:
            parts.append(_flatten(child, leaves))
    return kind, context, parts


def unflatten(leaves: list[Any], structure: Any) -> Any:
    """Return the tree of these leaves."""
    return leaves[0] if structure is None else _unflatten(iter(leaves), structure)


def _unflatten(leaves: Iterator[Any], structure: Any) -> Any:
    kind, context, parts = structure
    children = [next(leaves) if part is None else _unflatten(leaves, part) for part in parts]
    return SUPPORTED_NODES[kind].unflatten_fn(children, context)


def broadcast(axes: int | tuple[int, ...], structure: Any) -> list[int]:
    """Return the axis of each leaf, given that of all, or those of the parts at the top."""
    if isinstance(axes, int):
        return [axes] * _count(structure)
    _, _, parts = structure
    return [axis for axis, part in zip(axes, parts, strict=True) for _ in range(_count(part))]


def _count(structure: Any) -> int:
    if structure is None:
        return 1
    total = 0
    for part in structure[2]:
        total += 1 if part is None else _count(part)
    return total
