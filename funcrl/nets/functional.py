"""Modules as pure functions of their parameters.

An `nn.Module` serves as a template: it says what is computed, and its own parameters are never
read. `init` makes parameters from a key, `apply` runs the module with parameters passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from funcrl.core import random, tree
from funcrl.core.checks import require
from funcrl.core.untraced import untraced
from funcrl.nets import defaults, initialisers, inputs
from funcrl.nets.lanes import check_lanes
from funcrl.nets.templates import Network, Params, Pure


def init(network: nn.Module, key: Tensor) -> Params:
    """Draw the parameters of a network.

    A module may carry an attribute `initialisers`, a dict from the names of its own parameters to
    functions `(key, shape) -> Tensor`. Without one, what torch's layers have is drawn as `torch.nn` draws it: weights
    and biases of linear and convolutional layers from U(±1/√fan_in), gain and offset of normalisation layers 1 and 0.
    A parameter of a person's own begins as it is in the module, where it has one value everywhere.

    Args:
        network: Any module; on the meta device or not.
        key: `[2]` int32.

    Returns:
        Parameters by qualified name, float32, on the key's device.

    Raises:
        ValueError: When the network has buffers (running statistics), which no one would update; `begin` returns them too.
            When nobody knows what a parameter begins with.

    >>> sorted(init(nn.Linear(2, 3, device="meta"), random.key(0)))
    ['bias', 'weight']
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"nets.init: network must be an nn.Module, got {network!r}. Write nn.Linear(4, 2).")
    buffers = [name for name, _ in network.named_buffers()]
    instead = "Write nets.begin(nets.pure(network), key), which returns them too."
    require(not buffers, "nets.init", "network", "have no buffers", buffers, instead)
    return draw(network, key)


def draw(network: nn.Module, key: Tensor) -> Params:
    """Draw the parameters of a network that may have buffers, see `init`; one that is tied is one leaf, used twice."""
    params: Params = {}
    seen: set[int] = set()
    for prefix, module in network.named_modules():
        custom: dict[str, initialisers.Initialiser] = getattr(module, "initialisers", {})
        for name, template in module.named_parameters(recurse=False):
            if id(template) in seen:
                continue
            seen.add(id(template))
            path = f"{prefix}.{name}" if prefix else name
            initialise = custom.get(name) or defaults.of(module, name, template, path)
            params[path] = initialise(random.fold_in(key, len(params)), tuple(template.shape))
    return params


def apply(network: Network, params: Params, *inputs: Any) -> Any:
    """Run a network with the given parameters.

    Args:
        network: The template that `params` was made for; one from `pure` as it is used, unless it is `learning`.
        params: What `init` or `begin_whole` returned.
        *inputs: What the module's `forward` takes; a person's own network is given `[B, ...]`, whatever axes stand in front.

    >>> layer = nn.Linear(2, 3, device="meta")
    >>> apply(layer, init(layer, random.key(0)), torch.ones(5, 2)).shape
    torch.Size([5, 3])
    """
    if not isinstance(network, Pure):
        return torch.func.functional_call(network, params, inputs)
    inputs, leading = in_rows(network, inputs)
    if not network.learns:
        return with_axes(torch.func.functional_call(network.evaluating, params, inputs), leading)
    # A layer may write into what it keeps, and what was passed in is to stay as it is.
    kept = {name: params[name].clone() for name, _ in network.training.named_buffers()}
    return with_axes(torch.func.functional_call(network.training, params | kept, inputs), leading)


def in_rows(network: Pure, inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[int, ...] | None]:
    """Return a network's inputs as `[B, ...]`, and what stood in front of each in the place of B: nothing, or `[T, N]`.

    A module of a person's own may tell rows from features by their place. None where they are rows already.
    """
    if network.axes is None:
        return inputs, None
    first = tree.leaves(inputs)[0]
    leading = tuple(first.shape[: first.ndim - network.axes[0]])
    if len(leading) == 1:
        return inputs, None
    axes = iter(network.axes)

    def rows(leaf: Tensor) -> Tensor:
        return leaf.reshape(math.prod(leading), *leaf.shape[leaf.ndim - next(axes) :])

    return tree.map(rows, inputs), leading


