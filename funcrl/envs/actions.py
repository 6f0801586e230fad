"""Actions that come from outside: checked where Python runs, never inside compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core.checks import require


def check_actions(
    function: str, space: spaces.Space[Any], actions: Any, num_envs: int, device: torch.device
) -> Tensor:
    """Return actions as a tensor of the dtype that environments take: int64, or float32 for a Box.

    The values of a Box are let through, on every device: as in Gymnasium it is the environment
    that decides what one beyond the bounds does (all of ours clip it).

    Args:
        function: Who complains.
        space: Space of one action: Discrete, MultiDiscrete, MultiBinary or Box.
        actions: `[N, ...]`, anything `torch.as_tensor` takes.
        num_envs: N.
        device: Where they are needed. Integers are read, and checked, on the CPU only.

    Returns:
        `[N, ...]` on the device.

    Raises:
        TypeError: When the actions are not numbers.
        ValueError: When their dtype or shape is wrong, or an integer stands for no action.

    >>> check_actions("step", spaces.Discrete(2), [0, 1], 2, torch.device("cpu"))
    tensor([0, 1])
    """
    try:
        tensor = as_numbers(actions, device)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{function}: actions must be a tensor or an array, got {actions!r}.") from None
    shape = (num_envs, *(space.shape or ()))
    require(tuple(tensor.shape) == shape, function, "actions", f"have shape {shape}", tuple(tensor.shape))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        fine = tensor.is_floating_point()
        require(
            fine, function, "actions", "be floating-point numbers", tensor.dtype, "Write actions.float()."
        )
        return tensor.to(torch.float32)
    fine = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    require(fine, function, "actions", "be integers", tensor.dtype, "Write actions.long().")
    tensor = tensor.to(torch.int64)
    if not isinstance(space, spaces.Box):
        _check_values(function, tensor, *_integer_bounds(space))
    return tensor


def as_numbers(actions: Any, device: torch.device) -> Tensor:
    """Return actions as a tensor on a device, in their own dtype; Python's floats as float32.

    Args:
        actions: Anything `torch.as_tensor` takes.
        device: Where they are needed.

    >>> as_numbers([0.5], torch.device("cpu")).dtype
    torch.float32
    """
    tensor = torch.as_tensor(actions, device=device)
    if tensor.is_floating_point() and not hasattr(actions, "dtype"):
        # Torch made it in its default dtype, which may hold fewer digits.
        tensor = torch.as_tensor(actions, dtype=torch.float32, device=device)
    return tensor.detach()


def _integer_bounds(space: Any) -> tuple[Any, Any]:
    """Return the least and the greatest value: numbers, or arrays with one for each component."""
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.start + space.n - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    return 0, 1


def _check_values(function: str, actions: Tensor, low: Any, high: Any) -> None:
    if actions.device.type != "cpu":  # reading values would make the host wait for a GPU
        return
    if isinstance(low, int) and actions.numel():
        least, most = actions.aminmax()
        if least.item() >= low and most.item() <= high:
            return
    low, high = (torch.as_tensor(bound, dtype=torch.int64, device="cpu") for bound in (low, high))
    inside = (actions >= low) & (actions <= high)
    if not bool(inside.all()):
        first = (
            int((~inside).flatten(1).any(1).nonzero()[0]) if inside.ndim > 1 else int((~inside).nonzero()[0])
        )
        bounds = f"{_short(low)} and {_short(high)}"
        value = f"{actions[first].tolist()} for environment {first}"
        raise ValueError(f"{function}: actions must lie between {bounds}, got {value}.")


def _short(bound: Tensor) -> str:
    values = bound.flatten().tolist()
    return f"{values[0]:g}" if len(set(values)) == 1 else str(bound.tolist())
