"""Tensors without numbers, with which a function is called to learn what it does.

They do the work of torch's own fake tensors, whose rules they ask: once for the same operation and arguments that
look the same, where torch works out everything again for each call, which was most of the time of tracing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcrl.core import internals


class Look(NamedTuple):
    """What there is to know of a tensor but its numbers."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    begin: int
    """where in its memory it begins"""
    dtype: torch.dtype
    device: torch.device


_META = torch.device("meta")
_MOST_KNOWN = 100_000
"""answers that are remembered; then all are asked for anew"""
_known: dict[Any, Any] = {}
"""from operations and looks of what they were given to looks of what they return"""


class Unknown(Exception):  # noqa: N818
    """Torch's rules do not say what an operation returns: it depends on numbers, or there are none."""


class Outline(Tensor):
    """A tensor without numbers."""

    look: Look
    _twin: Tensor | None

    @staticmethod
    def __new__(cls, look: Look, twin: Tensor | None = None) -> Outline:
        """Make one; `twin` looks the same on the meta device."""
        made: Outline = Tensor._make_wrapper_subclass(
            cls,
            look.shape,
            strides=look.strides,
            storage_offset=look.begin,
            dtype=look.dtype,
            device=look.device,
        )
        made.look, made._twin = look, twin
        return made

    @property
    def twin(self) -> Tensor:
        """A tensor of the meta device; views of one memory have twins of one memory."""
        if self._twin is None:
            shape, strides, _, dtype, _ = self.look
            self._twin = torch.empty_strided(shape, strides, dtype=dtype, device=_META)
        return self._twin

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        """Say what is known, which is all that a traced function can print."""
        return f"Outline(shape={self.look.shape}, dtype={self.look.dtype}, device={str(self.look.device)!r})"

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, function: Any, *_: Any, **__: Any) -> Any:  # type: ignore[override]
        """Refuse: nothing can be computed with it, and who records has not let this come here."""
        raise RuntimeError(
            f"jit: a tensor of a function that is traced must stay inside of it, got {function} of one outside."
        )


def outline(x: Tensor) -> Outline:
    """Return a tensor without numbers that looks like `x`, at the beginning of a memory of its own.

    Raises:
        Unknown: When there is more to it than numbers and strides: it is sparse, or a conjugate that is yet to be worked out.

    >>> outline(torch.ones(2, 3))
    Outline(shape=(2, 3), dtype=torch.float32, device='cpu')
    """
    return Outline(_look(x)._replace(begin=0))


def storage_of(x: Tensor) -> int:
    """Return a number that two tensors without numbers have in common where one is a view of the other."""
    return int((x.twin if isinstance(x, Outline) else x).untyped_storage()._cdata)


def result(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what an operation returns.

    Args:
        function: An overload of one of torch's operators, which reads no numbers.
        args: What it takes; all tensors are outlines.
        kwargs: What it takes by name.

    Raises:
        Unknown: Where that cannot be told without numbers.
    """
    if not internals.returns_new_memory(function):
        return _of_the_same_memory(function, args, kwargs)
    named = [(name, _looks(x)) for name, x in kwargs.items()]
    question = (function, _looks(args), *named, torch.get_default_dtype())
    answer = _known.get(question, _known)
    if answer is _known:
        answer = _asked(function, args, kwargs)
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[question] = answer
    return _each(Look, Outline, answer)


def _looks(x: Any) -> Any:
    """Return all of an argument that decides on results."""
    if isinstance(x, Outline):
        return x.look
    if isinstance(x, (list, tuple)):
        return tuple([_looks(part) for part in x])
    return type(x), x  # 1 and 1.0 are equal, and do not promote alike


def _asked(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the looks of what an operation returns, by torch's rules."""
    mode, fake = internals.fake_tensors()
    args, kwargs = _each(Outline, lambda x: fake(x.twin, x.device), (args, kwargs))
    try:
        with mode:
            found = function(*args, **kwargs)
    except Exception as error:
        if internals.is_about_numbers(function, error):
            raise Unknown(f"{function}: {error}") from error
        raise
    return _each(Tensor, _look, found)


def _look(x: Tensor) -> Look:
    if x.layout != torch.strided or x.is_conj() or x.is_neg():
        raise Unknown("it has more to it than numbers and strides")
    return Look(tuple(x.shape), x.stride(), int(x.storage_offset()), x.dtype, x.device)


def _of_the_same_memory(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return a view of what an operation is given, or that itself where the operation writes into it."""
    given: list[Outline] = []

    def twin(x: Outline) -> Tensor:
        given.append(x)
        return x.twin

    args, kwargs = _each(Outline, twin, (args, kwargs))
    found = function(*args, **kwargs)
    themselves = {id(x.twin): x for x in given}

    def outlined(x: Tensor) -> Outline:
        return (
            themselves[id(x)]
            if id(x) in themselves
            else Outline(_look(x)._replace(device=given[0].device), x)
        )

    return _each(Tensor, outlined, found)


def _each(kind: type, change: Callable[[Any], Any], found: Any) -> Any:
    """Return lists, tuples and dicts with each element of a kind changed."""
    if isinstance(found, kind):
        return change(found)
    if isinstance(found, dict):
        return {name: _each(kind, change, part) for name, part in found.items()}
    return [_each(kind, change, part) for part in found] if isinstance(found, (list, tuple)) else found