def with_axes(output: Any, leading: tuple[int, ...] | None) -> Any:
    """Return what a network made of `in_rows` with the axes that stood in front of its inputs."""
    return output if leading is None else tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), output)


def device_of(params: Params) -> torch.device:
    """Return where a network's parameters live; the CPU for one that has none.

    >>> device_of({})
    device(type='cpu')
    """
    return next((p.device for p in params.values()), torch.device("cpu"))


_FITTING: dict[tuple[Any, ...], Network] = {}
"""What `check_output` has run, and found to fit: networks are made once for the same settings, and drawn for every agent."""


def check_output(
    function: str, argument: str, network: Network, params: Params, space: spaces.Space[Any], size: int
) -> None:
    """Check that a network maps B observations of a space to `[B, size]`, by running it on zeros; one of ours, or from `pure`, once.

    Args:
        function: Who complains.
        argument: How the user calls the network: `"config.actor"`.
        network: The template.
        params: Its parameters.
        space: Of one observation.
        size: Number of outputs that is needed.

    Raises:
        ValueError: When the network cannot take the input, or returns another shape.
    """
    shapes = tuple((name, x.shape, x.dtype, x.device) for name, x in params.items())
    asked = (id(network), shapes, type(space), space.shape, repr(space), size)
    # A module that is not ours may have been changed since; of one that was made pure, nobody has the copy.
    stays = isinstance(network, Pure) or type(network).__module__.startswith("funcrl.nets.")
    if stays and asked in _FITTING:
        return
    hold = f"map {observations_in_words(space)} to [B, {size}]"
    output = output_for(function, argument, hold, network, params, space)
    if not isinstance(output, Tensor):
        require(False, function, argument, hold, type(output).__name__, "Return one tensor.")
    found = [str(length) for length in output.shape]
    found[:1] = ["B"] if found[:1] == ["3"] else found[:1]
    require(tuple(output.shape) == (3, size), function, argument, hold, f"[{', '.join(found)}]")
    if stays:
        _FITTING[asked] = network  # which keeps its number


def output_for(
    function: str, argument: str, hold: str, network: Network, params: Params, space: spaces.Space[Any]
) -> Any:
    """Return what a network makes of three observations of a space, see `output_on_zeros`."""
    device = device_of(params)
    given = lambda: (inputs.example(space, (3,), device),)
    return output_on_zeros(function, argument, hold, network, params, given, check_mapped=True)


def output_on_zeros(
    function: str,
    argument: str,
    hold: str,
    network: Network,
    params: Params,
    given: Callable[[], tuple[Any, ...]],
    *,
    check_mapped: bool,
) -> Any:
    """Return what a network puts out where all of its numbers are zeros.

    Args:
        function: Who complains.
        argument: How the user calls the network: `"config.actor"`.
        hold: What the network has to do, in the words of an error.
        network: The template.
        params: All of its numbers, of one lane.
        given: Returns what the module's `forward` takes.
        check_mapped: Whether to check that it runs in many lanes, see `check_lanes`.

    Raises:
        ValueError: When it cannot take what it is given, or not in many lanes.
    """
    shapes = {name: (x.shape, x.dtype, x.device) for name, x in params.items()}

    # `init` may be mapped itself, and what a module cannot do in many lanes is to be said in other words than what it
    # cannot do at all. So it is run on zeros where nothing is mapped.
    def run() -> Any:
        numbers = {
            name: torch.zeros(x, dtype=dtype, device=device) for name, (x, dtype, device) in shapes.items()
        }
        values = given()
        try:
            output = apply(network, numbers, *values)
        except Exception as error:  # whatever a user's forward raises
            reason = str(error).splitlines()[0]
            raise ValueError(f"{function}: {argument} must {hold}, got an error: {reason}.") from error
        if check_mapped and isinstance(network, Pure):
            check_lanes(function, argument, network, numbers, *values)
        return output

    return untraced(run)


def observations_in_words(space: spaces.Space[Any]) -> str:
    """Return how B observations of a space are called.

    >>> observations_in_words(spaces.Box(-1, 1, (4,)))
    'observations [B, 4]'
    """
    if isinstance(space, spaces.Box):
        kind = "" if np.issubdtype(space.dtype, np.floating) else f" {space.dtype}"
        return f"observations [{', '.join(map(str, ('B', *space.shape)))}]{kind}"
    return f"B observations of {space}"
