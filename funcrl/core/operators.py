"""Operators of funcrl's own, which no compiler looks into; compiled programs call their bodies in `native.cpp`.

They are registered with the dispatcher itself: a call costs a third of one through
`torch.library.custom_op`, whose wrapper checks for aliases and gradients that there are none of here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from funcrl.core import internals

_library: Any = torch.library.Library("funcrl", "DEF")  # type: ignore[no-untyped-call]
names: list[str] = []
"""Those added so far that have a body in `native.cpp`."""


def add(
    schema: str,
    run: Callable[..., Any],
    fake: Callable[..., Any],
    lanes: Callable[..., Any] | None = None,
    *,
    is_native: bool = True,
) -> None:
    """Add the operator `torch.ops.funcrl.<name>`.

    Args:
        schema: Name, arguments and results as torch writes them.
        run: What it does to tensors on any device; results are new tensors.
        fake: Returns empty tensors of the results' shapes.
        lanes: Its rule for vmap, as `torch.library.register_vmap` takes it.
        is_native: Whether it has a body in `native.cpp`; programs call others back in Python.
    """
    name = f"funcrl::{_library.define(schema)}"
    if is_native:
        names.append(name.removeprefix("funcrl::"))
    _library.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(name, fake, lib=_library)
    if lanes is None:
        return
    rule = internals.batching_rule(getattr(torch.ops.funcrl, name.removeprefix("funcrl::")).default, lanes)
    if rule is None:
        torch.library.register_vmap(name, lanes, lib=_library)
    else:
        _library.impl(name, rule, "FuncTorchBatched", with_keyset=True)
