"""Corridor-v0: walk along a line to the goal at its right end.

One of funcrl's own. The simplest environment in which a reward is delayed: everything about it is
known in closed form, so it shows whether a learner or a planner does what its theory says.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, tree
from funcrl.envs import tabular
from funcrl.envs.drawing import BLUE, GREEN, GROUND, INK, Canvas, Frame
from funcrl.envs.tabular import Outcomes, Place


@functools.cache
def _positions() -> spaces.Box:
    return spaces.Box(0.0, 1.0, (1,), np.float32)


@tree.struct
class Corridor:
    """The environment; its numbers may be tensors, to `vmap` the dynamics over them.

    State: a `Place`, the cell from 0 (where every episode begins) to `length` - 1 (the goal, where
    it terminates). The observation is the cell divided by `length` - 1, `[1]` float32. Actions: 0
    goes left, 1 goes right; with probability `slip` the opposite happens. Going left from cell 0
    leaves it where it is. Every move pays `step_reward`, the one that reaches the goal pays
    `goal_reward` in its place.

    Optimal return, for step_reward ≤ 0 and slip s < 1/2 (always right is optimal then), with
    n = length - 1 moves to make:

        s = 0:                     goal_reward · γⁿ⁻¹ + step_reward · (1 - γⁿ⁻¹) / (1 - γ)
        γ = 1, no time limit:      goal_reward + step_reward · (E[T] - 1)
                                   E[T] = (n - ρ (1 - ρⁿ) / (1 - ρ)) / (1 - 2s),  ρ = s / (1 - s)

    The second is the mean time T that a random walk takes to its right end: passing cell k for the
    first time takes t_k = (1 + s · t_{k-1}) / (1 - s) moves. As it is, 8 · (-0.1) + 1 = 0.2.
    """

    render_fps = 4
    """pictures per second of a film"""

    step_reward: float = -0.1
    """for a move that does not reach the goal"""
    goal_reward: float = 1.0
    """for the move that reaches the goal"""
    slip: float = 0.0
    """probability that the opposite move happens"""
    length: int = tree.static(default=10)
    """number of cells, at least 2"""
    max_episode_steps: int | None = tree.static(default=100)
    """time limit; None for none"""

    def __post_init__(self) -> None:
        checks.settings(self, "Corridor", unit=("slip",))
        for name in ("step_reward", "goal_reward"):
            checks.number("Corridor", name, getattr(self, name), -np.inf, np.inf)
        checks.integer("Corridor", "length", self.length, 2)
        checks.time_limit("Corridor", self.max_episode_steps)

    @property
    def observation_space(self) -> spaces.Box:
        """From 0, the left wall, to 1, the goal."""
        return _positions()

    @property
    def action_space(self) -> spaces.Discrete:
        """0 goes left, 1 goes right."""
        return tabular.discrete(2)

    @property
    def num_states(self) -> int:
        """Number of cells."""
        return self.length

    def initial_distribution(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the probability of each cell at the beginning, `[S]`: 1 for cell 0."""
        return (torch.arange(self.length, device="cpu") == 0).to(dtype)

    def outcomes(self, position: Tensor, action: Tensor, dtype: torch.dtype = torch.float32) -> Outcomes:
        """Return what may follow: the move that was asked for, and the opposite one.

        Args:
            position: `[]` int64, the cell. The goal is left no more: it follows itself and pays 0.
            action: `[]` int64.
            dtype: Of probabilities and rewards.
        """
        goal = self.length - 1
        at_goal = position == goal
        opposite = torch.arange(2, device=position.device) == 1
        follows = (position + torch.where((action == 1) ^ opposite, 1, -1)).clamp(0, goal)
        follows = torch.where(at_goal, goal, follows)
        reached = follows == goal
        final, step, slips, moves = (
            tabular.number(x, dtype, position.device)
            for x in (self.goal_reward, self.step_reward, self.slip, 1 - self.slip)
        )
        paid = torch.where(reached, final, step)
        return Outcomes(
            probability=torch.where(opposite, slips, moves),
            position=follows,
            reward=torch.where(at_goal, 0.0, paid),
            terminated=reached,
        )

    def initial(self, key: Tensor) -> Place:
        """Return the first state of an episode: cell 0; the key is not used."""
        return tabular.begin(torch.zeros((), dtype=torch.int64, device=key.device))

    def transition(self, state: Place, action: Tensor, key: Tensor) -> Place:
        """Return the state that follows, one of `outcomes`."""
        return tabular.draw(key, self.outcomes(state.position, action))

    def observation(self, state: Place, key: Tensor) -> Tensor:
        """Return how far along the corridor it is, `[1]` float32 from 0 to 1."""
        return (state.position / (self.length - 1)).to(torch.float32).reshape(1)

    def reward(self, state: Place, action: Tensor, next_state: Place, key: Tensor) -> Tensor:
        """Return what the move paid, `[]` float32."""
        return next_state.reward

    def terminal(self, state: Place, key: Tensor) -> Tensor:
        """Return whether the goal is reached, `[]` boolean."""
        return state.terminated

    def render(self, state: Place) -> Frame:
        """Return a picture of a state: the cells, the goal in green, the walker in blue.

        Args:
            state: The environment's own state; `.inner` of what `envs.reset` and `envs.step` return.
        """
        end = float(self.length)
        canvas = Canvas((-0.3, end + 0.3), (-0.3, 1.3), width=max(480, 40 * self.length))
        canvas.rectangle(end - 1, 0, end, 1, GREEN)
        for cell in range(1, self.length):
            canvas.line([(cell, 0), (cell, 1)], GROUND, 1)
        canvas.line([(0, 0), (end, 0), (end, 1), (0, 1), (0, 0)], INK, 3)
        canvas.circle((int(state.position) + 0.5, 0.5), 0.32, BLUE)
        return canvas.frame()
