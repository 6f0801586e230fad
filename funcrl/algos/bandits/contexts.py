"""What contextual bandits share: their spaces, their networks, and a memory of what was chosen.

The memory is a ring: once full, the newest interaction takes the place of the oldest. It holds what
a bandit is told, the reward of the action that was taken and of no other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from funcrl import nets
from funcrl.core import Transition, random, tree
from funcrl.core.checks import require
from funcrl.nets.mlp import ACTIVATIONS

DEFAULT_STEPS = 20_000
"""interactions of a lane in a run, where nothing else is said"""

CHOOSES = "A contextual bandit chooses one of A actions."
"""what to say where actions are not numbered"""


@tree.struct
class Interactions:
    """Contexts, actions and rewards, M of them in a memory and B in a batch."""

    obs: Tensor
    """`[M, ...]`"""
    action: Tensor
    """`[M]` int64"""
    reward: Tensor
    """`[M]` float32"""


@tree.struct
class Memory:
    """The last M interactions."""

    data: Interactions
    """zeros where nothing has been written yet"""
    count: Tensor
    """`[]` int64, interactions so far, those included that were overwritten"""


@functools.cache
def feature_network(
    shape: tuple[int, ...], channels: tuple[int, ...], hidden: tuple[int, ...], activation: str
) -> nn.Module:
    """Return the network up to and with its last hidden layer, activation included."""
    gain = math.sqrt(2.0)
    body = nets.for_observations(
        shape, channels, hidden[:-1], hidden[-1], activation=activation, output_gain=gain
    )
    return nn.Sequential(body, ACTIVATIONS[activation]())


def output_size(function: str, network: nn.Module, params: nets.Params, shape: Sequence[int]) -> int:
    """Return the number of features of an own network, by running it once on zeros.

    Raises:
        ValueError: When it cannot take a context, or returns no vector.
    """
    zeros = torch.zeros(3, *shape, dtype=torch.float32, device=nets.device_of(params))
    hold = f"map observations [B, {', '.join(map(str, shape))}] to features [B, d]"
    try:
        output = nets.apply(network, params, zeros)
    except Exception as error:  # whatever a user's forward raises
        reason = str(error).splitlines()[0]
        raise ValueError(f"{function}: config.network must {hold}, got an error: {reason}.") from error
    found = tuple(output.shape)
    require(len(found) == 2 and found[0] == 3, function, "config.network", hold, found)
    return int(found[1])


def check_batch(function: str, batch: Transition, num_envs: int) -> None:
    """Check that a batch holds one interaction of each environment.

    Raises:
        ValueError: When it holds another number.
    """
    # No number in the sentence: to torch.compile it may be a symbol, which has no text.
    hold = "hold one for each of config.num_envs environments"
    for name in ("action", "reward"):
        shape = tuple(getattr(batch, name).shape)
        require(shape == (num_envs,), function, f"batch.{name}", hold, shape)
    shape = tuple(batch.obs.shape)
    require(shape[:1] == (num_envs,), function, "batch.obs", hold, shape)


def check_memory(function: str, memory_size: int, num_envs: int) -> None:
    """Check that a memory has room for one interaction of each environment.

    Raises:
        ValueError: When it is smaller.
    """
    hold = f"be at least num_envs = {num_envs}"
    require(memory_size >= num_envs, function, "memory_size", hold, memory_size)


def empty(size: int, space: spaces.Box, device: torch.device) -> Memory:
    """Return a memory for `size` interactions that holds none.

    Args:
        size: M.
        space: Of the contexts, kept in its own dtype.
        device: Where it lives.
    """
    kind = torch.from_numpy(np.zeros(0, space.dtype)).dtype
    return Memory(
        data=Interactions(
            obs=torch.zeros(size, *space.shape, dtype=kind, device=device),
            action=torch.zeros(size, dtype=torch.int64, device=device),
            reward=torch.zeros(size, dtype=torch.float32, device=device),
        ),
        count=torch.zeros((), dtype=torch.int64, device=device),
    )


def remember(memory: Memory, obs: Tensor, action: Tensor, reward: Tensor) -> Memory:
    """Return the memory with N interactions more, over the oldest ones where it is full.

    Args:
        memory: Of M interactions.
        obs: `[N, ...]`, N at most M.
        action: `[N]` int64.
        reward: `[N]` float32.
    """
    size, num = memory.data.action.shape[0], action.shape[0]
    slots = (memory.count + torch.arange(num, device=action.device)) % size
    new = Interactions(obs=obs, action=action, reward=reward)
    # index_put is what the compiler turns into a write in place where the state is donated.
    write = lambda old, rows: torch.index_put(old, (slots,), rows.to(old.dtype))
    # torch.compile makes an integer that it has seen change a symbol, which vmap would not add.
    num_new = torch.full((), num, dtype=torch.int64, device=action.device)
    return Memory(data=tree.map(write, memory.data, new), count=memory.count + num_new)


def recall(memory: Memory, key: Tensor, num: int) -> Interactions:
    """Return some of what was written, each interaction equally likely, with replacement.

    Args:
        memory: That holds one interaction or more.
        key: `[2]` int32.
        num: B.

    Returns:
        `[B]` interactions.
    """
    size = torch.full_like(memory.count, memory.data.action.shape[0])
    held = torch.minimum(memory.count, size)
    # Contiguous, because the rows that are read take the layout of the slots, but not when traced.
    slots = (random.uniform(key, (num,)) * held).long().contiguous()
    return tree.map(lambda rows: rows[slots], memory.data)  # type: ignore[no-any-return]
