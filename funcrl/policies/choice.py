"""The one place that chooses a distribution by the action space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from funcrl.core.checks import require
from funcrl.policies.bounds import Bounds
from funcrl.policies.heads import Choice, Choices, Coins, Gaussian, Several, Squashed
from funcrl.policies.protocol import Head

Boxes = Callable[[Bounds, tuple[int, ...]], Head]
"""head of a Box, made of its bounds and its shape"""


def for_space(function: str, space: spaces.Space[Any], box: Boxes = Gaussian) -> Head:
    """Return what makes a distribution over the actions of a space of a network's outputs.

    Equal spaces have equal heads.

    Args:
        function: Who complains, `"ppo.init"`.
        space: Discrete, MultiDiscrete, MultiBinary, Box of floats, or Tuple or Dict of such spaces.
        box: For a Box, `Gaussian` (normals, which the environment clips), `GaussianOfState` (with a spread that
            depends on the observation), `Squashed` (normals within the bounds by a tanh), or `Smooth`, given how
            many features it is to expect.

    Raises:
        ValueError: When it is another space, or has no bounds where they are needed.

    >>> for_space("ppo.init", spaces.MultiDiscrete([2, 3])).num_outputs
    5
    """
    if isinstance(space, spaces.Discrete):
        return Choice(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        return Choices(_integers(space.nvec), _integers(space.start), tuple(space.nvec.shape))
    if isinstance(space, spaces.MultiBinary):
        return Coins(tuple(space.shape))
    if isinstance(space, (spaces.Tuple, spaces.Dict)):
        return _several(function, space, box)
    return _box(function, space, box)


def _several(function: str, space: Any, box: Boxes) -> Head:
    require(len(space.spaces) > 0, function, "env.action_space", "have at least one part", space)
    if isinstance(space, spaces.Tuple):
        return Several(None, tuple(for_space(function, part, box) for part in space.spaces))
    for name in space.spaces:
        # Names stand in front of the names of parameters, with a dot between them.
        fine = isinstance(name, str) and "." not in name
        require(fine, function, "the names in env.action_space", "be strings without a dot", name)
    return Several(
        tuple(space.spaces), tuple(for_space(function, part, box) for part in space.spaces.values())
    )


def _box(function: str, space: Any, box: Boxes) -> Head:
    fine = isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)
    hold = "be Discrete, MultiDiscrete, MultiBinary, a Box of floats, or a Tuple or Dict of these"
    instead = "Wrap the environment so that it takes such actions."
    require(fine, function, "env.action_space", hold, space, instead)
    low, high = (tuple(float(x) for x in side.flatten()) for side in (space.low, space.high))
    bounds = Bounds(low, high)
    if box is Squashed:
        instead = "Wrap the environment so that its actions have bounds."
        hold = "be bounded on both sides in every dimension"
        require(all(bounds.finite), function, "env.action_space", hold, space, instead)
    # A dimension without a width would have a σ of 0 and no density.
    wide = all(a < b for a, b in zip(low, high, strict=True))
    require(wide and len(low) > 0, function, "env.action_space", "have low < high in every dimension", space)
    return box(bounds, tuple(space.shape))


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values.flatten())
