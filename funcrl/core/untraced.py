"""Work that no tracer sees."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def untraced(function: Callable[[], T]) -> T:
    """Return `function()`, run where neither `vmap` nor a tracer sees it.

    Tracing is a state of the thread. A tensor that were made meanwhile would be made anew in every step of a program,
    and what was kept of it would not be a tensor that another program can use.

    >>> untraced(lambda: 1 + 1)
    2
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()
