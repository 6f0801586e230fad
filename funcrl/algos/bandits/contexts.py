"""What contextual bandits share: their spaces, their networks, and a memory of what was chosen.

The memory is a ring: once full, the newest interaction takes the place of the oldest. It holds what
a bandit is told, the reward of the action that was taken and of no other.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from funcrl import nets
from funcrl.core import Transition, random, tree
from funcrl.core.checks import require
from funcrl.nets.mlp import activated

DEFAULT_STEPS = 20_000
"""interactions of a lane in a run, where nothing else is said"""

CHOOSES = "A contextual bandit chooses one of A actions."
"""what to say where actions are not numbered"""


@tree.struct
class Interactions:
    """Contexts, actions and rewards, M of them in a memory and B in a batch."""

    obs: Any
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


def feature_network(
    space: spaces.Space[Any], channels: tuple[int, ...], hidden: tuple[int, ...], activation: str
) -> nn.Module:
    """Return the network up to and with its last hidden layer, activation included."""
    gain = math.sqrt(2.0)
    body = nets.for_observations(
        space, channels, hidden[:-1], hidden[-1], activation=activation, output_gain=gain
    )
    return activated(body, activation)


def output_size(function: str, network: nets.Network, params: nets.Params, space: spaces.Space[Any]) -> int:
    """Return the number of features of an own network, by running it once on zeros.

    Raises:
        ValueError: When it cannot take a context, or returns no vector.
    """
    hold = f"map {nets.observations_in_words(space)} to features [B, d]"
    output = nets.output_for(function, "config.network", hold, network, params, space)
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
    for leaf in tree.leaves(batch.obs):
        shape = tuple(leaf.shape)
        require(shape[:1] == (num_envs,), function, "batch.obs", hold, shape)


def check_memory(function: str, memory_size: int, num_envs: int) -> None:
    """Check that a memory has room for one interaction of each environment.

    Raises:
        ValueError: When it is smaller.
    """
    hold = f"be at least num_envs = {num_envs}"
    require(memory_size >= num_envs, function, "memory_size", hold, memory_size)


def empty(size: int, space: spaces.Space[Any], device: torch.device) -> Memory:
    """Return a memory for `size` interactions that holds none.

    Args:
        size: M.
        space: Of the contexts, kept in its own dtype.
        device: Where it lives.
    """
    return Memory(
        data=Interactions(
            obs=nets.inputs.example(space, (size,), device),
            action=torch.zeros(size, dtype=torch.int64, device=device),
            reward=torch.zeros(size, dtype=torch.float32, device=device),
        ),
        count=torch.zeros((), dtype=torch.int64, device=device),
    )


def remember(memory: Memory, obs: Any, action: Tensor, reward: Tensor) -> Memory:
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
