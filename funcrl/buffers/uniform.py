"""A replay buffer from which every transition is drawn equally often.

Lin 1992, "Self-improving reactive agents based on reinforcement learning, planning and teaching";
as used by Mnih et al. 2015, "Human-level control through deep reinforcement learning".

A transition over n steps begins at any step but the newest n - 1, whose n steps are not all there
yet; those are drawn once they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.buffers import ring
from funcrl.buffers.ring import Replay, add, init
from funcrl.core import ReplayBatch, checks, random, tree

__all__ = ["Replay", "add", "draw", "init", "sample"]


def sample(
    buffer: Replay, key: Tensor, batch_size: int, gamma: float | Tensor, n_step: int = 1
) -> ReplayBatch:
    """Return transitions drawn uniformly with replacement.

    Often wrong: summing rewards across the end of an episode, or across the ring's seam, where the
    oldest step follows the newest.

    Args:
        buffer: Of at least `n_step` steps; with fewer all weights are 0.
        key: `[2]` int32.
        batch_size: B.
        gamma: Discount γ in [0, 1].
        n_step: n: rewards to add up, fewer where the episode ends before.

    Returns:
        `[B]` rows of weight 1.
    """
    ring.check_length("buffers.sample", "n_step", n_step, buffer)
    step, env = draw(buffer, key, batch_size, n_step)
    batch = ring.gather(buffer, step, env, gamma, n_step)
    weight = torch.where(ring.holds(buffer, n_step), batch.weight, 0.0)
    return tree.replace(batch, weight=weight)


def draw(buffer: Replay, key: Tensor, batch_size: int, length: int) -> tuple[Tensor, Tensor]:
    """Return where to begin, so that as many steps as are wanted follow each other in the buffer.

    Args:
        buffer: Of at least `length` steps.
        key: `[2]` int32.
        batch_size: B.
        length: Steps that are wanted, the first one included.

    Returns:
        `[B]` int64 number of the step, as `Replay.count` counts, and `[B]` int64 of the environment.
    """
    checks.integer("buffers.sample", "batch_size", batch_size, 1)
    ring.check_length("buffers.sample", "length", length, buffer)
    begin, num_envs = ring.oldest(buffer), buffer.data.reward.shape[1]
    # 48 bits: with the 24 of one number some rows of a million would be drawn 6 % more often.
    high, low = random.uniform(key, (2, batch_size)).to(torch.float64)
    place = (high + low * 2.0**-24) * (buffer.count - begin - (length - 1))
    row = place.floor()
    # What is left of the number says which environment.
    return begin + row.long(), ((place - row) * num_envs).long().contiguous()
