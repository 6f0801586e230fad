"""Images for an algorithm, of a size that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from funcrl import data
from funcrl.core import lanes, random

_LARGER = {"digits": (32, 32)}
"""of images so small that not every network takes them: the size that LeNet, VGG and DenseNet were made for, or near it"""


def images_for(
    algorithm: ModuleType,
    config: Any,
    source: str | Path,
    *,
    size: Sequence[int] | None = None,
    grey: bool = False,
    test_share: float = 0.2,
    split_seed: int = 0,
) -> data.Split:
    """Return what `data.read` does; digits enlarged to 32 x 32 where the network takes none so small.

    Args:
        algorithm: See `fit`.
        config: Its settings.
        source: See `data.read`.
        size: Likewise.
        grey: Likewise.
        test_share: Likewise.
        split_seed: Likewise.

    Raises: see `data.read`.

    >>> from funcrl.supervised import classifier
    >>> [images_for(classifier, classifier.Config(net=net), "digits").train.shape for net in ("mlp", "lenet")]
    [(1, 8, 8), (1, 32, 32)]
    """
    how: dict[str, Any] = {"grey": grey, "test_share": test_share, "split_seed": split_seed}
    found = data.read(source, size=size, **how)
    if size is not None or str(source) not in _LARGER:
        return found
    try:
        algorithm.init(random.key(0, "cpu"), lanes.first(config), found.train)
    except ValueError:  # where that is not because of the size, it will be raised again
        return data.read(source, size=_LARGER[str(source)], **how)
    return found
