"""What a run is made of: all that goes from one iteration to the next, and what an iteration shows."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from funcrl import envs
from funcrl.core import tree


@tree.struct
class Carry:
    """All that goes from one iteration to the next, lane axis first."""

    agent: Any
    """`[S]` states of the algorithm"""
    envs: envs.EnvState | tuple[()]
    """`[S, N]`; nothing where the environments run on the host, which nothing can put back"""
    remembered: Any
    """`[S, N]` what the policy remembers of the episodes of these environments; `()` where it is nothing, or where `envs` is"""
    env_values: list[Tensor]
    """`[S]` each: the numbers in which the lanes' environments differ"""
    collect_key: Tensor
    """`[S, 2]` int32, from which acting and stepping draw their keys by number"""
    learn_key: Tensor
    """`[S, 2]` int32, from which learning draws its keys by number"""
    iteration: Tensor
    """`[S]` int32, number of iterations so far"""
    earned: Tensor
    """`[S]` float32, sum of the returns of the episodes that ended in this iteration"""
    episodes: Tensor
    """`[S]` float32, how many ended in it"""
    last_return: Tensor
    """`[S]` float32, mean return of the episodes that ended last; NaN before the first"""
    memory: Any
    """`[S]` what this kind of loop remembers beside; `()` where it is nothing"""


@tree.struct
class Report:
    """What one iteration showed, one figure a lane."""

    returns: Tensor
    """`[S]` mean return of the episodes that ended; the last value where none did, NaN before"""
    episodes: Tensor
    """`[S]` float32, number of episodes that ended"""
    metrics: dict[str, Tensor]
    """`[S]` each, of the last update, and what the loop itself measures"""
