"""One voice for errors: `<function>: <argument> must <hold>, got <value>.` and what to write instead."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any

import torch


def require(condition: bool, function: str, argument: str, hold: str, value: Any, instead: str = "") -> None:
    """Raise a `ValueError` in the house's voice unless `condition` holds.

    Args:
        condition: What must be true. Only Python values: never a tensor of a compiled program.
        function: Who complains, as the user calls it: `"train"`.
        argument: What is wrong: `"seeds"`.
        hold: What must hold, continuing "must": `"be at least 1"`.
        value: What was given.
        instead: A sentence that says what to write instead.

    >>> require(False, "train", "seeds", "not be empty", [], "Write seeds=range(16).")
    Traceback (most recent call last):
    ValueError: train: seeds must not be empty, got []. Write seeds=range(16).
    """
    if not condition:
        raise ValueError(f"{function}: {argument} must {hold}, got {value!r}. {instead}".rstrip())


def number(
    function: str, argument: str, value: Any, low: float, high: float, *, open_low: bool = False
) -> None:
    """Check that a Python number lies in an interval; tensors (already inside a program) pass.

    Infinity counts as inside where it is one end of the interval, but not where both ends are infinite.

    Raises:
        TypeError: When it is not a number.
        ValueError: When it lies outside.

    >>> number("ppo.Config", "gamma", 1.5, 0, 1)
    Traceback (most recent call last):
    ValueError: ppo.Config: gamma must lie in [0, 1], got 1.5.
    """
    if not isinstance(value, numbers.Real):
        if hasattr(value, "dtype") or isinstance(value, (list, tuple)):
            return  # one value a lane: `train` checks each
        raise TypeError(f"{function}: {argument} must be a number, got {value!r}.")
    value = float(value)
    if low == -math.inf and high == math.inf:
        require(math.isfinite(value), function, argument, "be finite", value)
    inside = (low < value if open_low else low <= value) and value <= high
    interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if high == float('inf') else ']'}"
    require(bool(inside), function, argument, f"lie in {interval}", value)


def integer(function: str, argument: str, value: Any, low: int) -> None:
    """Check that a value is an integer (not a bool, not 4.0) and at least `low`.

    Raises:
        TypeError: When it is not an integer.
        ValueError: When it is too small.

    >>> integer("ppo.Config", "num_envs", 4.0, 1)
    Traceback (most recent call last):
    TypeError: ppo.Config: num_envs must be an integer, got 4.0. Write 4.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        whole = isinstance(value, float) and value.is_integer()
        instead = f" Write {int(value)}." if whole else ""
        raise TypeError(f"{function}: {argument} must be an integer, got {value!r}.{instead}")
    require(int(value) >= low, function, argument, f"be at least {low}", value)


def time_limit(function: str, value: int | None) -> None:
    """Check an environment's `max_episode_steps`: None, or an integer from 1 on.

    >>> time_limit("CartPole", 0)
    Traceback (most recent call last):
    ValueError: CartPole: max_episode_steps must be at least 1, got 0.
    """
    if value is not None:
        integer(function, "max_episode_steps", value, 1)


def name_of(config: object) -> str:
    """Return how settings are called in a complaint: `"ppo.Config"`, by the module of their class."""
    return f"{type(config).__module__.rpartition('.')[2]}.Config"


def settings(
    config: Any,
    function: str,
    *,
    unit: Iterable[str] = (),
    not_negative: Iterable[str] = (),
    positive: Iterable[str] = (),
    counts: Iterable[str] = (),
    flags: Iterable[str] = (),
) -> None:
    """Check the fields of a config by kind.

    Args:
        config: A dataclass.
        function: Who complains, `"ppo.Config"`.
        unit: Fields in [0, 1].
        not_negative: Fields in [0, ∞].
        positive: Fields in (0, ∞].
        counts: Fields that are integers from 1 on, or tuples of such.
        flags: Fields that are True or False.

    Raises:
        TypeError: When a field is of the wrong kind.
        ValueError: When it is out of range.
    """
    for name in unit:
        number(function, name, getattr(config, name), 0, 1)
    for name in not_negative:
        number(function, name, getattr(config, name), 0, math.inf)
    for name in positive:
        number(function, name, getattr(config, name), 0, math.inf, open_low=True)
    for name in counts:
        value = getattr(config, name)
        if isinstance(getattr(type(config), name, None), tuple):
            if not isinstance(value, (tuple, list)):
                raise TypeError(f"{function}: {name} must be a tuple, got {value!r}. Write ({value!r},).")
            for count in value:
                integer(function, name, count, 1)
        else:
            integer(function, name, value, 1)
    for name in flags:
        value = getattr(config, name)
        if not isinstance(value, bool):
            raise TypeError(f"{function}: {name} must be True or False, got {value!r}.")


def divides(function: str, argument: str, value: int, what: str, total: int) -> None:
    """Check that `value` divides `total`, offering the nearest divisor otherwise.

    >>> divides("ppo.Config", "num_minibatches", 5, "num_envs · window_length", 512)
    Traceback (most recent call last):
    ValueError: ppo.Config: num_minibatches must divide num_envs · window_length = 512, got 5. Write 4.
    """
    if total % value:
        # Outwards from the value, as a total may be any number.
        start = min(value, total)
        near = (d for offset in range(total) for d in (start - offset, start + offset) if 0 < d <= total)
        nearest = next(d for d in near if total % d == 0)
        require(False, function, argument, f"divide {what} = {total}", value, f"Write {nearest}.")


def known(function: str, argument: str, value: str, names: Iterable[str]) -> None:
    """Check that a name is one of `names`, offering the nearest ones otherwise.

    >>> known("train", "algorithm", "pppo", ["ppo", "dqn"])
    Traceback (most recent call last):
    ValueError: train: algorithm must be one of 'dqn', 'ppo', got 'pppo'. Did you mean 'ppo'?
    """
    names = sorted(names)
    if value not in names:
        hold = f"be one of {', '.join(map(repr, names))}"
        require(False, function, argument, hold, value, did_you_mean(value, names))


def did_you_mean(value: str, names: Iterable[str]) -> str:
    """Return a question that offers the names nearest to a value; nothing where none is near.

    >>> did_you_mean("pppo", ["ppo", "dqn"])
    "Did you mean 'ppo'?"
    """
    near = difflib.get_close_matches(str(value), sorted(names), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else ""


def device(function: str, name: torch.device | str) -> torch.device:
    """Return the device, if this machine has it.

    Raises:
        ValueError: When the device is unknown to torch or not present.
    """
    try:
        resolved = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{function}: device must be cpu or cuda, got {name!r}. Write 'cpu'.") from error
    require(resolved.type in ("cpu", "cuda"), function, "device", "be cpu or cuda", str(name), "Write 'cpu'.")
    if resolved.type == "cuda":
        present = torch.cuda.device_count() if torch.cuda.is_available() else 0
        require(
            (resolved.index or 0) < present,
            function,
            "device",
            "be present",
            str(name),
            f"This machine has {present} CUDA devices that torch can use. Write 'cpu'.",
        )
    return resolved


def fields(function: str, cls: type, given: Iterable[str]) -> None:
    """Check that every given name is a field of a dataclass.

    >>> @dataclasses.dataclass
    ... class Config:
    ...     gamma: float = 0.99
    >>> fields("ppo.Config", Config, ["gama"])
    Traceback (most recent call last):
    ValueError: ppo.Config: parameter must be one of 'gamma', got 'gama'. Did you mean 'gamma'?
    """
    names = [field.name for field in dataclasses.fields(cls)]
    for name in given:
        known(function, "parameter", name, names)
