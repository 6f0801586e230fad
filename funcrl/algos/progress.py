"""How far a run has come, for algorithms that learn from one window of experience at a time.

Settings that have these fields can use it: `num_envs`, `window_length` where a window is more than a step, and `num_epochs` and `num_minibatches` where
more is made of a window than one gradient step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from funcrl.ops import schedules


def updates_per_window(config: Any) -> int:
    """Return the gradient steps that are taken on one window.

    >>> updates_per_window(None)
    1
    """
    return int(getattr(config, "num_epochs", 1) * getattr(config, "num_minibatches", 1))


def env_steps(step: Tensor, config: Any) -> Tensor:
    """Return the environment steps before the window that is being collected or learnt from.

    It is constant while a window is learnt from, so a schedule over it falls from window to window.

    Args:
        step: `[]` int32, gradient steps so far.
        config: The settings.

    Returns:
        `[]` float32.
    """
    # As tensors: torch.compile turns integers that differ between two configs into symbols, which
    # arithmetic with a batched tensor refuses under vmap.
    updates = torch.full((), float(updates_per_window(config)), dtype=torch.float32, device=step.device)
    length = getattr(config, "window_length", 1)
    steps = torch.full((), float(config.num_envs * length), dtype=torch.float32, device=step.device)
    # Half a step keeps the quotient off the whole numbers, where rounding would matter.
    return torch.floor((step.to(torch.float32) + 0.5) / updates) * steps


def remaining(step: Tensor, config: Any) -> Tensor:
    """Return the share of `anneal_steps` that is to come, which falls linearly from 1 to 0 from window to window.

    Args:
        step: `[]` int32, gradient steps so far.
        config: The settings, with `anneal_steps`; where these are 0, no length is known and it stays 1.

    Returns:
        `[]` float32.
    """
    over = schedules.known_length(config.anneal_steps)
    return schedules.linear(1.0, 0.0, over, env_steps(step, config))


def learning_rate(step: Tensor, config: Any) -> Tensor:
    """Return the learning rate, which falls linearly to zero from window to window.

    Args:
        step: `[]` int32, gradient steps so far.
        config: The settings, with `learning_rate` and `anneal_steps`; where these are 0, no length is known and
            it stays.

    Returns:
        `[]` float32.
    """
    return config.learning_rate * remaining(step, config)  # type: ignore[no-any-return]
