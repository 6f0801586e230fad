"""Structs of which some numbers differ from lane to lane.

A person writes `CartPole(half_length=[0.5, 1.0])` or `Config(learning_rate=[1e-3, 1e-4])`: a float
field that holds several values holds one a lane. `spread` checks that and makes them tensors;
`Lanes` takes the tensors out, so that a program can take them as arguments and map over them while
all other numbers stay constants of the program.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch
from torch import Tensor

from funcrl.core.checks import require

T = TypeVar("T")


def count(function: str, argument: str, value: Any) -> int | None:
    """Return how many numbers the float fields of a struct hold that hold several; None where none does.

    Args:
        function: Who complains.
        argument: How the user calls the struct: `"config"`.
        value: A struct.

    Raises:
        TypeError: When a float field holds something else.

    >>> from funcrl.core import tree
    >>> @tree.struct
    ... class Config:
    ...     gamma: float = 0.99
    >>> count("solve", "config", Config([0.5, 0.25])), count("solve", "config", Config())
    (2, None)
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return None
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        name = f"{argument}.{field.name}"
        if field.metadata.get("static", False):
            continue
        if dataclasses.is_dataclass(item):
            found = count(function, name, item)
            if found is not None:
                return found
        elif field.type in ("float", float) and _is_several(item):
            numbers = _numbers(function, name, item, torch.float32)
            if numbers.ndim:
                return len(numbers)
    return None


def spread(function: str, argument: str, value: T, num_lanes: int, dtype: torch.dtype = torch.float32) -> T:
    """Return a struct whose float fields are numbers, or tensors `[num_lanes]` where several are given.

    Structs in its fields are treated likewise. Every lane's values pass the struct's own checks.

    Args:
        function: Who complains.
        argument: How the user calls the struct: `"config"`.
        value: A struct; its float fields may be numbers, lists, arrays or tensors.
        num_lanes: Number of values that a field with several must hold.
        dtype: Of the tensors.

    Raises:
        TypeError: When a float field holds something else.
        ValueError: When the values are not as many as lanes, or one of them is out of range.

    >>> from funcrl.core import tree
    >>> @tree.struct
    ... class Config:
    ...     gamma: float = 0.99
    >>> spread("train", "config", Config(gamma=[0.5, 0.25]), 2)
    Config(gamma=tensor([0.5000, 0.2500]))
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    columns: dict[str, Tensor] = {}
    inner: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        name = f"{argument}.{field.name}"
        if field.metadata.get("static", False):
            continue
        if dataclasses.is_dataclass(item):
            inner[field.name] = spread(function, name, item, num_lanes, dtype)
        elif field.type in ("float", float) and _is_several(item):
            columns[field.name] = _column(function, name, item, num_lanes, dtype)
    for lane in range(num_lanes if columns else 0):
        dataclasses.replace(value, **{name: float(column[lane]) for name, column in columns.items()})
    if not columns and all(inner[name] is getattr(value, name) for name in inner):
        return value
    return dataclasses.replace(value, **columns, **inner)


def _is_several(item: Any) -> bool:
    return isinstance(item, (list, tuple)) or hasattr(item, "__array__")


def _column(function: str, name: str, item: Any, num_lanes: int, dtype: torch.dtype) -> Tensor:
    column = _numbers(function, name, item, dtype)
    if column.ndim == 0:
        column = column.expand(num_lanes)
    require(
        tuple(column.shape) == (num_lanes,),
        function,
        name,
        f"be one number or hold one for each of {num_lanes} lanes (one a seed, or one an environment)",
        list(column.shape),
    )
    return column.clone()


def first(value: Any) -> Any:
    """Return a struct with the first number of every float field that holds several.

    >>> from funcrl.core import tree
    >>> @tree.struct
    ... class Env:
    ...     length: float = 0.5
    >>> first(Env(length=[1.0, 2.0]))
    Env(length=1.0)
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if dataclasses.is_dataclass(item):
                value = _set(value, (field.name,), first(item))
            elif field.type in ("float", float) and _is_several(item):
                column = _numbers(type(value).__name__, field.name, item, torch.float64).flatten()
                require(len(column) > 0, type(value).__name__, field.name, "hold at least one number", item)
                value = _set(value, (field.name,), float(column[0]))
    return value


def _numbers(function: str, name: str, item: Any, dtype: torch.dtype) -> Tensor:
    try:
        return torch.as_tensor(item, dtype=dtype, device=getattr(item, "device", "cpu"))
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{function}: {name} must be one number or a list of numbers, got {item!r}."
        ) from None


class Lanes:
    """A struct after `spread`, taken apart into what differs between lanes and what does not.

    >>> from funcrl.core import tree
    >>> @tree.struct
    ... class Env:
    ...     length: float = 0.5
    >>> lanes = Lanes(Env(length=torch.tensor([1.0, 2.0])))
    >>> lanes.values, lanes.first
    ([tensor([1., 2.])], Env(length=1.0))
    """

    def __init__(self, value: Any) -> None:
        """Take apart.

        Args:
            value: What `spread` returned.
        """
        self._value = value
        self._varied = _varied_paths(value)
        self.values: list[Tensor] = [_get(value, path) for path in self._varied]
        """`[S]` each: the numbers that differ"""

    @property
    def first(self) -> Any:
        """The struct of the first lane, with plain numbers."""
        return first(self._value)

    def take(self, members: Tensor) -> Any:
        """Return the struct for some of the lanes.

        Args:
            members: `[M]` int64, which.
        """
        return self.one([column[members] for column in self.values])

    def one(self, values: Any) -> Any:
        """Put the struct of one lane together, without running its checks again.

        Args:
            values: As many as `self.values`, one number or 0-d tensor each.
        """
        value = self._value
        for path, number in zip(self._varied, values, strict=True):
            value = _set(value, path, number)
        return value


def _varied_paths(value: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    paths: list[tuple[str, ...]] = []
    if not dataclasses.is_dataclass(value):
        return paths
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if field.metadata.get("static", False):
            continue
        if dataclasses.is_dataclass(item):
            paths += _varied_paths(item, (*prefix, field.name))
        elif field.type in ("float", float) and isinstance(item, Tensor) and item.ndim == 1:
            paths.append((*prefix, field.name))
    return paths


def _get(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = getattr(value, name)
    return value


def _set(value: Any, path: tuple[str, ...], number: Any) -> Any:
    changed = number if len(path) == 1 else _set(getattr(value, path[0]), path[1:], number)
    copy = object.__new__(type(value))
    for field in dataclasses.fields(value):
        own = getattr(value, field.name)
        object.__setattr__(copy, field.name, changed if field.name == path[0] else own)
    return copy
