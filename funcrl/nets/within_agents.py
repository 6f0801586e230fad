"""Networks inside agents: all numbers of one in a dict, as it is used and as it learns.

An agent acts, and looks at what lies ahead, with its networks as they are used: batch normalisation by the moments so far,
no dropout. In its losses they are as they train. What they keep beside parameters stands in the agent's `params` too, under
the module's own names; nothing descends there, see `optim.descending`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from funcrl.core import random, tree
from funcrl.core.batching import vmap
from funcrl.nets import inputs
from funcrl.nets.functional import in_rows, init
from funcrl.nets.stateful import begin, keys_of, pure
from funcrl.nets.templates import Network, Params, Pure


def own(function: str, argument: str, network: nn.Module | None, space: spaces.Space[Any]) -> Network | None:
    """Return what an agent holds of a person's own network, always the same for the same network.

    Args:
        function: Who complains, `"ppo.init"`.
        argument: How the user calls the network: `"config.actor"`.
        network: The template; None where there is none, and the settings describe one.
        space: Of one observation; the network is given rows of them, `[B, ...]`, and never more axes in front or fewer.

    Raises:
        TypeError: When it is something else.
    """
    check_module(function, argument, network)
    if network is None:
        return None
    one = inputs.example(space, (), torch.device("cpu"))
    return _with_axes(pure(network), tuple(leaf.ndim for leaf in tree.leaves(one)))


def check_module(function: str, argument: str, network: object) -> None:
    """Check that a person's own network is a module, where there is one.

    Raises:
        TypeError: When it is something else.
    """
    if network is not None and not isinstance(network, nn.Module):
        raise TypeError(
            f"{function}: {argument} must be an nn.Module, got {network!r}. Write nn.Linear(4, 2)."
        )


@functools.cache
def _with_axes(network: Pure, axes: tuple[int, ...]) -> Pure:
    return dataclasses.replace(network, axes=axes)


def begin_whole(network: Network, key: Tensor) -> Params:
    """Draw a network's parameters, see `init`, and what it keeps beside them.

    Args:
        network: A template.
        key: `[2]` int32.

    Returns:
        Parameters and buffers by name; each dropout has a key of its own.

    >>> sorted(begin_whole(pure(nn.Sequential(nn.BatchNorm1d(3), nn.Dropout())), random.key(0)))
    ['0.bias', '0.num_batches_tracked', '0.running_mean', '0.running_var', '0.weight', '1.dropout_key']
    """
    if not isinstance(network, Pure):
        return init(network, key)
    params, buffers = begin(network, key)
    for number, name in enumerate(keys_of(network)):
        buffers[name] = random.fold_in(key, len(params) + number)
    return params | buffers


def buffers_of(network: Network) -> tuple[str, ...]:
    """Return the names of what a network keeps beside its parameters.

    >>> buffers_of(pure(nn.Dropout()))
    ('dropout_key',)
    """
    return tuple(name for name, _ in network.training.named_buffers()) if isinstance(network, Pure) else ()


def without_gradient(networks: Mapping[str, Network]) -> tuple[str, ...]:
    """Return the names of those numbers of several networks that no gradient moves, each behind its network's own name.

    They are what networks keep beside their parameters, and parameters whose `requires_grad` a person has set to False.

    Args:
        networks: By the name that their numbers have in an agent's `params`, `""` where they are all that is there.

    >>> without_gradient({"actor": pure(nn.Dropout()), "critic": pure(nn.Linear(1, 1).requires_grad_(False))})
    ('actor.dropout_key', 'critic.weight', 'critic.bias')
    """
    found = []
    for name, network in networks.items():
        if not isinstance(network, Pure):
            continue
        still = [path for path, x in network.training.named_parameters() if not x.requires_grad]
        found += [f"{name}.{path}" if name else path for path in (*buffers_of(network), *still)]
    return tuple(found)


def learning(network: Network) -> Network:
    """Return a network that `apply` runs as it trains."""
    return dataclasses.replace(network, learns=True) if isinstance(network, Pure) else network


def with_new_keys(network: Network, params: Params) -> Params:
    """Return all of a network's numbers with other keys for dropout to draw from, as each step of learning needs them.

    Args:
        network: The template.
        params: From `begin_whole`; `[M, ...]` each where it is several networks.
    """
    if not isinstance(network, Pure):
        return params

    def renewed(key: Tensor) -> Tensor:
        return random.fold_in(key, 0) if key.ndim == 1 else vmap(renewed)(key)

    return params | {name: renewed(params[name]) for name in keys_of(network)}


def observed(network: Network, params: Params, *given: Any) -> Params:
    """Return what a network keeps beside its parameters once it has learnt from a batch: running moments, by name.

    Args:
        network: The template.
        params: All of its numbers, before.
        *given: Of the batch, what the module's `forward` takes.

    >>> network = pure(nn.BatchNorm1d(1))
    >>> params = begin_whole(network, random.key(0))
    >>> observed(network, params, torch.tensor([[1.0], [3.0]]))["running_mean"]
    tensor([0.2000])
    """
    if not isinstance(network, Pure):
        return {}
    # A key belongs to a step, and is not what is kept.
    keys = keys_of(network)
    kept = {name: params[name].clone() for name in buffers_of(network) if name not in keys}
    if not kept:
        return {}
    names = [*keys, *(name for name, _ in network.training.named_parameters())]
    numbers = {name: params[name] for name in names} | kept
    torch.func.functional_call(network.training, numbers, in_rows(network, given)[0])
    return {name: numbers[name] for name in kept}
