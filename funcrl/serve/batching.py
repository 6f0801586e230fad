"""Requests that arrive together are answered together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from funcrl.serve.rows import Policy, Row, run, zeros

Found = tuple[np.ndarray[Any, Any], ...]


QUICK = 1e-3
"""Seconds of a call up to which a policy runs where requests are read: to another thread and back takes as long."""


def seconds_of(policy: Policy, calls: int = 5) -> float:
    """Return how long a policy takes for one observation, the least of a few calls."""
    seconds = []
    for _ in range(calls):
        began = time.perf_counter()
        run(policy, [zeros(policy)])
        seconds.append(time.perf_counter() - began)
    return min(seconds)


class BusyError(Exception):
    """More is waiting than will be answered soon."""


class Batcher:
    """Runs a policy, one batch after the other; what arrives meanwhile is the next."""

    def __init__(self, policy: Policy, most: int, waiting: int, measure: Callable[[int], object]) -> None:
        """Begin with nothing to do.

        Args:
            policy: What is run.
            most: Observations in one batch, unless one request alone has more.
            waiting: Observations that may wait.
            measure: Told the size of each batch.
        """
        self._policy, self._most, self._waiting, self._measure = policy, most, waiting, measure
        self._queue: list[tuple[Row, asyncio.Future[Found]]] = []
        self._count = 0
        self._works: asyncio.Task[None] | None = None
        self._quick = seconds_of(policy) < QUICK
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy")

    async def __call__(self, rows: Row) -> Found:
        """Return what the policy answers.

        Raises:
            BusyError: When too much is waiting.
        """
        if self._count and self._count + rows.count > self._waiting:
            raise BusyError
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._queue.append((rows, future))
        self._count += rows.count
        if self._works is None:
            self._works = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        try:
            while self._queue:
                await asyncio.sleep(0)  # what has arrived already joins
                batch = self._next()
                rows = [row for row, _ in batch]
                self._measure(sum(row.count for row in rows))
                try:
                    if self._quick:
                        found = run(self._policy, rows)
                    else:
                        loop = asyncio.get_running_loop()
                        found = await loop.run_in_executor(self._thread, run, self._policy, rows)
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), one in zip(batch, found, strict=True):
                    if not future.done():  # whose connection is gone has been cancelled
                        future.set_result(one)
        finally:
            self._works = None

    def _next(self) -> list[tuple[Row, asyncio.Future[Found]]]:
        taken, size = 0, 0
        for row, _ in self._queue:
            if taken and size + row.count > self._most:
                break
            taken, size = taken + 1, size + row.count
        batch, self._queue = self._queue[:taken], self._queue[taken:]
        self._count -= size
        return batch

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False)
