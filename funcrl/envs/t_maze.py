"""TMaze-v0: a sign at the beginning says where the goal will be, at the end of a corridor.

Bakker 2001, "Reinforcement learning with long short-term memory", NeurIPS 14. It asks for a memory as long as
the corridor: what was seen at the first step decides what is right at the last one, and nothing in between
says it again. An agent that sees one observation at a time cannot do better than chance at the junction.
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
from funcrl.envs.drawing import BLUE, GREEN, GROUND, INK, YELLOW, Canvas, Frame


@functools.cache
def _signs() -> spaces.Box:
    return spaces.Box(0.0, 1.0, (4,), np.float32)


@tree.struct
class Maze:
    """State of a `TMaze`."""

    position: Tensor
    """`[]` int64, cells from the beginning; `length` is the junction"""
    goal_is_left: Tensor
    """`[]` boolean"""
    turned: Tensor
    """`[]` int64, at the junction: 0 not yet, 1 to the left, 2 to the right"""
    reward: Tensor
    """`[]` float32, what the last action paid"""


@tree.struct
class TMaze:
    """The environment; its numbers may be tensors, to `vmap` the dynamics over them.

    The observation is `[4]` float32, each 0 or 1: at the first cell, the sign for left, the sign for right (one of
    them is 1 there); in the corridor, the third; at the junction, the fourth. Actions: 0 goes ahead, 1 back, 2
    left, 3 right. At the junction left and right end the episode: the side that the sign named pays
    `goal_reward`, the other one `wrong_reward`. What runs into a wall pays `wall_reward`, everything else 0.

    Optimal return: `goal_reward`. Without a memory, going ahead and guessing: the mean of `goal_reward` and
    `wrong_reward`.
    """

    render_fps = 4
    """pictures per second of a film"""

    goal_reward: float = 4.0
    """for the side that the sign has named"""
    wrong_reward: float = -0.1
    """for the other side"""
    wall_reward: float = -0.1
    """for staying where one is"""
    length: int = tree.static(default=10)
    """steps from the beginning to the junction, at least 1"""
    max_episode_steps: int | None = tree.static(default=100)
    """time limit; None for none"""

    def __post_init__(self) -> None:
        for name in ("goal_reward", "wrong_reward", "wall_reward"):
            checks.number("TMaze", name, getattr(self, name), -math.inf, math.inf)
        checks.integer("TMaze", "length", self.length, 1)
        checks.time_limit("TMaze", self.max_episode_steps)
        if self.max_episode_steps is not None:
            hold = f"be more than length = {self.length}, or None: the goal is so far away"
            fine = self.max_episode_steps > self.length
            checks.require(fine, "TMaze", "max_episode_steps", hold, self.max_episode_steps)

    @property
    def observation_space(self) -> spaces.Box:
        """Sign for left, sign for right, corridor, junction."""
        return _signs()

    @property
    def action_space(self) -> spaces.Discrete:
        """0 goes ahead, 1 back, 2 left, 3 right."""
        return tabular.discrete(4)

    def initial(self, key: Tensor) -> Maze:
        """Return the first state of an episode; either side with the same chance."""
        zero = torch.zeros((), dtype=torch.int64, device=key.device)
        return Maze(
            position=zero,
            goal_is_left=random.bernoulli(key, 0.5, ()),
            turned=zero,
            reward=zero.to(torch.float32),
        )

    def transition(self, state: Maze, action: Tensor, key: Tensor) -> Maze:
        """Return the state that follows; deterministic, the key is not used."""
        at_junction, over = state.position == self.length, state.turned > 0
        move = torch.where(action == 0, 1, torch.where(action == 1, -1, 0))
        position = torch.where(over, state.position, (state.position + move).clamp(0, self.length))
        turns = at_junction & (action >= 2) & ~over
        turned = torch.where(turns, action - 1, state.turned)
        right_side = (turned == 1) == state.goal_is_left
        paid = torch.where(right_side, self.goal_reward, self.wrong_reward)
        stays = torch.where(position == state.position, self.wall_reward, 0.0)
        reward = torch.where(over, 0.0, torch.where(turns, paid, stays)).to(torch.float32)
        return tree.replace(state, position=position, turned=turned, reward=reward)

    def observation(self, state: Maze, key: Tensor) -> Tensor:
        """Return what is seen where the agent is, `[4]` float32."""
        first, last = state.position == 0, state.position == self.length
        seen = [first & state.goal_is_left, first & ~state.goal_is_left, ~first & ~last, last]
        return torch.stack(seen).to(torch.float32)

    def reward(self, state: Maze, action: Tensor, next_state: Maze, key: Tensor) -> Tensor:
        """Return what the action paid, `[]` float32."""
        return next_state.reward

    def terminal(self, state: Maze, key: Tensor) -> Tensor:
        """Return whether a side has been chosen, `[]` boolean."""
        return state.turned > 0

    def render(self, state: Maze) -> Frame:
        """Return a picture of the maze from above: the goal in green, the sign in yellow at the first cell."""
        end, left = float(self.length), bool(state.goal_is_left)
        canvas = Canvas((-0.3, end + 1.3), (-1.3, 2.3), width=max(480, 40 * (self.length + 1)))
        canvas.rectangle(end, 1 if left else -1, end + 1, 2 if left else 0, GREEN)
        canvas.rectangle(0, 0, 1, 1, GROUND)
        side = 0.8 if left else 0.2
        canvas.circle((0.5, side), 0.12, YELLOW)
        walls = [(0, 0), (0, 1), (end, 1), (end, 2), (end + 1, 2), (end + 1, -1), (end, -1), (end, 0), (0, 0)]
        canvas.line(walls, INK, 3)
        turned = int(state.turned)
        y = 0.5 + (0, 1, -1)[turned]
        canvas.circle((int(state.position) + 0.5, y), 0.3, BLUE)
        return canvas.frame()
