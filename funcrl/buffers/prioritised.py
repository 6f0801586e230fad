"""A replay buffer from which transitions are drawn the more often, the larger their error was.

Schaul, Quan, Antonoglou & Silver 2016, "Prioritized experience replay", arXiv 1511.05952, the
proportional variant.

    P(i) = p_i^α / Σ_k p_k^α                                                               (1)
    p_i = |δ_i| + ε                                                                section 3.3
    w_i = (N · P(i))^-β / max_j w_j                                                section 3.4

As in the paper, a new transition has the largest priority so far, so that everything is drawn at
least once in a while, and a batch is stratified: the total is divided into B equal ranges and one
transition is drawn from each (appendix B.2.1). A transition is expected B · P(i) times in a batch
either way, with less variance. The maximum of w is over the batch, as in the authors' later code.

A transition over n steps has priority 0 until its n steps are there, and none of what was overwritten
is left.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from funcrl import ops
from funcrl.buffers import ring, sum_tree
from funcrl.buffers.ring import Replay
from funcrl.core import ReplayBatch, Transition, checks, random, tree

EPSILON = 1e-6
"""ε: what keeps a transition without error from never being drawn again"""


@tree.struct
class Prioritised:
    """The last R steps of N environments, and a priority for each of the R · N."""

    replay: Replay
    priorities: sum_tree.Levels
    """p^α of row r and environment n in place r · N + n, and their sums"""
    largest: Tensor
    """`[]` largest p^α so far, 1 at first"""
    n_step: int = tree.static()
    """n of the transitions that are sampled"""


def init(
    example: Transition,
    num_rows: int,
    storage: Mapping[str, torch.dtype] | None = None,
    n_step: int = 1,
) -> Prioritised:
    """Return a buffer that holds nothing.

    Args:
        example: `[N, ...]` one step, for shapes, dtypes and the device; its values are not kept.
        num_rows: R, at least 1; R · N below 2³¹.
        storage: Dtypes to store fields in, see `uniform.init`.
        n_step: n of the transitions that are to be sampled, at most R.

    Raises:
        ValueError: When there is no row or there are too many, n has no room, or `storage` names an
            unknown field.
    """
    replay = ring.init(example, num_rows, storage)
    ring.check_length("buffers.init", "n_step", n_step, replay)
    size = replay.data.reward.numel()
    checks.require(size < 2**31, "buffers.init", "num_rows · num_envs", "be below 2**31", size)
    device = replay.data.reward.device
    levels = sum_tree.init(size, device)
    largest = torch.ones((), dtype=torch.float32, device=device)
    return Prioritised(replay=replay, priorities=levels, largest=largest, n_step=n_step)


def add(buffer: Prioritised, window: Transition) -> Prioritised:
    """Return the buffer with T steps more, over the oldest ones where it is full.

    Args:
        buffer: Of R rows.
        window: `[T, N, ...]` steps that follow each other and what was added before; T at most R.

    Raises:
        ValueError: When the window has more steps than the buffer has rows.
    """
    replay, n_step = ring.add(buffer.replay, window), buffer.n_step
    (num_rows, num_envs), num_new = replay.data.reward.shape, window.reward.shape[0]
    # The new steps, and before them the n - 1 that had to wait for these.
    num_changed = min(num_new + n_step - 1, num_rows)
    step = replay.count - num_changed + torch.arange(num_changed, device=replay.count.device)
    whole = (step >= 0) & (step + n_step <= replay.count)
    value = torch.where(whole, buffer.largest, 0.0)
    env = torch.arange(num_envs, device=step.device)
    place = (step % num_rows).unsqueeze(-1) * num_envs + env
    value = value.unsqueeze(-1).expand(num_changed, num_envs)
    priorities = sum_tree.write(buffer.priorities, place.flatten(), value.flatten())
    return tree.replace(buffer, replay=replay, priorities=priorities)


def sample(
    buffer: Prioritised,
    key: Tensor,
    batch_size: int,
    gamma: float | Tensor,
    importance_exponent: float | Tensor,
) -> tuple[ReplayBatch, Tensor]:
    """Return transitions drawn in proportion to p^α, and where they lie.

    Args:
        buffer: Of at least n steps; with fewer all weights are 0.
        key: `[2]` int32.
        batch_size: B.
        gamma: Discount γ in [0, 1].
        importance_exponent: β in [0, 1]: how far the weights undo the bias, 1 wholly.

    Returns:
        `[B]` rows, and `[B]` int64 places for `update`.
    """
    checks.integer("buffers.sample", "batch_size", batch_size, 1)
    stratum = torch.arange(batch_size, dtype=torch.float64, device=key.device)
    share = (stratum + random.uniform(key, (batch_size,))) / batch_size
    place = sum_tree.search(buffer.priorities, share)
    num_envs = buffer.replay.data.reward.shape[1]
    batch = ring.gather(buffer.replay, place // num_envs, place % num_envs, gamma, buffer.n_step)
    priority = sum_tree.read(buffer.priorities, place)
    weight = ops.importance_weights(priority, importance_exponent)
    # Where there is nothing to draw yet, a place without priority is found.
    return tree.replace(batch, weight=torch.where(priority > 0, weight, 0.0)), place


def update(
    buffer: Prioritised, index: Tensor, td_error: Tensor, priority_exponent: float | Tensor
) -> Prioritised:
    """Return the buffer with new priorities for what was sampled last, before anything is added.

    Where a place was sampled twice, the larger of its errors counts, so that no result depends on the
    order in which a device writes.

    Args:
        buffer: The buffer from which `sample` drew.
        index: `[B]` int64 places from `sample`.
        td_error: `[B]` δ, of either sign.
        priority_exponent: α in [0, 1]: 0 draws uniformly, 1 in proportion to the error.
    """
    # int32, because comparisons of int64 are not vectorised.
    place = index.to(torch.int32)
    same = place.unsqueeze(-1) == place
    error = torch.where(same, td_error.abs(), 0.0).amax(dim=-1)
    value = (error + EPSILON) ** priority_exponent
    # What could not be drawn, since it is not whole yet, does not become so by an error.
    value = torch.where(sum_tree.read(buffer.priorities, index) == 0, 0.0, value)
    priorities = sum_tree.write(buffer.priorities, index, value)
    largest = torch.maximum(buffer.largest, value.amax())
    return tree.replace(buffer, priorities=priorities, largest=largest)
