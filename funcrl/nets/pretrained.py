"""Networks that begin with what was learnt before."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from funcrl.core import random
from funcrl.core.checks import require
from funcrl.core.untraced import untraced
from funcrl.nets import initialisers
from funcrl.nets.state_dicts import from_state_dict
from funcrl.nets.stateful import begin, pure


def pretrained(network: nn.Module, state_dict: Mapping[str, Any], *, prefix: str = "") -> nn.Module:
    """Return a copy of a network that begins with these numbers, whatever key its parameters are drawn from.

    Put it into a larger one, `nn.Sequential(pretrained(...), nn.Linear(64, 4))`: the rest is drawn as ever. To keep what was
    learnt as it is, see the agents' and the classifier's setting `frozen`.

    Args:
        network: The template.
        state_dict: Of one lane, from any torch model, `nets.to_state_dict` or a file of safetensors.
        prefix: What the names begin with there: `"encoder."`.

    Raises:
        TypeError: When it is no dict of tensors by name.
        ValueError: When names are missing or left over, or shapes differ; all of them are listed.

    >>> import torch
    >>> from funcrl import nets
    >>> layer = pretrained(nn.Linear(1, 1), {"weight": torch.ones(1, 1), "bias": torch.zeros(1)})
    >>> nets.init(layer, random.key(0))
    {'weight': tensor([[1.]]), 'bias': tensor([0.])}
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"nets.pretrained: state_dict must be a dict of tensors by name, got {type(state_dict).__name__}. "
            "Write module.state_dict()."
        )
    # It may be made while `init` is vmapped or traced; its numbers are no part of that.
    return untraced(lambda: _pretrained(network, state_dict, prefix))


def _pretrained(network: nn.Module, state_dict: Mapping[str, Any], prefix: str) -> nn.Module:
    known = copy.deepcopy(network)
    state_dict = _tied_once(network, state_dict, prefix)
    params, buffers = from_state_dict(
        state_dict, *begin(pure(network), random.key(0, "cpu")), prefix=prefix, function="nets.pretrained"
    )
    values = {**params, **buffers}
    for path, module in known.named_modules():
        inside = f"{path}." if path else ""
        tensors = {
            **dict(module.named_parameters(recurse=False)),
            **dict(module.named_buffers(recurse=False)),
        }
        own = {name: _constant(values[inside + name]) for name in tensors if inside + name in values}
        if own:
            module.initialisers = {**getattr(module, "initialisers", {}), **own}
    return known


def _tied_once(network: nn.Module, state_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Leave out the further names of what is tied in the network, where they hold the same numbers."""
    first: dict[int, str] = {}
    left = dict(state_dict)
    every = (
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    )
    for path, value in every:
        name = first.setdefault(id(value), path)
        one, other = (state_dict.get(f"{prefix}{each}") for each in (name, path))
        if name != path and one is not None and other is not None:
            same = torch.equal(*(torch.as_tensor(x, dtype=torch.float64, device="cpu") for x in (one, other)))
            hold = f"hold the same numbers for {name} and {path}, which are tied"
            require(same, "nets.pretrained", "state_dict", hold, "others")
            del left[f"{prefix}{path}"]
    return left


def _constant(value: Tensor) -> initialisers.Initialiser:
    return lambda key, shape: value.to(key.device)
