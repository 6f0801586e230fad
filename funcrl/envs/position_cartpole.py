"""PositionOnlyCartPole-v0: CartPole that shows where cart and pole are, and not how fast they move.

Morad et al. 2023, "POPGym: benchmarking partially observable reinforcement learning", section 4,
PositionOnlyCartPole, with the dynamics, rewards and time limit of CartPole-v1. One observation does not say which way
the pole is falling; two do.
"""

from __future__ import annotations

import functools

import numpy as np
from gymnasium import spaces
from torch import Tensor

from funcrl.core import tree
from funcrl.envs.cartpole import CartPole


@functools.cache
def _positions(high: tuple[float, float]) -> spaces.Box:
    bounds = np.array(high, dtype=np.float32)
    return spaces.Box(-bounds, bounds, dtype=np.float32)


@tree.struct
class PositionOnlyCartPole(CartPole):
    """`CartPole`, of whose state `[2]` is seen: the position of the cart, and the angle of the pole."""

    @property
    def observation_space(self) -> spaces.Box:
        """Twice the thresholds, so that the last observation of an episode is inside."""
        return _positions((2 * float(self.x_threshold), 2 * float(self.angle_threshold)))

    def observation(self, state: Tensor, key: Tensor) -> Tensor:
        """Return what the agent sees of a state, `[2]`."""
        return state[..., ::2]
