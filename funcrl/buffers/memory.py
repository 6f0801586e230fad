"""How much memory replay buffers take, before they take it, and whether there is as much."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from funcrl.core import Transition, checks, tree

SHARE = 0.9
"""of the free memory that buffers may take; programs need some for what they compute"""

_MEMINFO = Path("/proc/meminfo")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def lane_bytes(init: Callable[[Transition], Any], example: Transition) -> int:
    """Return the bytes of one lane's buffer, without making it.

    Args:
        init: From an example of one step to an empty buffer.
        example: `[N, ...]` one step.

    >>> from funcrl.buffers import uniform
    >>> no = torch.tensor([False, False])
    >>> step = Transition(torch.ones(2, 3), no.long(), torch.ones(2), no, no, torch.ones(2, 3), {})
    >>> lane_bytes(lambda example: uniform.init(example, 1000), step)  # 2 · (12 + 8 + 4 + 1 + 1 + 12) · 1000 + 8
    76008
    """
    buffer = init(tree.map(lambda x: x.to("meta"), example))
    return sum(x.numel() * x.element_size() for x in tree.leaves(buffer))


def text(num_bytes: float) -> str:
    """Return a number of bytes as people read it, in powers of 1000.

    >>> text(999), text(1_250_000), text(3e12)
    ('999 B', '1.2 MB', '3.0 TB')
    """
    power = 0
    while num_bytes >= 999.95 and power < 4:
        num_bytes, power = num_bytes / 1000, power + 1
    return f"{num_bytes:.{min(power, 1)}f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def available(device: torch.device) -> int | None:
    """Return how many bytes can be allocated on a device, None where the system does not say.

    On the CPU of a Linux machine that is what the kernel estimates to be free without swapping, or
    what the control groups of the process (a container, a batch job) leave, whichever is less.

    >>> (available(torch.device("cpu")) or 1) > 0
    True
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch has taken from the driver and does not use is as good as free.
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    limits = [limit for limit in (_free_of_the_machine(), *_free_of_the_groups()) if limit is not None]
    return min(limits, default=None)


def check_memory(function: str, bytes_a_lane: int, num_lanes: int, config: Any, device: torch.device) -> None:
    """Refuse buffers that do not fit in memory, before anything is allocated.

    Args:
        function: Who complains, `"train"`.
        bytes_a_lane: What `lane_bytes` returned.
        num_lanes: S, lanes that are trained at the same time.
        config: The settings, for their `buffer_size`, `num_envs` and `storage`.
        device: Where the buffers will be.

    Raises:
        ValueError: When they take more than `SHARE` of what is free; it says how many bytes, for how
            many lanes, and what to lower.
    """
    free, needed = available(device), bytes_a_lane * num_lanes
    if free is None or needed <= SHARE * free:
        return
    rows = int(SHARE * free / needed * config.buffer_size / config.num_envs)
    smaller, fewer = rows * config.num_envs, int(SHARE * free / bytes_a_lane)
    ways = [f"buffer_size to {smaller}"] * (smaller > 0) + [f"lanes_per_group to {fewer}"] * (fewer > 0)
    sentences = [f"Lower {' or '.join(ways)}."] * bool(ways)
    if not config.storage:
        sentences.append(
            "Observations take less in a smaller dtype: storage='uint8' holds whole numbers up to 255, "
            "'float16' and 'bfloat16' hold others with less precision."
        )
    checks.require(
        False,
        function,
        "buffer_size",
        f"fit in memory ({text(free)} are free on {device})",
        config.buffer_size,
        " ".join(
            [f"That takes {text(bytes_a_lane)} a lane, {text(needed)} for {num_lanes} lanes.", *sentences]
        ),
    )


def _free_of_the_machine() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _free_of_the_groups() -> list[int | None]:
    """Return what each control group above this process leaves; both versions of the interface."""
    try:
        entries = [line.split(":", 2) for line in _OWN_CGROUPS.read_text().splitlines()]
    except OSError:
        return []
    free = []
    for _, controllers, path in entries:
        if controllers == "":
            root, names = _CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = _CGROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = Path(path.lstrip("/"))
        # In a container the path may be one of the host's, which is not there: then the root counts.
        free += [_left(root / part, *names) for part in (own, *own.parents)]
    return free


def _left(group: Path, limit: str, usage: str, cache: str) -> int | None:
    try:
        most = (group / limit).read_text().strip()
        used = int((group / usage).read_text())
        lines = (group / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return None
    if most == "max":
        return None
    # Pages of files that nobody reads at the moment are given up when memory is asked for.
    given_up = sum(int(line.split()[1]) for line in lines if line.split()[:1] == [cache])
    return max(0, int(most) - used + given_up)
