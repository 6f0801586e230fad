"""Images, with labels or without, checked once and kept on each device once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from funcrl.core import checks, random
from funcrl.core.untraced import untraced


class LabelledImages:
    """Images and their classes; equal to itself only.

    >>> data = LabelledImages(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 1]))
    >>> data.shape, data.num_classes, len(data)
    ((1, 8, 8), 2, 3)
    """

    def __init__(self, images: Any, labels: Any = None, num_classes: int | None = None) -> None:
        """Check and copy.

        Args:
            images: `[M, C, H, W]` in [0, 1], tensor or array.
            labels: `[M]` integers from 0 on; by default none, `num_classes` is 0 then.
            num_classes: A; one more than the largest label by default.

        Raises:
            ValueError: When shapes do not fit, a number is out of range, or there is no image.
            TypeError: When the labels are not integers.
        """
        name = "LabelledImages"
        images = torch.as_tensor(images, dtype=torch.float32, device="cpu").detach().clone()
        hold = "be [M, C, H, W] with at least one image and one pixel"
        shape = tuple(images.shape)
        instead = "Grey images need an axis: images[:, None]." if images.ndim == 3 else ""
        checks.require(images.ndim == 4 and images.numel() > 0, name, "images", hold, shape, instead)
        broken = int((~images.isfinite()).flatten(1).any(dim=1).sum())
        found = f"NaN or infinity in {broken} of {len(images)}"
        checks.require(not broken, name, "images", "hold finite pixels", found)
        inside = bool(((images >= 0) & (images <= 1)).all())
        span = (float(images.min()), float(images.max()))
        instead = "Divide by the largest value, images / 255 for bytes."
        checks.require(inside, name, "images", "lie in [0, 1]", span, instead)
        self.shape: tuple[int, int, int] = shape[1:]
        self.num_classes = 0
        if labels is None:
            checks.require(num_classes in (None, 0), name, "num_classes", "be 0 without labels", num_classes)
            labels = torch.zeros(len(images), dtype=torch.int64, device="cpu")
        else:
            labels = torch.as_tensor(labels, device="cpu").detach().clone()
            self.num_classes = _checked_classes(labels, len(images), num_classes)
        self._copies = {torch.device("cpu"): (images, labels.to(torch.int64))}

    def __len__(self) -> int:
        return len(self._copies[torch.device("cpu")][1])

    def __repr__(self) -> str:
        classes = f"{self.num_classes} classes" if self.num_classes else "no labels"
        return f"LabelledImages({len(self)} of {self.shape}, {classes})"

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the images `[M, C, H, W]` and the labels `[M]` int64 (zeros without) on a device, copied there once.

        A program that is traced meanwhile takes the copy as a constant, shared by all lanes.
        """
        if device not in self._copies:
            images, labels = self._copies[torch.device("cpu")]
            self._copies[device] = untraced(lambda: (images.to(device), labels.to(device)))
        return self._copies[device]

    def split(self, count: int, key: Tensor) -> tuple[LabelledImages, LabelledImages]:
        """Return `count` images drawn from a key, and all others, as two data sets with the same classes.

        Args:
            count: In [1, M - 1].
            key: `[2]` int32.

        >>> data = LabelledImages(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 1]))
        >>> [len(part) for part in data.split(2, random.key(0))]
        [2, 1]
        """
        checks.integer("LabelledImages.split", "count", count, 1)
        hold = f"be below the number of images, {len(self)}"
        checks.require(count < len(self), "LabelledImages.split", "count", hold, count)
        order = random.permutation(key.to("cpu"), len(self))
        images, labels = self.on(torch.device("cpu"))
        parts = (order[:count], order[count:])
        first, second = (self._with(images[part], labels[part]) for part in parts)
        return first, second

    def resized(self, height: int, width: int) -> LabelledImages:
        """Return the images in another size, by bilinear interpolation.

        >>> LabelledImages(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 1])).resized(16, 16).shape
        (1, 16, 16)
        """
        for side in (height, width):
            checks.integer("LabelledImages.resized", "size", side, 1)
        images, labels = self.on(torch.device("cpu"))
        larger = F.interpolate(images, (height, width), mode="bilinear", antialias=True)
        return self._with(larger.clamp(0.0, 1.0), labels)

    def _with(self, images: Tensor, labels: Tensor) -> LabelledImages:
        return LabelledImages(images, labels if self.num_classes else None, self.num_classes)


def _checked_classes(labels: Tensor, count: int, num_classes: int | None) -> int:
    """Return the number of classes, if the labels are such."""
    name = "LabelledImages"
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{name}: labels must be integers, got {labels.dtype}. Write labels.long().")
    checks.require(labels.shape == (count,), name, "labels", "be one an image", tuple(labels.shape))
    largest = int(labels.max())
    if num_classes is None:
        num_classes = largest + 1
    checks.integer(name, "num_classes", num_classes, 1)
    span = (int(labels.min()), largest)
    inside = span[0] >= 0 and largest < num_classes
    checks.require(inside, name, "labels", f"lie in [0, {num_classes - 1}]", span)
    return int(num_classes)
