"""What a network sees of an observation: the parts of its space, each as numbers of about 1 in size.

`[...]` stands for axes in front: none for one observation, `[B]` for several.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import masks
from funcrl.core.checks import require
from funcrl.core.spaces import KINDS, dtype

SMALLEST_IMAGE = 8
"""Pixels on each side; bytes in smaller arrays are no images."""


@dataclass(frozen=True)
class Numbers:
    """A Box, or MultiBinary: its numbers in a row, bytes between 0 and 1."""

    path: tuple[Any, ...]
    """keys and places that lead to it; none where it is the whole observation"""
    shape: tuple[int, ...]
    bounds: tuple[float, float] | None = None
    """of bytes, which are scaled from there to 0 and 1"""

    @property
    def size(self) -> tuple[int, ...]:
        """Of what the network gets."""
        return (math.prod(self.shape),)

    def encode(self, value: Tensor) -> Tensor:
        """Map `[..., *shape]` to `[..., D]` float32."""
        leading = value.shape[: value.ndim - len(self.shape)]
        return _scaled(value, self.bounds).reshape(*leading, *self.size)


@dataclass(frozen=True)
class OneHot:
    """A Discrete or MultiDiscrete: for each number a row of zeros with a one at it."""

    path: tuple[Any, ...]
    shape: tuple[int, ...]
    counts: tuple[int, ...]
    """values that each number may have"""
    start: tuple[int, ...]
    """the first of them"""

    @property
    def size(self) -> tuple[int, ...]:
        """Of what the network gets."""
        return (sum(self.counts),)

    def encode(self, value: Tensor) -> Tensor:
        """Map `[..., *shape]` integers to `[..., D]` float32."""
        leading = value.shape[: value.ndim - len(self.shape)]
        numbers = value.reshape(*leading, len(self.counts))
        hot = [
            numbers[..., i, None] == torch.arange(start, start + count, device=value.device)
            for i, (count, start) in enumerate(zip(self.counts, self.start, strict=True))
        ]
        return torch.cat(hot, dim=-1).to(torch.float32)


@dataclass(frozen=True)
class Image:
    """A Box that is an image, with the channels in front, bytes between 0 and 1."""

    path: tuple[Any, ...]
    shape: tuple[int, ...]
    """`(C, H, W)`, `(H, W, C)`, or `(H, W)` where there is one channel"""
    channels_last: bool
    bounds: tuple[float, float] | None = None
    """of bytes, which are scaled from there to 0 and 1"""

    @property
    def size(self) -> tuple[int, ...]:
        """`(C, H, W)`."""
        if len(self.shape) == 2:
            return (1, *self.shape)
        return (self.shape[-1], *self.shape[:-1]) if self.channels_last else self.shape

    def encode(self, value: Tensor) -> Tensor:
        """Map `[..., *shape]` to `[..., C, H, W]` float32."""
        value = _scaled(value, self.bounds)
        if len(self.shape) == 2:
            return value.unsqueeze(-3)
        return value.movedim(-1, -3) if self.channels_last else value


Part = Numbers | OneHot | Image


def parts(space: spaces.Space[Any], images: bool = True, path: tuple[Any, ...] = ()) -> tuple[Part, ...]:
    """Return the parts of a space of observations, in its order. Equal spaces have equal parts.

    An image is a Box with three axes, or of bytes with two, `SMALLEST_IMAGE` pixels wide and high where it
    holds bytes. Its channels are the axis that differs where the two others are equal, else the shorter one of the
    first and the last, the first where they are equal.

    Args:
        space: One of `KINDS`.
        images: Whether there are any; otherwise their numbers stand in a row.
        path: What leads to it.

    >>> parts(spaces.Box(0, 255, (84, 84, 3), np.uint8))[0].size
    (3, 84, 84)
    >>> [part.path for part in parts(spaces.Dict(place=spaces.Discrete(4), speed=spaces.Box(-1, 1)))]
    [('place',), ('speed',)]
    """
    if masks.is_masked(space):
        own = space[masks.OBSERVATION]  # type: ignore[index]
        return parts(own, images, (*path, masks.OBSERVATION))
    if isinstance(space, spaces.Dict):
        return tuple(x for name, own in space.spaces.items() for x in parts(own, images, (*path, name)))
    if isinstance(space, spaces.Tuple):
        return tuple(x for i, own in enumerate(space.spaces) for x in parts(own, images, (*path, i)))
    if isinstance(space, spaces.Discrete):
        return (OneHot(path, (), (int(space.n),), (int(space.start),)),)
    if isinstance(space, spaces.MultiDiscrete):
        counts, start = (tuple(int(x) for x in values.flatten()) for values in (space.nvec, space.start))
        return (OneHot(path, tuple(space.nvec.shape), counts, start),)
    shape = tuple(space.shape or ())
    # Only of bytes are the bounds read: those of a Box of floats may differ between lanes.
    bounds = _bounds(space) if isinstance(space, spaces.Box) and space.dtype == np.uint8 else None
    if images and _is_image(space, shape):
        return (Image(path, shape, _channels_last(shape), bounds),)
    return (Numbers(path, shape, bounds),)


def check_kind(function: str, argument: str, space: Any) -> None:
    """Check that networks take observations of a space.

    Args:
        function: Who complains, `"ppo.init"`.
        argument: How the space is called: `"env.observation_space"`.
        space: What was given.

    Raises:
        ValueError: When they do not, or when it holds nothing.
    """
    names = ", ".join(kind.__name__ for kind in KINDS)
    instead = "Wrap the environment so that it shows what such a space holds."
    require(isinstance(space, KINDS), function, argument, f"be one of {names}", space, instead)
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        inner = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        require(len(space.spaces) > 0, function, argument, "have at least one part", space)
        for name, part in inner:
            check_kind(function, f"{argument}[{name!r}]", part)


def row(own: tuple[Part, ...], obs: Any) -> Tensor:
    """Return the numbers of all parts in a row, `[..., D]` float32.

    Args:
        own: `parts` of the space, without images.
        obs: `[...]` observations.

    >>> space = spaces.Dict(place=spaces.Discrete(3), speed=spaces.Box(-1, 1, (1,)))
    >>> row(parts(space), {"place": torch.tensor(1), "speed": torch.tensor([0.5])})
    tensor([0.0000, 1.0000, 0.0000, 0.5000])
    """
    rows = [part.encode(value_at(obs, part.path)) for part in own]
    return rows[0] if len(rows) == 1 else torch.cat(rows, dim=-1)


def value_at(obs: Any, path: tuple[Any, ...]) -> Tensor:
    """Return the part of an observation that a path leads to."""
    for key in path:
        obs = obs[key]
    return obs  # type: ignore[no-any-return]


def example(space: Any, leading: tuple[int, ...] = (), device: torch.device | None = None) -> Any:
    """Return elements of a space, `[*leading, ...]`: zeros, or the first number where there is no zero.

    >>> example(spaces.Dict(place=spaces.Discrete(4, start=2)), (3,))
    {'place': tensor([2, 2, 2])}
    """
    if isinstance(space, spaces.Dict):
        return {name: example(part, leading, device) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(example(part, leading, device) for part in space.spaces)
    kind = dtype(space)
    zeros = torch.zeros((*leading, *(space.shape or ())), dtype=kind, device=device or torch.device("cpu"))
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return zeros + torch.as_tensor(np.asarray(space.start), dtype=kind, device=zeros.device)
    return zeros


def _scaled(value: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    value = value if value.is_floating_point() else value.to(torch.float32)
    if bounds is None or bounds == (0.0, 1.0):
        return value
    low, high = bounds
    return (value - low) / (high - low)


def _bounds(space: spaces.Box) -> tuple[float, float]:
    low, high = float(space.low.min()), float(space.high.max())
    return low, max(high, low + 1.0)


def _is_image(space: Any, shape: tuple[int, ...]) -> bool:
    if not isinstance(space, spaces.Box):
        return False
    if space.dtype != np.uint8:
        return len(shape) == 3
    return len(shape) in (2, 3) and sorted(shape)[-2] >= SMALLEST_IMAGE


def _channels_last(shape: tuple[int, ...]) -> bool:
    if len(shape) == 2:
        return False
    first, middle, last = shape
    if (middle == last) != (first == middle):
        return first == middle
    return last < first
