"""From what a user gives `fit` to what it works with, with an error for everything that cannot be."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from funcrl.core.checks import require
from funcrl.core.resolve import resolve_module
from funcrl.data import LabelledImages, Split
from funcrl.supervised import autoencoder, classifier

ALGORITHMS: dict[str, ModuleType] = {"autoencoder": autoencoder, "classifier": classifier}
"""by the names that the command line takes"""


def resolve_algorithm(function: str, algorithm: str | ModuleType) -> ModuleType:
    """Return the module of what learns from images, given by name or as itself.

    Raises:
        ValueError: When the name is unknown.
        TypeError: When it is neither a name nor a module with what `fit` needs.
    """
    names = ("Config", "METRICS", "JUDGED", "init", "update", "evaluate")
    return resolve_module(function, algorithm, ALGORITHMS, names, "classifier")


def resolve_images(function: str, data: Any, test: Any) -> tuple[LabelledImages, LabelledImages | None]:
    """Return what to learn from and what to judge by.

    Raises:
        TypeError: When one of them is no data set.
        ValueError: When there are two to judge by.
    """
    if isinstance(data, Split):
        instead = f"Write {function}(split.train, test=...) to judge by other images."
        require(test is None, function, "test", "be left out beside a Split, which has some", test, instead)
        return data.train, data.test
    for name, images in (("data", data), ("test", test)):
        if not isinstance(images, LabelledImages) and (name == "data" or images is not None):
            raise TypeError(
                f"{function}: {name} must be LabelledImages{' or a Split' if name == 'data' else ''}, "
                f"got a {type(images).__name__}. Write LabelledImages(images, labels), or data.read(folder)."
            )
    return data, test
