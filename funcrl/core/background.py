"""Compiling several programs side by side, each in a process of its own.

Most of compiling is Python, which one process runs on one core whatever its threads. A child of this
process, made by fork, compiles a copy of the traced graph; what it leaves is torch's cache on the disk,
from which this process then loads the program in a tenth of a second.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


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
    with warnings.catch_warnings():
        # Python warns that threads do not survive a fork; the child uses none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _work_and_exit(work)

    def finish() -> T:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
        return work()

    return finish


def _work_and_exit(work: Callable[[], object]) -> None:
    """Do the work of a child: without a word, and without what the parent would do at its end."""
    try:
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)
        sys.stdout = sys.stderr = os.fdopen(silent, "w")
        work()
    finally:
        os._exit(0)
