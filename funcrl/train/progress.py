"""What a caller is told while training runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from funcrl.train.carry import Report


@dataclass(frozen=True)
class Progress:
    """What a callback is told after each iteration."""

    seeds: tuple[int, ...]
    """seeds of the lanes that are running: all of them, or one group; without those that were lost"""
    lanes: tuple[int, ...]
    """for each of them its place among the seeds that were asked for"""
    iteration: int
    """iterations done by these lanes, from 1"""
    num_iterations: int
    """iterations that they are to do"""
    step: int
    """environment steps per lane so far"""
    report: Report
    """the figures, one a lane, on the device"""


Callback = Callable[[Progress], bool | None]
"""Called after each iteration; training stops where it returns True."""
