"""Immutable dataclasses that are pytrees, and the few operations on pytrees that funcrl needs.

A struct is a frozen dataclass whose fields are either *leaves* (tensors, or trees of tensors: what
`vmap` maps and `compile` traces) or *static* (integers, strings, modules: what a program is
compiled for). It is registered with torch's own pytree registry, which `torch.func` and
`torch.compile` use, and with optree's, so that either library can walk it. The two order the keys
of a dict differently: never pair the leaves of one with the structure of the other.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, dataclass_transform

import optree
import torch
import torch.utils._pytree as torch_pytree
from torch import Tensor

T = TypeVar("T")

OPTREE_NAMESPACE = "funcrl"
"""Namespace in which structs are known to optree: `optree.tree_map(f, x, namespace="funcrl")`."""

_IN_ORDER = "funcrl-in-order"
"""The same for `map` and `leaves`, which take the values of a dict in the order in which they came into it."""
_kept = contextlib.ExitStack()
_kept.enter_context(optree.dict_insertion_ordered(True, namespace=_IN_ORDER))


def static(*, default: Any = dataclasses.MISSING) -> Any:
    """Declare a struct field that is part of the program rather than of the data.

    Args:
        default: Default value of the field; required at construction when absent. Static values
            are compared with `==` when programs are looked up, so they must be immutable.

    >>> @struct
    ... class Config:
    ...     gamma: float = 0.99
    ...     num_envs: int = static(default=4)
    >>> leaves(Config())
    [0.99]
    """
    return dataclasses.field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def struct(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and a pytree node.

    Fields are leaves unless they are declared with `static`. Rebuilding a struct from its leaves
    does not run `__post_init__`, so checks there see only what a person wrote.

    Raises:
        TypeError: When a field has a mutable default (as dataclasses do).

    >>> @struct
    ... class Pair:
    ...     left: int
    ...     right: int
    >>> map(lambda x: 10 * x, Pair(1, 2))
    Pair(left=10, right=20)
    """
    frozen: Any = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(frozen)
    leaf_names = tuple(f.name for f in fields if not f.metadata.get("static", False))
    static_names = tuple(f.name for f in fields if f.metadata.get("static", False))

    def flatten(value: Any) -> tuple[list[Any], tuple[Any, ...]]:
        children = [getattr(value, name) for name in leaf_names]
        return children, tuple(getattr(value, name) for name in static_names)

    def unflatten(children: Any, context: Any) -> Any:
        value = object.__new__(frozen)
        for name, child in zip(leaf_names, children, strict=True):
            object.__setattr__(value, name, child)
        for name, fixed in zip(static_names, context, strict=True):
            object.__setattr__(value, name, fixed)
        return value

    def flatten_with_keys(value: Any) -> tuple[list[tuple[Any, Any]], Any]:
        children, context = flatten(value)
        keys = [torch_pytree.GetAttrKey(name) for name in leaf_names]
        return list(zip(keys, children, strict=True)), context

    torch_pytree.register_pytree_node(frozen, flatten, unflatten, flatten_with_keys_fn=flatten_with_keys)
    for namespace in (OPTREE_NAMESPACE, _IN_ORDER):
        optree.register_pytree_node(
            frozen,
            lambda value: (*flatten(value), leaf_names),
            lambda context, children: unflatten(children, context),
            namespace=namespace,
        )
    return frozen  # type: ignore[no-any-return]


