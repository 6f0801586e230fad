"""How many processes a training is shared out to."""

from __future__ import annotations

import os
import sys
import warnings

import torch

from funcrl import envs
from funcrl.core import background, checks
from funcrl.core.checks import require

FEWEST_LANES = 2
"""Lanes of a program whose bits are those of a program of many."""


def can_fork() -> bool:
    """Return whether this process can be copied; on macOS the system's own libraries do not survive it."""
    return hasattr(os, "fork") and sys.platform != "darwin"


def most_processes(num_lanes: int) -> int:
    """Return to how many processes lanes that run at once can be shared out.

    No process gets a single lane while another has more: a program of one lane multiplies matrices in
    another order than one of several, so that its numbers would differ in their last bits.

    >>> [most_processes(num_lanes) for num_lanes in (1, 2, 3, 16)]
    [1, 1, 2, 8]
    """
    return -(-num_lanes // FEWEST_LANES)


def resolve_processes(
    function: str,
    processes: int | None,
    env: envs.AnyEnv,
    num_lanes: int,
    device: torch.device,
    backend: str,
) -> int:
    """Return how many processes train: one a core by default, where that is of use.

    Args:
        function: Who complains.
        processes: What the user asked for; None for the default.
        env: The environment. On the host it is shared out only where asked for: an environment may
            hold what cannot be had twice.
        num_lanes: Lanes that run at once.
        device: Where they run.
        backend: Eager training is for debugging, and stays in this process unless asked.

    Raises:
        ValueError: When there are to be less than one, or several on a GPU.
    """
    most = most_processes(num_lanes)
    if processes is None:
        useful = device.type == "cpu" and backend == "inductor" and not isinstance(env, envs.HostEnv)
        return min(background.num_cores(), most) if useful and can_fork() else 1
    checks.integer(function, "processes", processes, 1)
    instead = "One process keeps a GPU busy; leave it out."
    require(
        processes == 1 or device.type == "cpu", function, "processes", "be 1 on a GPU", processes, instead
    )
    if processes > 1 and not can_fork():
        warnings.warn(
            f"{function}: processes must be 1 where a process cannot be forked ({sys.platform}), "
            f"got {processes}. One process does all the work.",
            stacklevel=4,
        )
        return 1
    return min(processes, most)
