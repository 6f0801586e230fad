"""One gradient step of an agent's numbers, but for those that stay: what settings freeze, and what networks keep themselves."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcrl import nets, optim
from funcrl.core import checks

Rates = tuple[tuple[str, float], ...]
"""Names of numbers, and by what their learning rates are multiplied; 0 of those that stay."""


def check_settings(name: str, config: Any) -> None:
    """Check the settings `frozen` and `rate_factors`.

    Raises:
        ValueError: When they are not patterns, or a factor is not a number of 0 or more.
    """
    for setting in ("frozen", "rate_factors"):
        value = getattr(config, setting)
        strings = isinstance(value, tuple) and all(isinstance(word, str) for word in value)
        checks.require(strings, name, setting, "be a tuple of strings", value, 'Write ("actor.0.*",).')
    for word in config.rate_factors:
        _factor(name, word)


def rates(
    function: str, config: Any, params: Mapping[str, Any], networks: Mapping[str, nets.Network]
) -> Rates:
    """Return which of an agent's numbers learn at another rate than the settings', or not at all.

    Args:
        function: Who complains, `"ppo.init"`.
        config: Settings with `frozen` and `rate_factors`.
        params: All numbers of the agent.
        networks: By the name that their numbers have in `params`, `""` for an agent with one.

    Raises:
        ValueError: When a pattern describes no number, or nothing is left to learn.
    """
    names = list(optim.paths(params))
    pairs = [_factor(function, word) for word in config.rate_factors]
    for pattern in (*config.frozen, *(pattern for pattern, _ in pairs)):
        optim.matching(function, names, [pattern])
    kept = {
        f"{name}.{path}" if name else path
        for name, network in networks.items()
        for path in nets.buffers_of(network)
    }
    kept |= optim.matching(function, names, config.frozen)
    found = [(name, 0.0) for name in names if name in kept]
    for name in names:
        factor = next((factor for pattern, factor in pairs if fnmatch.fnmatchcase(name, pattern)), 1.0)
        if name not in kept and factor != 1.0:
            found.append((name, factor))
    hold = "leave something to learn"
    free = len([name for name, factor in found if factor == 0.0]) < len(names)
    checks.require(free, function, "config.frozen", hold, config.frozen)
    return tuple(found)


def begin(optimizer: optim.Optimizer, params: Mapping[str, Any], rates: Rates, prefix: str = "") -> Any:
    """Return the state of an optimiser that has taken no step; what stays has no part in it.

    Args:
        optimizer: What will descend.
        params: Numbers of the agent.
        rates: From `rates`.
        prefix: What stands before their names in `rates`: `"actor."`.
    """
    return optimizer.init(_free(params, rates, prefix))


class Step(NamedTuple):
    """What a gradient step leaves."""

    params: Any
    """after"""
    optimizer: Any
    """its state after"""
    value: Tensor
    """`[]` of the loss, before"""
    beside: Any
    """what the loss returned beside it"""
    grad_norm: Tensor
    """`[]`"""


def step(
    loss: Callable[[Any], tuple[Tensor, Any]],
    params: Mapping[str, Any],
    optimizer: optim.Optimizer,
    optimizer_state: Any,
    rates: Rates,
    prefix: str = "",
) -> Step:
    """Take one gradient step.

    Args:
        loss: From all of `params` to what is to be made small, `[]`, and anything beside.
        params: Numbers of the agent.
        optimizer: What descends.
        optimizer_state: From `begin`, or from the step before.
        rates: From `rates`.
        prefix: What stands before the names of `params` there.
    """
    free = _free(params, rates, prefix)
    whole = free is params
    of_free = loss if whole else lambda free: loss(optim.merge(params, free))
    grads, (value, beside) = torch.func.grad_and_value(of_free, has_aux=True)(free)
    updates, optimizer_state = optimizer.update(grads, optimizer_state, free)
    factors = {name: factor for name, factor in rates if factor != 0.0}
    if factors:
        updates = _scaled(updates, factors, prefix)
    after = optim.apply(free, updates)
    return Step(
        after if whole else optim.merge(params, after),
        optimizer_state,
        value,
        beside,
        optim.global_norm(grads),
    )


def _free(params: Mapping[str, Any], rates: Rates, prefix: str) -> Any:
    kept = [name for name, factor in rates if factor == 0.0]
    return optim.without(params, kept, prefix) if kept else params


def _scaled(updates: Mapping[str, Any], factors: Mapping[str, float], prefix: str) -> dict[str, Any]:
    scaled: dict[str, Any] = {}
    for name, value in updates.items():
        path = prefix + name
        if isinstance(value, Mapping):
            scaled[name] = _scaled(value, factors, f"{path}.")
        else:
            scaled[name] = value * factors[path] if path in factors else value
    return scaled


def _factor(name: str, word: str) -> tuple[str, float]:
    pattern, equals, text = word.rpartition("=")
    try:
        factor = float(text)
    except ValueError:
        factor = -1.0
    hold, instead = "be PATTERN=FACTOR with a factor of 0 or more", 'Write ("actor.0.*=0.1",).'
    fine = bool(equals) and bool(pattern) and 0.0 <= factor < float("inf")
    checks.require(fine, name, "rate_factors", hold, word, instead)
    return pattern, factor
