"""Several networks of one template as one, with a leading axis: what is M times as wide costs less than M calls."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from funcrl.core import random, tree
from funcrl.core.batching import vmap
from funcrl.nets import functional, within_agents
from funcrl.nets.templates import Network, Params


def init(network: Network, key: Tensor, count: int) -> Params:
    """Draw the parameters of several networks, each from a key of its own.

    Args:
        network: The template of all.
        key: `[2]` int32.
        count: M.

    Returns:
        Parameters by qualified name, `[M, ...]`, and what the networks keep beside them.

    >>> from torch import nn
    >>> init(nn.Linear(2, 3, device="meta"), random.key(0), 5)["weight"].shape
    torch.Size([5, 3, 2])
    """
    return tree.stack([within_agents.begin_whole(network, one) for one in random.split(key, count)])


def apply(network: Network, params: Params, *inputs: Any) -> Any:
    """Run all networks on the same input.

    Args:
        network: The template.
        params: `[M, ...]`, what `init` returned.
        *inputs: What the module's `forward` takes.

    Returns:
        `[M, ...]`, what each returns.

    >>> import torch
    >>> from torch import nn
    >>> layer = nn.Linear(2, 3, device="meta")
    >>> apply(layer, init(layer, random.key(0), 5), torch.ones(4, 2)).shape
    torch.Size([5, 4, 3])
    """
    return vmap(lambda own: functional.apply(network, own, *inputs))(params)


def observed(network: Network, params: Params, *inputs: Any) -> Params:
    """Return what the networks keep beside their parameters once they have learnt from a batch, `[M, ...]`; see `nets.observed`."""
    return vmap(lambda own: within_agents.observed(network, own, *inputs))(params)
