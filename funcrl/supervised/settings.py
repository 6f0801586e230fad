"""The settings that all have which learn from batches of images."""

from __future__ import annotations

import math

from funcrl.core import checks, tree
from funcrl.optim import descending


@tree.struct
class Settings:
    """Settings of what learns from images. Every float may differ between lanes; integers, names and networks belong to the program."""

    learning_rate: float = 1e-3
    """step size of Adam"""
    max_grad_norm: float = math.inf
    """largest global norm of the gradient; inf: no clipping"""
    frozen: tuple[str, ...] = tree.static(default=())
    """patterns of parameters that are not trained, "features.*"; what a network keeps beside them under these names stays
    as it is too"""
    rate_factors: tuple[str, ...] = tree.static(default=())
    """by what the step size of some parameters is multiplied, "features.*=0.1"; the first pattern that fits counts"""
    batch_size: int = tree.static(default=64)
    """B: images in a gradient step"""
    shift: int = tree.static(default=0)
    """augmentation: pixels by which an image is moved at most, in each direction, zeros coming in"""
    flip: bool = tree.static(default=False)
    """augmentation: whether every other image is mirrored, left and right"""

    def __post_init__(self) -> None:
        name = checks.name_of(self)
        checks.settings(
            self,
            name,
            not_negative=("learning_rate",),
            positive=("max_grad_norm",),
            counts=("batch_size",),
            flags=("flip",),
        )
        checks.integer(name, "shift", self.shift, 0)
        descending.check_settings(name, self)
