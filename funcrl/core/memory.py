"""Keeping freed memory for compiled programs, and Python's collector away from the compiler's objects."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import os
import sys
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_ON_THE_HEAP = 32 << 20
"""bytes; glibc takes no larger threshold"""
_KEPT = 1 << 30
"""bytes at the end of the heap that are not given back"""


@functools.cache
def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed rather than give it back to the system at once.

    A compiled program allocates its intermediate results anew in every call. The C library of Linux
    gets blocks of 128 KiB and more from the system and returns them when they are freed, so that
    every call touches fresh pages, which the system has to clear first: that cost up to three quarters
    of the time of programs for a thousand lanes.

    It is asked once a process, when the first program is compiled, and not where the environment
    variables `MALLOC_TRIM_THRESHOLD_` or `MALLOC_MMAP_THRESHOLD_` say what is wanted.

    Returns:
        Whether it will.
    """
    told = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys()
    if told or sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library than glibc
        return False
    settings = ((_MMAP_THRESHOLD, _LARGEST_ON_THE_HEAP), (_TRIM_THRESHOLD, _KEPT))
    return all(mallopt(name, value) == 1 for name, value in settings)


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Do without Python's cyclic garbage collector, as it was before where that is off already.

    Tracing and compiling make a million objects that stay. The collector would look at all of them
    again and again, for a sixth of the time, and for a second at the end of the process, where
    nothing needs to be collected any more: that is left out too.
    """
    _leave_at_once()
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@functools.cache
def _leave_at_once() -> None:
    atexit.register(gc.freeze)
