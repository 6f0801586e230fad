"""Trees walked in a fifth of the steps of torch's own, which torch.compile traces one by one.

More than half of what it costs to trace `torch.vmap(update)` is how `vmap`, `grad` and `map` walk the trees of
states and batches, and `functional_call` the modules of a network, through the same lines of torch for every
algorithm. Here trees are walked by the registry of torch, as there, so that what an algorithm adds to it, its
fields and static settings, is traced all the same; dicts of tensors go to torch's `tree_map`, which
torch.compile knows without tracing it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch._functorch.eager_transforms as torch_transforms
import torch._functorch.vmap as torch_vmap
import torch.nn.utils.stateless as stateless
import torch.utils._pytree as torch_pytree
from torch import Tensor, nn
from torch._functorch.predispatch import _add_batch_dim, _remove_batch_dim
from torch.utils._pytree import SUPPORTED_NODES

from funcrl.core import tree

_BY_TORCH = {
    name: getattr(module, name)
    for module, name in (
        (torch_vmap, "_process_batched_inputs"),
        (torch_vmap, "_create_batched_inputs"),
        (torch_vmap, "_unwrap_batched"),
        (stateless, "_functional_call"),
    )
}


@contextmanager
def quickly_walked() -> Iterator[None]:
    """Let `vmap`, `grad_and_value`, `functional_call` and `tree` walk trees and modules by the functions of this file."""
    vmap = mock.patch.multiple(
        torch_vmap, _process_batched_inputs=_begin, _create_batched_inputs=_split, _unwrap_batched=_join
    )
    grad = mock.patch.multiple(
        torch_transforms, tree_flatten=flatten, tree_unflatten=unflatten, tree_map=mapped, tree_map_=mapped
    )
    call = mock.patch.multiple(stateless, _functional_call=_call)
    with vmap, grad, call, mock.patch.multiple(tree, map=mapped, leaves=leaves, replace=replaced):
        yield


def mapped(function: Callable[..., Any], node: Any, *rest: Any) -> Any:
    """Return the tree of what a function makes of each leaf, and of those at the same place."""
    if isinstance(node, Tensor):
        return function(node, *rest)
    kind = type(node)
    if kind not in SUPPORTED_NODES or (
        kind is dict and isinstance(next(iter(node.values()), None), Tensor | dict)
    ):
        return torch_pytree.tree_map(function, node, *rest)
    children, context = SUPPORTED_NODES[kind].flatten_fn(node)
    if rest:
        others = [SUPPORTED_NODES[kind].flatten_fn(one)[0] for one in rest]
        found = [mapped(function, *parts) for parts in zip(children, *others, strict=True)]
    else:
        found = [function(x) if isinstance(x, Tensor) else mapped(function, x) for x in children]
    return SUPPORTED_NODES[kind].unflatten_fn(found, context)


def leaves(node: Any) -> list[Any]:
    """Return the leaves of a tree."""
    return flatten(node)[0]


def replaced(node: Any, **changes: Any) -> Any:
    """Return a copy of a struct with some fields changed."""
    kept = {name: getattr(node, name) for name in type(node).__dataclass_fields__ if name not in changes}
    return type(node)(**kept, **changes)


def flatten(node: Any) -> tuple[list[Any], Any]:
    """Return the leaves, and what `unflatten` needs beside them: nothing for a leaf."""
    found: list[Any] = []
    return found, _flatten(node, found)


def _flatten(node: Any, found: list[Any]) -> Any:
    kind = type(node)
    if kind not in SUPPORTED_NODES:
        found.append(node)
        return None
    children, context = SUPPORTED_NODES[kind].flatten_fn(node)
    if all(isinstance(x, Tensor) for x in children):
        found.extend(children)
        return kind, context, [None] * len(children)
    return kind, context, [_flatten(child, found) for child in children]


def unflatten(leaves: Any, structure: Any) -> Any:
    """Return the tree of these leaves."""
    return _unflatten(iter(leaves), structure)


def _unflatten(leaves: Iterator[Any], structure: Any) -> Any:
    if structure is None:
        return next(leaves)
    kind, context, parts = structure
    return SUPPORTED_NODES[kind].unflatten_fn([_unflatten(leaves, part) for part in parts], context)


def _begin(axes: Any, given: tuple[Any, ...], function: Any) -> tuple[int, Any, Any, Any]:
    """Return how many lanes there are; arguments are not taken apart where all of one lies along axis 0, or none."""
    each = (axes,) * len(given) if isinstance(axes, int) else axes
    if not all(axis in (0, None) for axis in each):
        return _BY_TORCH["_process_batched_inputs"](axes, given, function)
    return _first(given[each.index(0)]).size(0), each, given, None


def _first(node: Any) -> Any:
    while not isinstance(node, Tensor):
        node = SUPPORTED_NODES[type(node)].flatten_fn(node)[0][0]
    return node


def _split(axes: Any, given: Any, level: int, structure: Any) -> Any:
    if isinstance(axes, list):
        return _BY_TORCH["_create_batched_inputs"](axes, given, level, structure)
    add = lambda x: _add_batch_dim(x, 0, level)
    return tuple(x if axis is None else mapped(add, x) for axis, x in zip(axes, given, strict=True))


def _join(found: Any, axes: Any, level: int, lanes: int, function: Any) -> Any:
    if axes != 0:
        return _BY_TORCH["_unwrap_batched"](found, axes, level, lanes, function)
    return mapped(lambda x: _remove_batch_dim(x, level, lanes, 0), found)


def _call(module: nn.Module, numbers: dict[str, Tensor], inputs: Any, *rest: Any, **settings: Any) -> Any:
    """Return what a module makes of its inputs with these parameters, none of which it has under two names."""
    places = []
    for path in numbers:
        *names, name = path.split(".")
        owner = module
        for part in names:
            owner = getattr(owner, part)
        if name not in owner._parameters:
            return _BY_TORCH["_functional_call"](module, numbers, inputs, *rest, **settings)
        places.append((owner._parameters, name))
    own = [held[name] for held, name in places]
    for (held, name), number in zip(places, numbers.values(), strict=True):
        held[name] = number
    found = module(*inputs)
    for (held, name), number in zip(places, own, strict=True):
        held[name] = number
    return found
