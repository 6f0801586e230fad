"""Numbers of any torch model into a network's parameters and buffers, and back, strictly checked."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from funcrl import optim
from funcrl.nets.layers import KEY
from funcrl.nets.stateful import Buffers
from funcrl.nets.templates import Params


def to_state_dict(
    params: Params, buffers: Buffers | None = None, *, only: tuple[str, ...] | None = None
) -> dict[str, Tensor]:
    """Return a copy of one lane's numbers under the names of the module's own `state_dict`.

    Dropout's keys are left out, for torch's modules have none. A tied parameter stands there once, as in `params`;
    `load_state_dict(..., strict=False)` ties it again.

    Args:
        params: By name.
        buffers: What a network keeps beside them.
        only: Patterns of names to take, `("features.*",)`; all by default.

    Raises:
        ValueError: When a pattern describes no name.

    >>> to_state_dict({"weight": torch.ones(2)})
    {'weight': tensor([1., 1.])}
    """
    taken = {name: value for name, value in {**params, **(buffers or {})}.items() if not _is_key(name)}
    names = set(taken) if only is None else optim.matching("nets.to_state_dict", taken, only)
    return {name: value.detach().clone() for name, value in taken.items() if name in names}


def from_state_dict(
    state_dict: Mapping[str, Any],
    params: Params,
    buffers: Buffers | None = None,
    *,
    prefix: str = "",
    only: tuple[str, ...] | None = None,
    function: str = "nets.from_state_dict",
) -> tuple[Params, Buffers]:
    """Return parameters and buffers with numbers from a `state_dict`, and leave what is given as it is.

    Args:
        state_dict: Of tensors or arrays, from any torch model or a file of safetensors.
        params: Of one lane, which say names, shapes, dtypes and device.
        buffers: Likewise.
        prefix: What the names begin with there: `"backbone."`.
        only: Patterns of names to take, `("features.*",)`, where the others are to stay as they are; all by default.
        function: Who complains.

    Raises:
        ValueError: When names are missing or left over, or shapes differ; all of them are listed.

    >>> from_state_dict({"net.weight": torch.ones(2)}, {"weight": torch.zeros(2)}, prefix="net.")
    ({'weight': tensor([1., 1.])}, {})
    """
    own = {**params, **(buffers or {})}
    wanted = {name for name in own if not _is_key(name)}
    if only is not None:
        wanted &= optim.matching(function, sorted(wanted), only)
    given = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
    if only is not None:
        given = {name: given[name] for pattern in only for name in fnmatch.filter(given, pattern)}
    # What is tied has several names in torch's own, and files of before torch 1.0 count no batches.
    places = {_place(given[name]) for name in wanted & given.keys()}
    given = {name: value for name, value in given.items() if name in wanted or _place(value) not in places}
    wanted = {name for name in wanted if name in given or not name.endswith("num_batches_tracked")}
    differences = {
        "missing": sorted(wanted - given.keys()),
        "left over": sorted(given.keys() - wanted),
        "of another shape": [
            f"{name} {tuple(given[name].shape)} for {tuple(own[name].shape)}"
            for name in sorted(wanted & given.keys())
            if given[name].shape != own[name].shape
        ],
    }
    if any(differences.values()):
        listed = "; ".join(f"{kind}: {optim.listed(names)}" for kind, names in differences.items() if names)
        raise ValueError(
            f"{function}: state_dict must hold the network's names and shapes, got {listed}. "
            "Write prefix= or only= to take a part."
        )
    new = {
        name: torch.as_tensor(given[name], dtype=own[name].dtype, device=own[name].device).detach().clone()
        for name in wanted
    }
    return {n: new.get(n, v) for n, v in params.items()}, {
        n: new.get(n, v) for n, v in (buffers or {}).items()
    }


def _place(value: Any) -> Any:
    """Return where a tensor's numbers are, the same for the same numbers; arrays and tensors without any are all their own."""
    is_somewhere = isinstance(value, Tensor) and value.numel() > 0 and not value.is_meta
    return (value.data_ptr(), value.shape, value.stride()) if is_somewhere else object()


def _is_key(name: str) -> bool:
    return name.rpartition(".")[2] == KEY
