"""What Gymnasium's `reset(options=...)` may say: which environments begin an episode, and where."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from funcrl.core.checks import require
from funcrl.envs.stepping import Env


def mask(function: str, options: dict[str, Any] | None, num_envs: int, device: torch.device) -> Tensor | None:
    """Return the environments that are to begin an episode, `[N]` boolean; None for all.

    Args:
        function: Who complains: `"CartPole.reset"`.
        options: With `"reset_mask"`, or without.
        num_envs: N.
        device: Of the result.

    Raises:
        TypeError: When the mask is not boolean.
        ValueError: When it has another shape or names nobody.
    """
    if "reset_mask" not in (options or {}):
        return None
    given = (options or {})["reset_mask"]
    if not isinstance(given, (Tensor, np.ndarray)) or given.dtype not in (torch.bool, np.bool_):
        raise TypeError(
            f"{function}: options['reset_mask'] must be a boolean tensor or array, "
            f"got {given!r}. Write terminated | truncated."
        )
    shape, argument = tuple(given.shape), "options['reset_mask']"
    require(shape == (num_envs,), function, argument, f"have shape ({num_envs},)", shape)
    given = torch.as_tensor(given, device=device)
    require(bool(given.any()), function, argument, "name at least one environment", given.tolist())
    return given


def starting(function: str, env: Env, options: dict[str, Any] | None) -> Env | None:
    """Return the environment whose episodes begin where the options say; None where they do not say.

    Args:
        function: Who complains: `"CartPole.reset"`.
        env: If it has `reset_options`, the names of these, it has `starting(**numbers)` too.
        options: Numbers, or whatever `float` makes one of.

    Raises:
        ValueError: When an option is unknown or not a finite number, or they contradict each other.

    >>> from funcrl.envs.cartpole import CartPole
    >>> starting("CartPole.reset", CartPole(), {"high": 0.15}).initial_range
    0.1
    """
    names: tuple[str, ...] = getattr(env, "reset_options", ())
    require(isinstance(options or {}, dict), function, "options", "be a dictionary", options)
    unknown = sorted(set(options or {}) - {"reset_mask", *names}, key=str)
    hold = (
        f"hold nothing but reset_mask, {', '.join(names)}" if names else "be empty or hold reset_mask alone"
    )
    require(not unknown, function, "options", hold, unknown)
    given = {name: _number(function, name, value) for name, value in (options or {}).items() if name in names}
    moved: Any = env
    return moved.starting(**given) if given else None


def _number(function: str, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    require(math.isfinite(number), function, f"options[{name!r}]", "be a finite number", value)
    return number


def ordered(function: str, low: float | Tensor, high: float | Tensor) -> None:
    """Check that `low` is not above `high`; where a tensor has one number a lane, each is checked later.

    Raises:
        ValueError: When it is.
    """
    if not isinstance(low, Tensor) and not isinstance(high, Tensor):
        hold = f"be at least the lower end, {low:g}"
        require(
            low <= high, function, "options['high']", hold, high, "Write options={'low': 0.0, 'high': 0.1}."
        )
