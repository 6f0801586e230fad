"""By which of its figures an algorithm is judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Judged:
    """A figure."""

    name: str
    higher_is_better: bool


_BEST_FIRST = (
    Judged("test_accuracy", True),
    Judged("test_loss", False),
    Judged("accuracy", True),
    Judged("loss", False),
)


def judged(names: Iterable[str]) -> Judged:
    """Return by which of these figures one is judged: that of held-out images, accuracy before loss.

    >>> judged(["loss", "error", "test_loss"])
    Judged(name='test_loss', higher_is_better=False)
    """
    there = set(names)
    return next(figure for figure in _BEST_FIRST if figure.name in there)
