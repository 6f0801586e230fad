"""Elements of a Gymnasium space as trees of tensors: what they look like, drawing them, their bounds.

An element of a `Dict` space is a dict, of a `Tuple` space a tuple, of every other space one tensor of
the space's shape and dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import random
from funcrl.core.checks import require
from funcrl.core.spaces import KINDS, dtype


def draw(key: Tensor, space: spaces.Space[Any]) -> Any:
    """Return a random action.

    Uniform between finite bounds; normal, or beyond the one bound there is, where they are infinite.

    Args:
        key: `[2]` int32.
        space: `Box`, `Discrete`, `MultiDiscrete`, `MultiBinary`, or `Tuple` or `Dict` of these.

    Returns:
        A tensor of the space's shape; float32 for a `Box` and int64 otherwise. Of each part of a `Tuple` or
        `Dict`.

    >>> draw(random.key(0), spaces.Discrete(1, start=7))
    tensor(7)
    """
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        keys = random.split(key, max(1, len(space.spaces)))
        parts = {name: draw(keys[i], part) for i, (name, part) in enumerate(_entries(space.spaces))}
        return parts if isinstance(space, spaces.Dict) else tuple(parts.values())
    shape = tuple(space.shape or ())
    if isinstance(space, spaces.Box):
        low, high = (torch.from_numpy(x).to(key.device) for x in (space.low, space.high))
        k_unit, k_normal = random.split(key, 2)
        unit, normal = random.uniform(k_unit, shape), random.normal(k_normal, shape)
        # Not low + (high - low) · unit: the widest bounds that float32 holds would overflow.
        inside = torch.maximum(low, torch.minimum(high, low * (1 - unit) + high * unit))
        below = torch.where(high.isfinite(), high - normal.abs(), normal)
        above = torch.where(low.isfinite(), low + normal.abs(), below)
        return torch.where(low.isfinite() & high.isfinite(), inside, above)
    if isinstance(space, spaces.MultiBinary):
        return random.bernoulli(key, 0.5, shape).to(torch.int64)
    first, count = (x.to(key.device) for x in _first_and_count(space))
    choice = torch.floor(random.uniform(key, shape) * count).to(torch.int64)
    return first + torch.minimum(choice, count - 1)


def check_space(function: str, argument: str, space: Any, action: bool = False) -> None:
    """Check that a space is of a kind that funcrl knows, and that its bounds are bounds.

    Args:
        function: Who complains, `"check_env"`.
        argument: What is checked, `"CartPole.observation_space"`.
        space: What was given.
        action: Whether it is a space of actions: those are never images.

    Raises:
        TypeError: When it is no Gymnasium space.
        ValueError: When it is of another kind, dtype or has bounds that cannot be.
    """
    if not isinstance(space, spaces.Space):
        raise TypeError(
            f"{function}: {argument} must be a space of gymnasium.spaces, got {space!r}. "
            "Write spaces.Discrete(n) or spaces.Box(low, high, shape, np.float32)."
        )
    names = ", ".join(kind.__name__ for kind in KINDS)
    instead = "Write spaces.Box(low, high, shape, np.float32)."
    require(isinstance(space, KINDS), function, argument, f"be one of {names}", space, instead)
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        for name, part in _parts(space):
            check_space(function, f"{argument}{name}", part, action)
    elif isinstance(space, spaces.Box):
        _check_box(function, argument, space, action)
    elif not isinstance(space, spaces.MultiBinary):
        hold = "hold numbers of dtype int64"
        require(space.dtype == np.int64, function, argument, hold, str(space.dtype), "Write dtype=np.int64.")


def _check_box(function: str, argument: str, space: spaces.Box, action: bool) -> None:
    fine = space.dtype == np.float32 or (space.dtype == np.uint8 and not action)
    hold = "have dtype float32" if action else "have dtype float32 (or uint8, for an image)"
    require(fine, function, argument, hold, str(space.dtype), "Write dtype=np.float32.")
    shapes = (np.shape(space.low), np.shape(space.high))
    require(shapes == (space.shape,) * 2, function, argument, f"have bounds of shape {space.shape}", shapes)
    ordered = bool((space.low <= space.high).all())  # NaN is not
    instead = "Write lower bounds that are numbers and at most as large as the upper ones."
    require(ordered, function, argument, "have bounds low <= high, none of them NaN", space, instead)


def check_element(function: str, argument: str, space: spaces.Space[Any], value: Any, path: str = "") -> None:
    """Check that a value has the structure, shapes and dtypes of a space's elements.

    Args:
        function: Who complains.
        argument: What returned the value, `"CartPole.observation"`.
        space: The space.
        value: What was returned.
        path: Where in the whole value this one is.

    Raises:
        TypeError: When a tensor, dict or tuple is expected and another kind was returned.
        ValueError: When keys, lengths, shapes or dtypes differ.
    """
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        kind = dict if isinstance(space, spaces.Dict) else tuple
        if not isinstance(value, kind):
            raise TypeError(
                f"{function}: {argument} must return a {kind.__name__}{_at(path)}, got "
                f"{type(value).__name__}. Write what observation_space says."
            )
        parts = dict(_parts(space))
        found = sorted(f"[{name!r}]" for name in (value if isinstance(value, dict) else range(len(value))))
        hold = f"return the entries {', '.join(sorted(parts))}{_at(path)}"
        require(found == sorted(parts), function, argument, hold, ", ".join(found))
        for name, part in parts.items():
            entry = next(x for key, x in _entries(value) if f"[{key!r}]" == name)
            check_element(function, argument, part, entry, path + name)
    else:
        shape = tuple(space.shape or ())
        check_tensor(function, argument, value, shape, str(dtype(space)), _at(path))


def check_tensor(
    function: str, argument: str, value: Any, shape: tuple[int, ...], kind: str | None, where: str = ""
) -> None:
    """Check that a value is a tensor of a shape and a dtype.

    Args:
        function: Who complains.
        argument: What returned the value, `"CartPole.reward"`.
        value: What was returned.
        shape: What its shape must be.
        kind: Name of a dtype; None for any floating-point one.
        where: Ending of the sentence, for values inside of others.

    Raises:
        TypeError: When it is no tensor.
        ValueError: When its shape or its dtype is another.

    >>> check_tensor("train", "Maze.reward", torch.zeros(1), (), None)
    Traceback (most recent call last):
    ValueError: train: Maze.reward must return a tensor of shape [] and a floating-point dtype, got '[1] torch.float32'. Write x[0] or x.reshape([]).
    """
    if not isinstance(value, Tensor):
        number = isinstance(value, (bool, int, float)) and shape == ()
        instead = f"torch.full((), {value!r}, device=key.device)" if number else "torch operations"
        raise TypeError(
            f"{function}: {argument} must return a tensor{where}, got {value!r}. Write {instead}."
        )
    hold = f"return a tensor of shape {list(shape)} and {kind or 'a floating-point dtype'}{where}"
    fine = value.is_floating_point() if kind is None else str(value.dtype) == kind
    instead = "" if fine else f"Write x.to({kind or 'torch.float32'})."
    if tuple(value.shape) != shape and value.numel() == torch.Size(shape).numel():
        instead = f"Write {'x[0] or ' if value.shape == (1,) else ''}x.reshape({list(shape)})."
    fine = fine and tuple(value.shape) == shape
    require(fine, function, argument, hold, f"{list(value.shape)} {value.dtype}", instead)


def outside(space: spaces.Space[Any], value: Any, path: str = "") -> str:
    """Return what of an element lies outside of its space, in words; nothing where all is inside.

    Args:
        space: The space.
        value: An element of its structure, shapes and dtypes.
        path: Where in the whole value this one is.

    >>> outside(spaces.Discrete(3), torch.tensor(3))
    '3, outside of [0, 2]'
    """
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        entries = {f"[{key!r}]": x for key, x in _entries(value)}
        found = (outside(part, entries[name], path + name) for name, part in _parts(space))
        return next((words for words in found if words), "")
    if isinstance(space, spaces.Box):
        low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
    elif isinstance(space, spaces.MultiBinary):
        low = torch.zeros(value.shape, dtype=torch.int64, device="cpu")
        high = torch.ones_like(low)
    else:
        low, count = _first_and_count(space)
        high = low + count - 1
    value = value.cpu()
    wrong = ~((low <= value) & (value <= high))
    if not bool(wrong.any()):
        return ""
    index = tuple(int(i) for i in wrong.nonzero()[0])
    place = _at(path + (str(list(index)) if index else ""))
    return f"{value[index].item():g}{place}, outside of [{low[index].item():g}, {high[index].item():g}]"


def _first_and_count(space: spaces.Space[Any]) -> tuple[Tensor, Tensor]:
    assert isinstance(space, (spaces.Discrete, spaces.MultiDiscrete))
    count = space.n if isinstance(space, spaces.Discrete) else space.nvec
    first = np.broadcast_to(np.asarray(space.start, np.int64), np.shape(count))
    return tuple(
        torch.tensor(x, dtype=torch.int64, device="cpu") for x in (first, np.asarray(count, np.int64))
    )  # type: ignore[return-value]


def _parts(space: spaces.Dict | spaces.Tuple[Any]) -> Iterator[tuple[str, spaces.Space[Any]]]:
    for key, part in _entries(space.spaces):
        yield f"[{key!r}]", part


def _entries(value: Any) -> Iterator[tuple[Any, Any]]:
    yield from value.items() if isinstance(value, dict) else enumerate(value)


def _at(path: str) -> str:
    return f" at {path}" if path else ""
