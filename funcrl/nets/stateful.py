"""Modules with buffers and chance, batch normalisation and dropout among them, as pure functions.

What a module keeps beside its parameters goes in and comes out: `run(pure(network), params, buffers, x, train=True)`
returns the output and the buffers after. Whether one trains is an argument too, and so is the key from which dropout draws.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn

from funcrl.core import random
from funcrl.core.checks import require
from funcrl.core.untraced import untraced
from funcrl.nets.functional import draw
from funcrl.nets.layers import KEY, Dropout, replaced
from funcrl.nets.templates import Params, Pure

Buffers = dict[str, Tensor]


def pure(network: nn.Module) -> Pure:
    """Return what `run` runs, always the same for the same network, whose dropout draws from keys.

    Args:
        network: Any module; it is copied. Its own `training` says nothing.

    Raises:
        ValueError: When a layer does not know its size yet, or changes its parameters while it runs.

    >>> pure(nn.Dropout(0.1)).training
    Dropout(p=0.1, inplace=False)
    """
    return _pure(network, _looks(network))


@functools.cache
def _pure(network: nn.Module, _: object) -> Pure:
    _check_layers(network)
    copies = lambda: [replaced(_copied(network)).train(training) for training in (True, False)]
    training, evaluating = untraced(copies)
    return Pure(training, evaluating)


def _looks(network: nn.Module) -> object:
    """Return what differs once a person has changed a network."""
    named = network.named_parameters(remove_duplicate=False)
    return repr(network), tuple((name, id(each), each.requires_grad) for name, each in named)


def _check_layers(network: nn.Module) -> None:
    for path, layer in network.named_modules():
        called = f"{path} ({type(layer).__name__})" if path else type(layer).__name__
        require(
            not any(isinstance(x, nn.UninitializedParameter) for x in layer.parameters(recurse=False)),
            "nets.pure",
            "network",
            "know the sizes of its layers",
            called,
            "Write nets.images.shaped(lambda: nn.Sequential(...), (4,)), or nn.Linear(4, 64).",
        )
        require(
            getattr(layer, "max_norm", None) is None
            or not isinstance(layer, (nn.Embedding, nn.EmbeddingBag)),
            "nets.pure",
            "network",
            "leave its parameters as they are while it runs",
            f"max_norm in {called}",
            "Leave max_norm out.",
        )


def _copied(network: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(network)
    except Exception as error:  # what torch says of tensors that are computed, as its old weight_norm has
        raise ValueError(
            f"nets.pure: network must be one that copy.deepcopy copies, got an error: {error}. "
            "Write layers whose parameters are not computed from others, without weight_norm."
        ) from error


def begin(network: Pure, key: Tensor) -> tuple[Params, Buffers]:
    """Draw a network's parameters, see `nets.init`, and return them with what it keeps beside them before any step.

    Running means and variances begin at 0 and 1; any other buffer begins as it is in the module. A module's `initialisers`
    may name its buffers too.

    Args:
        network: From `pure`.
        key: `[2]` int32.

    Raises:
        ValueError: When a buffer is on the meta device, so that nobody knows its values.

    >>> params, buffers = begin(pure(nn.BatchNorm2d(3)), random.key(0))
    >>> sorted(params), sorted(buffers)
    (['bias', 'weight'], ['num_batches_tracked', 'running_mean', 'running_var'])
    """
    begun: Buffers = {}
    for prefix, module in network.training.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            path = f"{prefix}.{name}" if prefix else name
            given = getattr(module, "initialisers", {}).get(name)
            if given is not None:
                begun[path] = given(key, tuple(buffer.shape))
            else:
                begun[path] = _begun(module, path, name, buffer).to(key.device)
    return draw(network.training, key), begun


def _begun(module: nn.Module, path: str, name: str, buffer: Tensor) -> Tensor:
    known = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0, KEY: 0}
    normalises = isinstance(module, nn.modules.batchnorm._NormBase) and name in known
    if normalises or isinstance(module, Dropout):
        return torch.full(buffer.shape, known[name], dtype=buffer.dtype, device="cpu")
    hold = "hold values, not only a shape"
    require(buffer.device.type != "meta", "nets.begin", f"the buffer {path}", hold, "the meta device")
    return buffer.detach().clone()


def run(
    network: Pure,
    params: Params,
    buffers: Buffers,
    *inputs: Any,
    train: bool,
    key: Tensor | None = None,
) -> tuple[Any, Buffers]:
    """Run a network, and return what it puts out and its buffers after.

    Args:
        network: From `pure`; its own numbers are not read and not changed.
        params: From `begin`.
        buffers: From `begin`, or from the call before; left as they are.
        *inputs: What the module's `forward` takes.
        train: Whether batch normalisation takes the batch's moments and remembers them, and dropout drops.
        key: `[2]` int32, what dropout draws from; needed where there is any and `train`.

    Raises:
        ValueError: When dropout has no key.

    >>> network = nn.BatchNorm1d(1)
    >>> params, buffers = begin(pure(network), random.key(0))
    >>> _, after = run(pure(network), params, buffers, torch.tensor([[1.0], [3.0]]), train=True)
    >>> after["running_mean"]
    tensor([0.2000])
    """
    module = network.training if train else network.evaluating
    after = {name: buffer.clone() for name, buffer in buffers.items()}
    dropping = keys_of(network)
    if train and dropping:
        if key is None:
            raise ValueError(
                "nets.run: key must be given where there is dropout, got None. Write key=random.key(0)."
            )
        for number, name in enumerate(dropping):
            after[name] = random.fold_in(key, number)
    # What layers keep anew is put into the dict that is handed over.
    numbers = {**params, **after}
    output = torch.func.functional_call(module, numbers, inputs)
    # The key belongs to the call, not to what is kept.
    return output, {name: buffers[name] if name in dropping else numbers[name] for name in buffers}


def keys_of(network: Pure) -> list[str]:
    """Return the names of the buffers in which dropout finds what it draws from."""
    found = []
    for prefix, module in network.training.named_modules():
        if isinstance(module, Dropout):
            found.append(f"{prefix}.{KEY}" if prefix else KEY)
    return found
