"""Tensors without numbers, with which a function is called to learn what it does.

They do the work of torch's own fake tensors where all shapes are constants, in a fraction of the time and without
importing the compiler. Torch's rules for shapes are asked on its meta device, once for the same layouts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from funcrl.core import internals

Layout = tuple[tuple[int, ...], tuple[int, ...], int, torch.dtype]
"""shape, strides, where in its memory it begins, dtype"""

_META = torch.device("meta")
_MOST_KNOWN = 100_000
"""layouts that are remembered; then they are asked for anew"""
_known: dict[Any, Any] = {}
"""from operations and the layouts that they were given to what they return"""


class Outline(Tensor):
    """A tensor without numbers: a layout and a device."""

    known: Layout
    _twin: Tensor | None

    @staticmethod
    def __new__(cls, layout: Layout, device: torch.device, twin: Tensor | None = None) -> Outline:
        """Make one of a layout that says that it is on a device; `twin` has the layout and is on the meta device."""
        shape, strides, begin, dtype = layout
        made: Outline = Tensor._make_wrapper_subclass(
            cls, shape, strides=strides, storage_offset=begin, dtype=dtype, device=device
        )
        made.known, made._twin = layout, twin
        return made

    @property
    def twin(self) -> Tensor:
        """A tensor on the meta device; views of one memory have twins of one memory."""
        if self._twin is None:
            shape, strides, _, dtype = self.known
            self._twin = torch.empty_strided(shape, strides, dtype=dtype, device=_META)
        return self._twin

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, function: Any, *_: Any, **__: Any) -> Any:  # type: ignore[override]
        """Refuse: nothing can be computed with it, and who records has not let this come here."""
        raise RuntimeError(
            f"jit: a tensor of a function that is traced must stay inside of it, got {function} of one outside."
        )


def outline(x: Tensor) -> Outline:
    """Return a tensor without numbers that looks like `x`.

    >>> outline(torch.ones(2, 3)).stride()
    (3, 1)
    """
    return Outline((tuple(x.shape), x.stride(), 0, x.dtype), x.device)


def storage_of(x: Tensor) -> int:
    """Return a number that two tensors without numbers have in common where one is a view of the other."""
    return int((x.twin if isinstance(x, Outline) else x).untyped_storage()._cdata)


def result(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what an operation returns.

    Args:
        function: An overload of one of torch's operators, which reads no numbers.
        args: What it takes; all tensors are outlines.
        kwargs: What it takes by name.
    """
    given: list[Outline] = []

    def layouts(x: Any) -> Any:
        if isinstance(x, Outline):
            given.append(x)
            return x.known
        if isinstance(x, (list, tuple)):
            return tuple([layouts(part) for part in x])
        # 1 and 1.0 are equal, and do not promote alike.
        return None if isinstance(x, torch.device) else (type(x), x)

    question = (function, layouts(args), *[(name, layouts(x)) for name, x in kwargs.items()])
    device = kwargs.get("device") or _device(given)
    if not internals.returns_new_memory(function):
        return _asked(function, args, kwargs, given, device)
    if question not in _known:
        if len(_known) == _MOST_KNOWN:
            _known.clear()
        found = _asked(function, args, kwargs, given, device)
        _known[question] = _each(found, lambda x: x.known)
        return found
    return _each(_known[question], lambda layout: Outline(layout, device))


def _asked(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Outline], device: torch.device
) -> Any:
    """Return what an operation returns, by torch's rules."""

    def elsewhere(x: Any) -> Any:
        if isinstance(x, Outline):
            return x.twin
        if isinstance(x, (list, tuple)):
            return [elsewhere(part) for part in x]
        return _META if isinstance(x, torch.device) else x

    named = {name: elsewhere(x) for name, x in kwargs.items()}
    if internals.takes_a_device(function):
        named["device"] = _META
    found = function(*[elsewhere(x) for x in args], **named)
    themselves = {id(x.twin): x for x in given}

    def outlined(x: Tensor) -> Outline:
        layout = (tuple(x.shape), x.stride(), int(x.storage_offset()), x.dtype)
        return themselves[id(x)] if id(x) in themselves else Outline(layout, device, x)

    return _each(found, outlined)


def _each(found: Any, change: Callable[[Any], Any]) -> Any:
    """Return results with each tensor, or each layout of one, changed."""
    if isinstance(found, list):
        return [_each(part, change) for part in found]
    if isinstance(found, tuple) and not (len(found) == 4 and isinstance(found[-1], torch.dtype)):
        return [_each(part, change) for part in found]
    return change(found) if isinstance(found, (Tensor, tuple)) else found


def _device(given: list[Outline]) -> torch.device:
    """Return where an operation works: single numbers may come from elsewhere."""
    found = [x.device for x in given if x.ndim] or [x.device for x in given]
    return found[0] if found else torch.device("cpu")
