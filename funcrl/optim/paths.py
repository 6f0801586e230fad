"""What an optimiser moves, and how far, by the names of parameters."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from funcrl.core.checks import require
from funcrl.optim.transforms import Number, Optimizer


def matching(function: str, names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """Return the names that one of the patterns describes.

    Args:
        function: Who complains.
        names: `"conv1.weight"`.
        patterns: `"conv*"`, where * stands for anything.

    Raises:
        ValueError: When a pattern describes no name.

    >>> sorted(matching("f", ["conv.weight", "conv.bias", "fc.bias"], ["conv.*"]))
    ['conv.bias', 'conv.weight']
    """
    names, found = list(names), set()
    for pattern in patterns:
        described = fnmatch.filter(names, pattern)
        require(len(described) > 0, function, "pattern", f"describe one of {listed(names)}", pattern)
        found |= set(described)
    return found


def listed(names: Iterable[str], most: int = 12) -> str:
    """Return names for an error, the first of many.

    >>> listed(["conv.weight", "conv.bias", "fc.bias"], most=2)
    'conv.weight, conv.bias and 1 more'
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def partition(params: Mapping[str, Any], frozen: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters that are trained, and those that patterns freeze.

    Differentiate a loss by the first, `grad(lambda free: loss(optim.merge(params, free)))`, and give the optimiser the
    first: what is frozen has no gradient then, and no state.

    Args:
        params: By name; a dict within has the names `"actor.conv.weight"`.
        frozen: Patterns, `"features.*"`.

    Raises:
        ValueError: When a pattern describes no name.

    >>> partition({"conv.weight": 1, "fc.weight": 2}, ["conv.*"])
    ({'fc.weight': 2}, {'conv.weight': 1})
    """
    names = list(names_of(params))
    kept = matching("optim.partition", names, frozen)
    return without(params, kept), without(params, set(names) - kept)


def names_of(params: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Return the names of all parameters, those of a dict within behind its own.

    >>> list(names_of({"actor": {"weight": 1}, "scale": 2}))
    ['actor.weight', 'scale']
    """
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from names_of(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def without(params: Mapping[str, Any], names: Collection[str], prefix: str = "") -> dict[str, Any]:
    """Return the parameters but for some.

    Args:
        params: See `partition`.
        names: Of those that are left out.
        prefix: What stands before the names of all.

    >>> without({"actor": {"weight": 1, "bias": 2}}, ["actor.bias"])
    {'actor': {'weight': 1}}
    """
    left: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            left[name] = without(value, names, f"{prefix}{name}.")
        elif prefix + name not in names:
            left[name] = value
    return left


def merge(params: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters, with those of a part in the place of their namesakes.

    >>> merge({"actor": {"weight": 1, "bias": 2}}, {"actor": {"weight": 3}})
    {'actor': {'weight': 3, 'bias': 2}}
    """
    return {
        name: merge(value, part.get(name, {})) if isinstance(value, Mapping) else part.get(name, value)
        for name, value in params.items()
    }


def factor(name: str, word: str) -> tuple[str, float]:
    """Return a pattern and by what the learning rate of all that it describes is multiplied.

    Args:
        name: Who complains, `"ppo.Config"`.
        word: `"features.*=0.1"`.

    Raises:
        ValueError: When it is something else, or the factor is below 0.

    >>> factor("ppo.Config", "actor.0.*=0.1")
    ('actor.0.*', 0.1)
    """
    pattern, equals, text = word.rpartition("=")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    hold, instead = "be PATTERN=FACTOR with a factor of 0 or more", 'Write ("features.*=0.1",).'
    fine = bool(equals) and bool(pattern) and 0.0 <= value < float("inf")
    require(fine, name, "rate_factors", hold, word, instead)
    return pattern, value


def scale_by_path(factors: Mapping[str, Number]) -> Optimizer:
    """Return a transformation that multiplies updates by a factor for their parameter: layer-wise learning rates.

    Chain it behind an optimiser. Before Adam it would do nothing, for Adam divides by the size of what it is given.

    Args:
        factors: By pattern; the first that describes a name counts, and names that none describes keep their updates.

    Raises:
        ValueError: When a pattern describes no name.

    >>> import torch
    >>> optimizer = scale_by_path({"conv.*": 0.1})
    >>> ones = {"conv.weight": torch.ones(1), "fc.weight": torch.ones(1)}
    >>> optimizer.update(ones, optimizer.init(ones), ones)[0]
    {'conv.weight': tensor([0.1000]), 'fc.weight': tensor([1.])}
    """

    def factor(name: str) -> Number:
        return next((value for pattern, value in factors.items() if fnmatch.fnmatchcase(name, pattern)), 1.0)

    def init(params: Mapping[str, Tensor]) -> tuple[()]:
        matching("optim.scale_by_path", params, factors)
        return ()

    def update(
        updates: Mapping[str, Tensor], state: tuple[()], params: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], tuple[()]]:
        return {name: value * factor(name) for name, value in updates.items()}, state

    return Optimizer(init, update)
