"""Sharing lanes out to processes, as pure functions: a plan to shards, shards to the lanes of programs.

Nothing here knows how a shard is trained. All shards have one size, so that one program serves them
all; where lanes do not suffice, the last one is repeated and what it gives the second time is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """Lanes that one program trains."""

    lanes: range
    """places in `Plan.seeds`; one at least"""
    size: int
    """lanes of the program, at least as many"""

    @property
    def members(self) -> list[int]:
        """The places in `Plan.seeds` of all lanes of the program, the last one repeated where needed.

        >>> Shard(range(4, 7), size=5).members
        [4, 5, 6, 6, 6]
        """
        return [*self.lanes, *[self.lanes[-1]] * (self.size - len(self.lanes))]


def groups(num_lanes: int, lanes_per_group: int) -> Iterator[range]:
    """Yield lanes that run at once, one group after the other.

    >>> list(groups(5, 2))
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    for begin in range(0, num_lanes, lanes_per_group):
        yield range(begin, min(begin + lanes_per_group, num_lanes))


def shard_size(lanes_per_group: int, processes: int) -> int:
    """Return how many lanes the program of each process has.

    >>> shard_size(16, 5), shard_size(16, 1)
    (4, 16)
    """
    return -(-lanes_per_group // processes)


def share_out(lanes: range, processes: int, size: int) -> list[Shard]:
    """Return a shard for each process, as even as can be, none of them empty.

    Args:
        lanes: A group.
        processes: How many there are; some get nothing where there are fewer lanes.
        size: Lanes of each one's program, see `shard_size`.

    >>> [len(shard.lanes) for shard in share_out(range(16), processes=5, size=4)]
    [4, 3, 3, 3, 3]
    """
    each, rest = divmod(len(lanes), min(processes, len(lanes)))
    shards, begin = [], 0
    for number in range(min(processes, len(lanes))):
        end = begin + each + (number < rest)
        shards.append(Shard(lanes[begin:end], size))
        begin = end
    return shards


def listed(seeds: Sequence[int]) -> str:
    """Return seeds as people name them.

    >>> listed([4, 5, 6, 7]), listed([3]), listed([1, 5])
    ('seeds 4 to 7', 'seed 3', 'seeds 1, 5')
    """
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}"
