"""Where a run stands, saved while it goes on, and going on from there.

Nothing here knows files. Training asks a `Saver` after each iteration whether it wants the run's state;
whoever holds lanes writes theirs as a `Part`, in whichever process that is, and once all parts of one
iteration are written the saver is told. From what was saved, a `Start` for each group of lanes lets a run
go on as if nothing had been in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from funcrl.core import tree
from funcrl.train.carry import Carry, Report
from funcrl.train.shards import Shard


@dataclass(frozen=True)
class Part:
    """Some lanes after an iteration."""

    lanes: range
    """places in `Plan.seeds`"""
    iteration: int
    """iterations done"""
    carry: Carry
    """`[len(lanes), ...]` everything that the next iteration depends on"""


Receipt = dict[str, Any]
"""What a saver says of a part that it has written; JSON can hold it, so that a worker can tell its parent."""


class Saver(Protocol):
    """What keeps the state of a run somewhere. It must not raise where it cannot: training goes on."""

    def wanted(self) -> bool:
        """Return whether the state is wanted as soon as it can be had; asked after each iteration."""

    def mark(self, group: range, iteration: int) -> None:
        """Note that the state after this iteration is about to be written; no later report has been shown yet."""

    def write(self, part: Part) -> Receipt:
        """Write a part, perhaps in another process than the one that calls the other methods."""

    def complete(self, receipts: list[Receipt]) -> None:
        """Take note that all parts of what was marked are written."""


@dataclass(frozen=True)
class Start:
    """Where a group of lanes goes on."""

    iteration: int
    """iterations done"""
    carry: Carry
    """`[S, ...]`"""
    figures: Report
    """`[S, iteration]` what was reported so far"""


Starts = Callable[[range, Carry], Start | None]
"""From a group of lanes, and an example of a carry with any number of lanes, to where the group goes on; None
for a group that has not begun."""


def of_members(start: Start, shard: Shard, begin: int) -> Start:
    """Return where a shard goes on: the carry of all lanes of its program, the figures of its own.

    Args:
        start: Where its group goes on.
        shard: Some lanes of the group.
        begin: The group's first lane.
    """
    members = torch.tensor([lane - begin for lane in shard.members], dtype=torch.int64, device="cpu")
    carry = tree.map(lambda x: x[members.to(x.device)], start.carry)
    return Start(start.iteration, carry, tree.index(start.figures, members[: len(shard.lanes)]))
