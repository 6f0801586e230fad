"""Sequences of consecutive steps from a replay buffer, for agents with a memory of their own.

Hausknecht & Stone 2015, "Deep recurrent Q-learning for partially observable MDPs", arXiv 1507.06527,
section 4 ("bootstrapped random updates": a sequence begins at any step of an episode).

The buffer is that of `uniform`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.buffers import ring
from funcrl.buffers.ring import Replay, add, init
from funcrl.buffers.uniform import draw
from funcrl.core import Transition, loops, tree

__all__ = ["Replay", "Sequences", "add", "init", "sample"]


@tree.struct
class Sequences:
    """B times L steps that follow each other."""

    transition: Transition
    """`[L, B, ...]`, no extras"""
    mask: Tensor
    """`[L, B]` boolean: the step belongs to the episode of the first one; False from the step after
    its end on, where another episode goes on"""


def sample(buffer: Replay, key: Tensor, batch_size: int, length: int) -> Sequences:
    """Return sequences drawn uniformly with replacement from all that the buffer holds whole.

    Often wrong: a sequence across the ring's seam, whose second half is older than its first.

    Args:
        buffer: Of at least `length` steps; with fewer nothing of the mask is True.
        key: `[2]` int32.
        batch_size: B.
        length: L, at least 1.

    Returns:
        `[L, B]` steps and their mask.
    """
    step, env = draw(buffer, key, batch_size, length)
    steps = step + torch.arange(length, device=step.device).unsqueeze(-1)
    fields = ("obs", "action", "reward", "terminated", "truncated", "next_obs")
    rows = Transition(extras={}, **{field: ring.read(buffer, field, steps, env) for field in fields})
    ended = (rows.terminated | rows.truncated).to(torch.float32)
    # Ends before the step: all up to it, less its own.
    whole = loops.prefix_sum(ended) - ended == 0.0
    return Sequences(transition=rows, mask=whole & ring.holds(buffer, length))
