"""The figures of all iterations, in tensors that are made once and written in place.

A number takes its four bytes and nothing else, however many iterations there are: a list of small
tensors, one a figure and iteration, takes a thousand times as much. Pages that nothing has been written
to take no memory, so that room for a million iterations costs nothing in a run that stops early.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from funcrl.core import tree
from funcrl.train.carry import Report

Make = Callable[[tuple[int, ...], torch.dtype], Tensor]
"""`make(shape, dtype)`: a tensor on the CPU"""

ROWS_FROM_A_GPU = 256
"""Iterations that are copied from a GPU at once: each copy waits for all that the device has to do."""


def private(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return an empty tensor of this process's own."""
    return torch.empty(shape, dtype=dtype, device="cpu")


def shared(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a tensor of zeros that this process and those forked from it later read and write alike.

    >>> shared((2, 3), torch.float32).sum()
    tensor(0.)
    """
    count = torch.Size(shape).numel()
    if count == 0:
        return torch.empty(shape, dtype=dtype, device="cpu")
    # Anonymous, so there is no file, no name, and nothing left behind however the processes end.
    memory = mmap.mmap(-1, count * dtype.itemsize)
    return torch.frombuffer(memory, dtype=dtype, count=count).reshape(shape)


def figures(report: Report, num_lanes: int, num_iterations: int, make: Make = private) -> Report:
    """Return room for the reports of a run, `[S, I]` each.

    Args:
        report: An example; its number of lanes does not matter.
        num_lanes: S.
        num_iterations: I.
        make: What makes the tensors.
    """
    return tree.map(lambda x: make((num_lanes, num_iterations), x.dtype), report)  # type: ignore[no-any-return]


def like_lanes(states: Any, num_lanes: int, make: Make = private) -> Any:
    """Return room for a tree of states with another number of lanes.

    Args:
        states: An example, lane axis first.
        num_lanes: S.
        make: What makes the tensors.
    """
    return tree.map(lambda x: make((num_lanes, *x.shape[1:]), x.dtype), states)


class History:
    """Writes one report after the other into the columns of `figures`."""

    def __init__(self, room: Report, before: Report | None = None) -> None:
        """Begin at the first column, or after what was reported before.

        Args:
            room: What `figures` returned, or some of its lanes.
            before: `[S, I]` reports of iterations that are done already.
        """
        self.room = room
        self.count = 0 if before is None else before.returns.shape[1]
        """reports so far"""
        self._waiting: list[Report] = []
        if before is not None:
            tree.map(lambda all, first: all[:, : self.count].copy_(first), room, before)

    def append(self, report: Report) -> None:
        """Write a report, or keep it until there are several where that would wait for a GPU.

        Args:
            report: `[S]` or more lanes; the first S are written.
        """
        self._waiting.append(report)
        self.count += 1
        if report.returns.device.type == "cpu" or len(self._waiting) == ROWS_FROM_A_GPU:
            self.flush()

    def flush(self) -> None:
        """Write what has been kept."""
        if not self._waiting:
            return
        begin, num_lanes = self.count - len(self._waiting), len(self.room.returns)

        def write(room: Tensor, *columns: Tensor) -> None:
            rows = columns[0][None] if len(columns) == 1 else torch.stack(columns)
            room[:, begin : self.count].copy_(rows[:, :num_lanes].T)

        tree.map(write, self.room, *self._waiting)
        self._waiting = []

    def all(self) -> Report:
        """Return what has been written, `[S, I]`; where the run was cut short, without the empty room."""
        self.flush()
        return cut(self.room, self.count)


def cut(room: Report, num_iterations: int) -> Report:
    """Return the first iterations of `figures`."""
    if room.returns.shape[1] == num_iterations:
        return room
    return tree.map(lambda x: x[:, :num_iterations].clone(), room)  # type: ignore[no-any-return]
