"""How agents act, whatever makes them remember: one form for collecting, evaluating, films and learning online."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor

from funcrl.core import random, tree
from funcrl.core.checks import require


def _remembers_nothing(agent: Any) -> tuple[()]:
    return ()


def _stays(agent: Any, obs: Any, carry: Any, key: Tensor) -> Any:
    return carry


@dataclass(frozen=True)
class Policy:
    """What chooses actions, and what it remembers within an episode; nothing, unless it says so."""

    act: Callable[[Any, Any, Tensor, Any], tuple[Any, dict[str, Tensor]]]
    """`act(agent, obs, key, carry) -> (action, extras)`, with what is remembered once `obs` has been seen"""
    initial_carry: Callable[[Any], Any] = _remembers_nothing
    """`initial_carry(agent) -> carry`, where an episode begins"""
    remember: Callable[[Any, Any, Any, Tensor], Any] = _stays
    """`remember(agent, obs, carry, key) -> carry`, once an observation has been seen, with the key of the step"""

    def initial_carries(self, agent: Any, count: int) -> Any:
        """Return what is remembered in `count` episodes that begin, `[count, ...]`."""
        return tree.map(lambda x: x.expand(count, *x.shape), self.initial_carry(agent))

    def next_carries(self, agent: Any, carry: Any, over: Tensor) -> Any:
        """Return what is remembered in `[N]` episodes after a step, where some of them are over and others begin."""
        return tree.where(over, self.initial_carries(agent, over.shape[0]), carry)


def with_carry(extras: dict[str, Any], carry: Any) -> dict[str, Any]:
    """Return the extras of a step with what was remembered before it as `carry`, where that is anything.

    Raises:
        ValueError: When extras have that name already.
    """
    if not tree.leaves(carry):
        return extras
    hold = "not be called carry, as what was remembered before is"
    require("carry" not in extras, "act", "extras of an agent that remembers", hold, list(extras))
    return extras | {"carry": carry}


def learning(algorithm: ModuleType) -> Policy:
    """Return how an algorithm acts while it learns."""
    if hasattr(algorithm, "initial_noise"):
        # Of a key of its own: `act` draws from that of the step.
        moves = lambda agent, obs, noise, key: algorithm.next_noise(agent, noise, random.fold_in(key, 1))
        return Policy(algorithm.act, algorithm.initial_noise, moves)
    if not _remembers(algorithm):
        return Policy(lambda agent, obs, key, carry: algorithm.act(agent, obs, key))
    return Policy(algorithm.act, algorithm.initial_carry, _remembering(algorithm))


def greedy(algorithm: ModuleType) -> Policy:
    """Return what takes an algorithm's best action."""
    if not _remembers(algorithm):
        return Policy(lambda agent, obs, key, carry: (algorithm.greedy(agent, obs), {}))

    def best(agent: Any, obs: Any, key: Tensor, carry: Any) -> tuple[Any, dict[str, Tensor]]:
        return algorithm.greedy(agent, obs, carry), {}

    return Policy(best, algorithm.initial_carry, _remembering(algorithm))


def _remembering(algorithm: ModuleType) -> Callable[[Any, Any, Any, Tensor], Any]:
    return lambda agent, obs, carry, key: algorithm.remember(agent, obs, carry)


def _remembers(algorithm: ModuleType) -> bool:
    return hasattr(algorithm, "initial_carry")
