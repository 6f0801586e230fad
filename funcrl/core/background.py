"""Compiling several programs side by side, each in a process of its own.

Most of compiling is Python, which one process runs on one core whatever its threads. A child of this
process, made by fork, compiles a copy of the traced graph; what it leaves is torch's cache on the disk,
from which this process then loads the program in a tenth of a second.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1


def num_cores() -> int:
    """Return on how many cores this process may run.

    >>> num_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def beforehand(work: Callable[[], T]) -> Callable[[], T]:
    """Begin work whose result comes from a cache on the disk once it has been done.

    Args:
        work: What to do; it must not use the GPU, nor threads.

    Returns:
        A function that waits for the child, does the work here, which is quick now, and returns its
        result. Where there is one core only, or no fork, it does all of the work itself. What goes
        wrong in the child goes wrong here again, and is raised.
    """
    if num_cores() < 2 or sys.platform != "linux" or torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return work
    parent = os.getpid()
    with warnings.catch_warnings():
        # Python warns that threads do not survive a fork; the child uses none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _work_and_exit(work, parent)
    _lead_a_group(child)
    _running[child] = parent
    _end_with_this_process()

    def finish() -> T:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
        _running.pop(child, None)
        return work()

    return finish


_running: dict[int, int] = {}
"""Children that were not waited for yet, with the process that made them."""


def _lead_a_group(child: int) -> None:
    """Let a child and the C++ compiler that it starts be one group, so that they end together."""
    with contextlib.suppress(OSError):
        os.setpgid(child, child)


@functools.cache
def _end_with_this_process() -> None:
    atexit.register(_end_children)


def _end_children() -> None:
    for child in [child for child, parent in _running.items() if parent == os.getpid()]:
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def die_with(parent: int) -> None:
    """End this process, a child, when its parent has ended, however that came about (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that line
        os._exit(1)


def _work_and_exit(work: Callable[[], object], parent: int) -> None:
    """Do the work of a child: without a word, and without what the parent would do at its end."""
    try:
        _lead_a_group(0)
        die_with(parent)
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)
        sys.stdout = sys.stderr = os.fdopen(silent, "w")
        work()
    finally:
        os._exit(0)
