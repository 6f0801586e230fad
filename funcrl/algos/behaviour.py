"""How an agent with action values explores while it learns: ε-greedy or Boltzmann, with a schedule.

Settings that have these fields can use it: `exploration`, `epsilon`, `initial_epsilon`,
`temperature`, `initial_temperature`, `exploration_steps`.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from funcrl.core import checks
from funcrl.ops import exploration, schedules

EXPLORATION = ("epsilon_greedy", "boltzmann")


def check(name: str, config: Any) -> None:
    """Check the fields of settings that say how to explore.

    Args:
        name: Who complains, `"dqn.Config"`.
        config: The settings.

    Raises:
        ValueError: When one is out of range.
    """
    checks.settings(
        config,
        name,
        unit=("epsilon", "initial_epsilon"),
        not_negative=("exploration_steps",),
        positive=("temperature", "initial_temperature"),
    )
    for temperature in ("temperature", "initial_temperature"):
        checks.number(name, temperature, getattr(config, temperature), -math.inf, math.inf)
    checks.known(name, "exploration", config.exploration, EXPLORATION)


def amount(config: Any, steps: Tensor, over: Tensor) -> Tensor:
    """Return ε, or β of the Boltzmann policy, after some environment steps.

    Args:
        config: The settings; floats are 0-d tensors.
        steps: `[]` environment steps so far.
        over: `[]` environment steps over which it falls to its final value.

    Returns:
        `[]`.
    """
    if config.exploration == "boltzmann":
        start, end = config.initial_temperature, config.temperature
    else:
        start, end = config.initial_epsilon, config.epsilon
    return schedules.linear(start, end, over, steps)


def policy(config: Any, now: Tensor, values: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the behaviour policy π(· | s).

    Args:
        config: The settings.
        now: `[]` ε or β, as `amount` returns it.
        values: `[..., A]` Q(s, ·), -inf for actions that are not valid.
        valid: `[..., A]` boolean, at least one; all by default.

    Returns:
        `[..., A]` probabilities.
    """
    if config.exploration == "boltzmann":
        return exploration.boltzmann(values, now)
    return exploration.epsilon_greedy(values, now, valid)
