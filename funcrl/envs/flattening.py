"""Wrappers that turn observations of any space into one vector of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import lanes, tree
from funcrl.core.checks import require
from funcrl.core.spaces import KINDS
from funcrl.envs.stepping import Env
from funcrl.envs.wrappers import Wrapper


@tree.struct
class OneHotObservation(Wrapper):
    """A Discrete observation as a vector with a 1 at its number: `[n]` float32."""

    env: Env

    def __post_init__(self) -> None:
        super().__post_init__()
        space = lanes.first(self.env).observation_space
        instead = "FlattenObservation takes every space."
        here = "OneHotObservation"
        require(
            isinstance(space, spaces.Discrete), here, "env.observation_space", "be Discrete", space, instead
        )

    @property
    def observation_space(self) -> spaces.Box:
        """`[n]` numbers from 0 to 1."""
        return flat_space(self.env.observation_space)

    def observation(self, state: Any, key: Tensor) -> Tensor:
        """Return `[n]` float32."""
        return flat(self.env.observation_space, self.env.observation(state, key))


@tree.struct
class FlattenObservation(Wrapper):
    """Any observation as one vector of float32; Discrete parts become one-hot.

    The layout is that of `gymnasium.spaces.flatten`.
    """

    env: Env

    def __post_init__(self) -> None:
        super().__post_init__()
        flat_space(lanes.first(self.env).observation_space)

    @property
    def observation_space(self) -> spaces.Box:
        """`[n]`."""
        return flat_space(self.env.observation_space)

    def observation(self, state: Any, key: Tensor) -> Tensor:
        """Return `[n]` float32."""
        value = self.env.observation(state, key)
        if isinstance(value, Tensor) and value.is_floating_point():
            # Without asking for the space: its bounds may be numbers that differ between lanes.
            return value.reshape(-1).to(torch.float32)
        return flat(self.env.observation_space, value)


def flat_space(space: spaces.Space[Any]) -> spaces.Box:
    """Return the Box in which flattened values of a space lie, float32."""
    names = ", ".join(kind.__name__ for kind in KINDS)
    require(
        isinstance(space, KINDS), "FlattenObservation", "env.observation_space", f"be one of {names}", space
    )
    box: Any = spaces.flatten_space(space)
    return spaces.Box(box.low.astype(np.float32), box.high.astype(np.float32), dtype=np.float32)


def flat(space: Any, value: Any) -> Tensor:
    """Flatten one value of a space to `[n]` float32, as `gymnasium.spaces.flatten` does.

    >>> flat(spaces.Discrete(3), torch.tensor(1))
    tensor([0., 1., 0.])
    """
    if isinstance(space, spaces.Discrete):
        numbers = torch.arange(int(space.n), device=value.device) + int(space.start)
        hot: Tensor = numbers == value
        return hot.to(torch.float32)
    if isinstance(space, spaces.MultiDiscrete):
        sizes, starts = space.nvec.flatten().tolist(), space.start.flatten().tolist()
        parts = [spaces.Discrete(size, start=start) for size, start in zip(sizes, starts, strict=True)]
        return torch.cat([flat(part, value.flatten()[i]) for i, part in enumerate(parts)])
    if isinstance(space, spaces.Tuple):
        return torch.cat([flat(part, v) for part, v in zip(space.spaces, value, strict=True)])
    if isinstance(space, spaces.Dict):
        return torch.cat([flat(part, value[name]) for name, part in space.spaces.items()])
    vector: Tensor = value.reshape(-1).to(torch.float32)
    return vector
