"""Whether a person's own network can run for many lanes at once, and if not, which of its layers cannot."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from funcrl.core import tree
from funcrl.core.batching import vmap
from funcrl.nets.templates import Params, Pure


def check_lanes(function: str, argument: str, network: Pure, params: Params, *inputs: Any) -> None:
    """Check that a network runs under `torch.vmap`, as it is used and as it trains.

    Args:
        function: Who complains, `"ppo.init"`.
        argument: How the user calls the network: `"config.actor"`.
        network: From `nets.pure`.
        params: All of its numbers, of one lane.
        *inputs: What the module's `forward` takes, of one lane.

    Raises:
        ValueError: When it does not; the layer is named, and what to write instead of it.
    """
    two, seen = tree.map(lambda x: torch.stack([x, x]) if isinstance(x, Tensor) else x, ({**params}, inputs))
    axes = tree.map(lambda x: 0 if isinstance(x, Tensor) else None, seen)
    for module in (network.evaluating, network.training):
        entered: list[tuple[str, nn.Module]] = []
        hooks = _watch(module, entered)
        try:
            vmap(_runs(module), in_dims=(0, axes))(two, seen)
        except Exception as error:  # whatever torch or a user's forward raises
            path, layer = entered[-1] if entered else ("", module)
            reason = str(error).splitlines()[0].rstrip(".")
            where = f"its layer {path} ({type(layer).__name__})" if path else type(layer).__name__
            raise ValueError(
                f"{function}: {argument} must run under torch.vmap, for many seeds at once, got an error in {where}: "
                f"{reason}. {_instead(layer, reason)}"
            ) from error
        finally:
            for hook in hooks:
                hook.remove()


def _runs(module: nn.Module) -> Callable[[Params, tuple[Any, ...]], Any]:
    def run(own: Params, inputs: tuple[Any, ...]) -> Any:
        kept = {name: own[name].clone() for name, _ in module.named_buffers()}
        return torch.func.functional_call(module, own | kept, inputs)

    return run


def _watch(module: nn.Module, entered: list[tuple[str, nn.Module]]) -> list[RemovableHandle]:
    """Let a list hold the layers that have been entered and not left; the last is one that failed."""

    def enter(path: str, layer: nn.Module, _: Any) -> None:
        entered.append((path, layer))

    def leave(*_: Any) -> None:
        entered.pop()

    hooks = []
    for path, layer in module.named_modules():
        hooks.append(layer.register_forward_pre_hook(functools.partial(enter, path)))
        hooks.append(layer.register_forward_hook(leave))
    return hooks


def _instead(layer: nn.Module, reason: str) -> str:
    if isinstance(layer, (nn.RNNBase, nn.RNNCellBase)):
        return (
            "Write funcrl.nets.recurrent.GRU or LSTM, which are equal to torch's; an agent that is to remember "
            "takes the setting recurrent_cell='gru'."
        )
    if "randomness" in reason or "random" in reason:
        return "Write nn.Dropout as a layer of its own: it draws from keys here."
    return "Write it with operations that torch.vmap maps: no .item(), no if or while on values."
