"""RepeatFirst-v0: name at every step the symbol that was shown at the first one.

Morad et al. 2023, "POPGym: benchmarking partially observable reinforcement learning", section 4, RepeatFirst. It
asks to hold on to one thing while others distract: the symbols after the first are drawn anew and mean nothing.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.envs import tabular
from funcrl.envs.drawing import BLUE, GREEN, INK, YELLOW, Canvas, Frame


@functools.cache
def _symbols(num_symbols: int) -> spaces.Box:
    return spaces.Box(0.0, 1.0, (num_symbols + 1,), np.float32)


@tree.struct
class Symbols:
    """State of a `RepeatFirst`."""

    first: Tensor
    """`[]` int64, the symbol to be named"""
    now: Tensor
    """`[]` int64, the symbol that is shown"""
    step: Tensor
    """`[]` int64, steps taken"""


@tree.struct
class RepeatFirst:
    """The environment; its numbers may be tensors, to `vmap` the dynamics over them.

    The observation is `[num_symbols + 1]` float32: 1 at the place of the symbol that is shown, and 1 in the last
    place at the first step. Actions: one a symbol. Naming the first symbol pays `right_reward`, another one
    `wrong_reward`; after `length` steps the episode ends.

    Optimal return: `length` times `right_reward`. Without a memory, that is to be had at the first step alone.
    """

    render_fps = 4
    """pictures per second of a film"""

    right_reward: float = 1.0
    """for the symbol of the first step"""
    wrong_reward: float = 0.0
    """for another one"""
    num_symbols: int = tree.static(default=4)
    """at least 2"""
    length: int = tree.static(default=32)
    """steps of an episode"""
    max_episode_steps: int | None = tree.static(default=100)
    """time limit; None for none"""

    def __post_init__(self) -> None:
        for name in ("right_reward", "wrong_reward"):
            checks.number("RepeatFirst", name, getattr(self, name), -math.inf, math.inf)
        checks.integer("RepeatFirst", "num_symbols", self.num_symbols, 2)
        checks.integer("RepeatFirst", "length", self.length, 1)
        checks.time_limit("RepeatFirst", self.max_episode_steps)
        if self.max_episode_steps is not None:
            hold = f"be at least length = {self.length}, or None: an episode takes so many steps"
            fine = self.max_episode_steps >= self.length
            checks.require(fine, "RepeatFirst", "max_episode_steps", hold, self.max_episode_steps)

    @property
    def observation_space(self) -> spaces.Box:
        """The symbol, and whether this is the first step."""
        return _symbols(self.num_symbols)

    @property
    def action_space(self) -> spaces.Discrete:
        """One a symbol."""
        return tabular.discrete(self.num_symbols)

    def initial(self, key: Tensor) -> Symbols:
        """Return the first state of an episode; every symbol with the same chance."""
        first = random.randint(key, (), 0, self.num_symbols)
        return Symbols(first=first, now=first, step=torch.zeros_like(first))

    def transition(self, state: Symbols, action: Tensor, key: Tensor) -> Symbols:
        """Return the state that follows, with any symbol."""
        now = random.randint(key, (), 0, self.num_symbols)
        return tree.replace(state, now=now, step=state.step + 1)

    def observation(self, state: Symbols, key: Tensor) -> Tensor:
        """Return what is shown, `[num_symbols + 1]` float32."""
        symbols = torch.arange(self.num_symbols, device=state.now.device)
        return torch.cat([symbols == state.now, (state.step == 0).reshape(1)]).to(torch.float32)

    def reward(self, state: Symbols, action: Tensor, next_state: Symbols, key: Tensor) -> Tensor:
        """Return what naming a symbol paid, `[]` float32."""
        paid = torch.where(action == state.first, self.right_reward, self.wrong_reward)
        return torch.where(state.step >= self.length, 0.0, paid).to(torch.float32)

    def terminal(self, state: Symbols, key: Tensor) -> Tensor:
        """Return whether all steps have been taken, `[]` boolean."""
        return state.step >= self.length

    def render(self, state: Symbols) -> Frame:
        """Return a picture: the symbols in a row, the first in green, the one that is shown with a blue disc."""
        end, taken = float(self.num_symbols), float(state.step) / self.length
        canvas = Canvas((-0.3, end + 0.3), (-0.6, 1.3), width=max(480, 40 * self.num_symbols))
        first, now = int(state.first), int(state.now)
        canvas.rectangle(first, 0, first + 1, 1, GREEN)
        for symbol in range(self.num_symbols + 1):
            canvas.line([(symbol, 0), (symbol, 1)], INK, 2)
        canvas.line([(0, 0), (end, 0), (end, 1), (0, 1), (0, 0)], INK, 3)
        canvas.circle((now + 0.5, 0.5), 0.32, BLUE)
        canvas.rectangle(0, -0.4, end * taken, -0.2, YELLOW)
        return canvas.frame()
