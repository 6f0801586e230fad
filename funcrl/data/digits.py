"""The data set that needs no file: scikit-learn's digits."""

from __future__ import annotations

import functools

import numpy as np

from funcrl.core.untraced import untraced
from funcrl.data.labelled import LabelledImages

_NUM_DIGITS = 10


@functools.cache
def digits() -> LabelledImages:
    """Return scikit-learn's digits: 1797 handwritten digits of 8x8 pixels, 16 shades of grey.

    Source: Alpaydin & Kaynak 1998, "Optical recognition of handwritten digits", UCI (its test set).

    Raises:
        ModuleNotFoundError: When scikit-learn is missing.

    >>> digits().shape
    (1, 8, 8)
    """
    return untraced(_load_digits)


def _load_digits() -> LabelledImages:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "data.digits: scikit-learn is missing. Write: pip install 'funcrl[digits]'", name="sklearn"
        ) from error
    data = load_digits()
    return LabelledImages(np.float32(data.images[:, None]) / 16, data.target, _NUM_DIGITS)