def map(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply `function` to every leaf of `tree` (and to the matching leaves of `rest`).

    >>> map(lambda x, y: x + y, {"a": 1}, {"a": 2})
    {'a': 3}
    """
    if torch.compiler.is_compiling():  # which can follow torch's own walk alone
        return torch_pytree.tree_map(function, tree, *rest)
    return optree.tree_map(function, tree, *rest, none_is_leaf=True, namespace=_IN_ORDER)


def leaves(tree: Any) -> list[Any]:
    """Return the leaves of `tree` in the order of its fields.

    >>> leaves({"b": 1, "a": (2, 3)})
    [1, 2, 3]
    """
    if torch.compiler.is_compiling():
        return torch_pytree.tree_leaves(tree)
    return optree.tree_leaves(tree, none_is_leaf=True, namespace=_IN_ORDER)


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """Return the leaves of a tree and its structure, by optree: five times as fast as torch's.

    Dicts are taken in the order of their keys: pair these leaves with this structure alone.
    """
    return optree.tree_flatten(tree, namespace=OPTREE_NAMESPACE)


def unflatten(structure: Any, leaves: Sequence[Any]) -> Any:
    """Rebuild the tree that `flatten` took apart."""
    return optree.tree_unflatten(structure, leaves)


def named_leaves(tree: Any) -> dict[str, Any]:
    """Return the leaves of `tree` by path, as `{".params['weight']": tensor}`.

    >>> named_leaves({"a": (2, 3)})
    {"['a'][0]": 2, "['a'][1]": 3}
    """
    pairs, _ = torch_pytree.tree_flatten_with_path(tree)
    return {torch_pytree.keystr(path): leaf for path, leaf in pairs}


def as_tensor(leaf: Any) -> Tensor:
    """Return a leaf as a tensor: a number becomes one on the CPU, a float a float32, whatever torch's settings.

    >>> as_tensor(0.5).dtype, as_tensor(True).dtype
    (torch.float32, torch.bool)
    """
    if isinstance(leaf, Tensor):
        return leaf
    dtype = torch.float32 if isinstance(leaf, float) else None
    return torch.as_tensor(leaf, dtype=dtype, device="cpu")


def stack(trees: Sequence[T]) -> T:
    """Stack trees of one structure along a new first axis: lanes from single states.

    Args:
        trees: At least one tree. Numbers become tensors.

    Raises:
        ValueError: When there is no tree, or when their structures (static fields included) differ.

    >>> stack([{"a": torch.tensor(1)}, {"a": torch.tensor(2)}])
    {'a': tensor([1, 2])}
    """
    if not trees:
        raise ValueError("tree.stack: trees must hold at least one tree, got none.")
    structure = torch_pytree.tree_structure(trees[0])
    for other in trees[1:]:
        found = torch_pytree.tree_structure(other)
        if found != structure:
            raise ValueError(
                "tree.stack: trees must share one structure and equal static fields, "
                f"got {structure} and {found}."
            )
    return map(lambda *xs: torch.stack([as_tensor(x) for x in xs]), trees[0], *trees[1:])  # type: ignore[no-any-return]


def index(tree: T, position: Any) -> T:
    """Take `leaf[position]` of every leaf: one lane, or a slice of lanes.

    >>> index({"a": torch.tensor([1, 2])}, 1)
    {'a': tensor(2)}
    """
    return map(lambda leaf: leaf[position], tree)  # type: ignore[no-any-return]


def replace(tree: T, **changes: Any) -> T:
    """Return a copy of a struct with some fields changed; the original keeps its values.

    Raises:
        TypeError: When `tree` has no such field.

    >>> @struct
    ... class Point:
    ...     x: int
    >>> replace(Point(1), x=2)
    Point(x=2)
    """
    return dataclasses.replace(tree, **changes)  # type: ignore[type-var]


def where(condition: Tensor, tree: T, other: T) -> T:
    """Choose between two trees of one structure by a condition on their leading axes.

    Args:
        condition: `[...]` boolean; extended on the right to the rank of each leaf.
        tree: Taken where the condition holds.
        other: Taken elsewhere.

    >>> where(torch.tensor(False), {"a": torch.ones(2)}, {"a": torch.zeros(2)})
    {'a': tensor([0., 0.])}
    """

    def choose(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(condition.reshape(condition.shape + (1,) * (x.ndim - condition.ndim)), x, y)

    return map(choose, tree, other)  # type: ignore[no-any-return]
