"""Environments so small that one knows what must be learnt, and how fast.

The idea of probing an agent with them is Andy Jones's ("Debugging reinforcement learning systems",
2021).
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces

from funcrl.core import random, tree

LINE = spaces.Box(-10.0, 10.0, (1,), np.float32)
TWO = spaces.Discrete(2)


def _number(x, like):
    return torch.full((1,), float(x), device=like.device)


@tree.struct
class Counter:
    """Counts its steps from 0, pays 1 each, and terminates when it reaches `end`."""

    end: int = tree.static(default=3)
    max_episode_steps: int | None = tree.static(default=10)
    observation_space = LINE
    action_space = TWO

    def initial(self, key):
        return torch.zeros((), device=key.device)

    def transition(self, state, action, key):
        return state + 1

    def observation(self, state, key):
        return state.reshape(1)

    def reward(self, state, action, next_state, key):
        return torch.ones((), device=state.device)

    def terminal(self, state, key):
        return state >= self.end


@tree.struct
class Truncating(Counter):
    """Pays 1 a step, looks the same for ever, and is cut off after two steps: V = 1 / (1 - γ).

    A learner that takes the cut for an end learns at most 1 + γ.
    """

    max_episode_steps: int | None = tree.static(default=2)

    def observation(self, state, key):
        return torch.ones(1, device=state.device)

    def terminal(self, state, key):
        return torch.zeros((), dtype=torch.bool, device=state.device)


@tree.struct
class Delayed(Counter):
    """Two steps, the observation says which; 1 at the end: V(0) = γ, V(1) = 1."""

    end: int = tree.static(default=2)

    def reward(self, state, action, next_state, key):
        return (next_state >= self.end).to(torch.float32)


@tree.struct
class Choice:
    """One step; the observation is ±1, and the action 1 is right where it is +1: π*(s) = [s > 0]."""

    max_episode_steps: int | None = tree.static(default=10)
    observation_space = LINE
    action_space = TWO

    def initial(self, key):
        sign = torch.where(random.bernoulli(key, 0.5), 1.0, -1.0)
        return torch.stack([sign, torch.zeros_like(sign)])

    def transition(self, state, action, key):
        return torch.stack([state[0], torch.ones_like(state[1])])

    def observation(self, state, key):
        return state[:1]

    def reward(self, state, action, next_state, key):
        return torch.where((action == 1) == (state[0] > 0), 1.0, 0.0)

    def terminal(self, state, key):
        return state[1] > 0


@tree.struct
class Lock(Choice):
    """Two choices at once, the first counted from 5: (6, 2) is right where the observation is +1, (5, 0) elsewhere.

    Each right one pays ½.
    """

    action_space = spaces.MultiDiscrete([2, 3], start=[5, 0])

    def reward(self, state, action, next_state, key):
        up = (state[0] > 0).to(torch.int64)
        right = (action == torch.stack([5 + up, 2 * up])).to(torch.float32)
        return right.sum() / 2


@tree.struct
class Aim(Choice):
    """Two numbers, one in ±1 and one from 0 to 1000; best are ± ½ and 500 ± 300, by the observation's sign."""

    action_space = spaces.Box(np.array([-1, 0], np.float32), np.array([1, 1000], np.float32))

    def reward(self, state, action, next_state, key):
        apart = torch.stack([action[0] - 0.5 * state[0], action[1] / 500 - 1 - 0.6 * state[0]])
        return -(apart**2).sum()
