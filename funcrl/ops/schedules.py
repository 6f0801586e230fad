"""Numbers that change with progress. Every argument may be a tensor, so schedules sweep and vmap."""

from __future__ import annotations

import torch
from torch import Tensor


def constant(value: float | Tensor, step: Tensor) -> Tensor:
    """Return `value` at every step, as a tensor of its own.

    >>> constant(0.5, torch.tensor(3))
    tensor(0.5000)
    """
    return torch.zeros_like(step, dtype=torch.float32) + value


def known_length(steps: Tensor) -> Tensor:
    """Return the length of a schedule, infinite where it is 0: not filled in, so that nothing changes.

    >>> known_length(torch.tensor([0.0, 100.0]))
    tensor([ inf, 100.])
    """
    return torch.where(steps > 0, steps, torch.inf)


def linear(start: float | Tensor, end: float | Tensor, over: float | Tensor, step: Tensor) -> Tensor:
    """Return the value at `step` on a line from `start` to `end`, and `end` afterwards.

    Args:
        start: Value at step 0.
        end: Value from step `over` on.
        over: Length in steps; infinity stays at `start`, 0 is at `end` from the first step on.
        step: `[]` number of steps so far, integer or float.

    Returns:
        `[]` float32.

    >>> linear(1.0, 0.0, 10.0, torch.tensor(4))
    tensor(0.6000)
    """
    over = torch.as_tensor(over, dtype=torch.float32, device=step.device)
    fraction = torch.where(over > 0, torch.clamp(step.to(torch.float32) / over, 0.0, 1.0), 1.0)
    return start + (end - start) * fraction
