"""Exceptions that cross from one process to another as text, and come out as what they were."""

from __future__ import annotations

import sys
import traceback
from typing import Any


class WorkerError(RuntimeError):
    """No worker process is left, or one raised something that cannot be raised again here."""


def describe(error: BaseException) -> dict[str, Any]:
    """Return an exception as JSON can hold it."""
    kind = type(error)
    plain = all(isinstance(argument, (str, int, float, type(None))) for argument in error.args)
    return {
        "module": kind.__module__,
        "name": kind.__qualname__,
        "arguments": list(error.args) if plain else [str(error)],
        "text": str(error),
        "notes": [str(note) for note in getattr(error, "__notes__", [])],
        "traceback": "".join(traceback.format_exception(error)),
    }


def rebuild(described: dict[str, Any], where: str) -> BaseException:
    """Return the exception that `describe` was given, with its traceback as a note.

    A process and its fork know the same classes. One that is defined inside a function, or cannot be
    made from what it holds, comes out as a `WorkerError` that names it.

    Args:
        described: What `describe` returned.
        where: Whose exception it is: `"the worker process of seed 3"`.

    >>> rebuild(describe(KeyError("gold")), "seed 3")
    KeyError('gold')
    """
    error = _same(described)
    if error is None:
        error = WorkerError(f"train: {where} raised {described['name']}: {described['text']}")
    for note in described["notes"]:
        error.add_note(note)
    error.add_note(f"It was raised in {where}:\n{described['traceback']}")
    return error


def _same(described: dict[str, Any]) -> BaseException | None:
    kind: Any = sys.modules.get(described["module"])
    for name in described["name"].split("."):
        kind = getattr(kind, name, None)
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        return None
    try:
        error = kind(*described["arguments"])
    except Exception:
        return None
    return error if str(error) == described["text"] else None
