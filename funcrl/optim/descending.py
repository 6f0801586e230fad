"""One gradient step of a learner's numbers, but for those that stay: what settings freeze, and what networks keep themselves.

Which they are is found once, where a learner is made, and is part of the program from then on.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcrl.core import checks, collective, tree
from funcrl.optim import paths, transforms
from funcrl.optim.transforms import Optimizer


@dataclass(frozen=True)
class Rates:
    """Which of a learner's numbers learn at another rate than its settings say, or not at all, by name."""

    frozen: tuple[str, ...] = ()
    """those that stay as they are"""
    without_gradient: tuple[str, ...] = ()
    """those in which nothing descends, but which networks may keep anew themselves"""
    factors: tuple[tuple[str, float], ...] = ()
    """by what the learning rates of others are multiplied"""


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
        paths.factor(name, word)


def rates(
    function: str, config: Any, params: Mapping[str, Any], without_gradient: Collection[str] = ()
) -> Rates:
    """Return which of a learner's numbers learn at another rate than the settings', or not at all.

    Args:
        function: Who complains, `"ppo.init"`.
        config: Settings with `frozen` and `rate_factors`.
        params: All of its numbers.
        without_gradient: Names of those in which nothing descends, see `nets.without_gradient`.

    Raises:
        ValueError: When a pattern describes no number, or nothing is left to learn.
    """
    names = list(paths.names_of(params))
    pairs = [paths.factor(function, word) for word in config.rate_factors]
    for pattern in (*config.frozen, *(pattern for pattern, _ in pairs)):
        paths.matching(function, names, [pattern])
    frozen = paths.matching(function, names, config.frozen)
    free = [name for name in names if name not in frozen and name not in without_gradient]
    checks.require(len(free) > 0, function, "config.frozen", "leave something to learn", config.frozen)
    factors = []
    for name in free:
        fitting = [factor for pattern, factor in pairs if fnmatch.fnmatchcase(name, pattern)]
        factors += [(name, fitting[0])] if fitting else []
    return Rates(tuple(sorted(frozen)), tuple(without_gradient), tuple(factors))


def begin(optimizer: Optimizer, params: Mapping[str, Any], rates: Rates, prefix: str = "") -> Any:
    """Return the state of an optimiser that has taken no step; what stays has no part in it.

    Args:
        optimizer: What will descend.
        params: Numbers of the learner.
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
    optimizer: Optimizer,
    optimizer_state: Any,
    rates: Rates,
    prefix: str = "",
) -> Step:
    """Take one gradient step.

    Args:
        loss: From all of `params` to what is to be made small, `[]`, and anything beside.
        params: Numbers of the learner.
        optimizer: What descends.
        optimizer_state: From `begin`, or from the step before.
        rates: From `rates`.
        prefix: What stands before the names of `params` there.
    """
    free = _free(params, rates, prefix)
    whole = free is params
    of_free = loss if whole else lambda free: loss(paths.merge(params, free))
    grads, (value, beside) = torch.func.grad_and_value(of_free, has_aux=True)(free)
    grads, value, beside = _over_all_parts(grads, value, beside)
    updates, optimizer_state = optimizer.update(grads, optimizer_state, free)
    if rates.factors:
        updates = _scaled(updates, dict(rates.factors), prefix)
    after = transforms.apply(free, updates)
    return Step(
        after if whole else paths.merge(params, after),
        optimizer_state,
        value,
        beside,
        transforms.global_norm(grads),
    )


def _over_all_parts(grads: Any, value: Tensor, beside: Any) -> tuple[Any, Tensor, Any]:
    """Return gradient, loss and figures of the whole batch, where this is one of its parts."""
    if collective.parts() == 1:
        return grads, value, beside
    leaves = tree.leaves(beside)
    is_figure = [isinstance(x, Tensor) and x.ndim == 0 and x.is_floating_point() for x in leaves]
    figures = [x for x, counts in zip(leaves, is_figure, strict=True) if counts]
    grads, value, figures = collective.mean_of_all((grads, value, figures))
    averaged = iter(figures)
    found = iter([next(averaged) if counts else x for x, counts in zip(leaves, is_figure, strict=True)])
    return grads, value, tree.map(lambda _: next(found), beside)


def having_seen(
    params: Mapping[str, Any], observed: Mapping[str, Any], rates: Rates, prefix: str = ""
) -> dict[str, Any]:
    """Return the numbers after a step with what networks keep of the batch, but for what is frozen.

    Args:
        params: After the step.
        observed: From `nets.observed`, under the same names.
        rates: From `rates`.
        prefix: What stands before the names there.
    """
    hold = "keep nothing of a batch (batch normalisation, dropout) where ranks learn from its parts"
    whole = collective.parts() == 1 or not observed
    checks.require(whole, "train", "networks", hold, list(observed))
    return paths.merge(params, paths.without(observed, rates.frozen, prefix))


def _free(params: Mapping[str, Any], rates: Rates, prefix: str) -> Any:
    kept = (*rates.frozen, *rates.without_gradient)
    return paths.without(params, kept, prefix) if kept else params


def _scaled(updates: Mapping[str, Any], factors: Mapping[str, float], prefix: str) -> dict[str, Any]:
    scaled: dict[str, Any] = {}
    for name, value in updates.items():
        path = prefix + name
        if isinstance(value, Mapping):
            scaled[name] = _scaled(value, factors, f"{path}.")
        else:
            scaled[name] = value * factors[path] if path in factors else value
    return scaled
