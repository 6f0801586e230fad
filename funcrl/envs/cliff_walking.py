"""CliffWalking-v1: walk along a cliff from start to goal without falling off.

Sutton & Barto 2018, "Reinforcement learning: an introduction", example 6.6. Layout, rewards and the
slippery variant are those of Gymnasium's `CliffWalking-v1` and `CliffWalkingSlippery-v1`.
"""

from __future__ import annotations

import math

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, tree
from funcrl.envs import tabular
from funcrl.envs.drawing import Frame
from funcrl.envs.scenes import maps
from funcrl.envs.tabular import Outcomes, Place

_ROWS, _COLUMNS = 4, 12
_START = 36


@tree.struct
class CliffWalking:
    """The environment; its numbers may be tensors, to `vmap` the rewards over them.

    The grid has 4 rows of 12 cells; position = 12 · row + column, row 0 at the top. The agent starts
    at the lower left, the goal is at the lower right, the cells between them are the cliff: who
    steps there is back at the start in the same step. The observation is the position. Actions: 0
    up, 1 right, 2 down, 3 left; the border of the grid holds the agent back.

    Gymnasium sets no time limit, so an agent that never reaches the goal walks on for ever.
    """

    render_fps = 4
    """pictures per second of a film"""

    step_reward: float = -1.0
    """for every step that does not end on the cliff, the last included"""
    cliff_reward: float = -100.0
    """for a step onto the cliff"""
    is_slippery: bool = tree.static(default=False)
    """whether a step goes to the left or right of where it should, with probability 1/3 each"""
    max_episode_steps: int | None = tree.static(default=None)
    """time limit; None for none"""

    def __post_init__(self) -> None:
        for name in ("step_reward", "cliff_reward"):
            checks.number("CliffWalking", name, getattr(self, name), -math.inf, math.inf)
        checks.settings(self, "CliffWalking", flags=("is_slippery",))
        checks.time_limit("CliffWalking", self.max_episode_steps)

    @property
    def map(self) -> tuple[str, ...]:
        """The grid, one string a row: S start, G goal, C cliff, F anything else."""
        free = "F" * _COLUMNS
        return (free, free, free, f"S{'C' * (_COLUMNS - 2)}G")

    @property
    def arrows(self) -> str:
        """Where each action points."""
        return "↑→↓←"

    @property
    def num_states(self) -> int:
        """48; the agent never stands on the ten cells of the cliff."""
        return _ROWS * _COLUMNS

    @property
    def observation_space(self) -> spaces.Discrete:
        """The position."""
        return tabular.discrete(self.num_states)

    @property
    def action_space(self) -> spaces.Discrete:
        """0 up, 1 right, 2 down, 3 left."""
        return tabular.discrete(4)

    def initial_distribution(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the probability of each position at the beginning, `[48]`."""
        return (torch.arange(self.num_states, device="cpu") == _START).to(dtype)

    def initial(self, key: Tensor) -> Place:
        """Return the lower left corner; the key is not used."""
        return tabular.begin(torch.full((), _START, dtype=torch.int64, device=key.device))

    def outcomes(self, position: Tensor, action: Tensor, dtype: torch.dtype = torch.float32) -> Outcomes:
        """Return what may follow: one outcome, or three of equal probability where it is slippery.

        Args:
            position: `[]` int64.
            action: `[]` integer.
            dtype: Of probabilities and rewards.
        """
        heading = tabular.headings(action, self.is_slippery)
        down = (heading == 2).to(torch.int64) - (heading == 0).to(torch.int64)
        right = (heading == 1).to(torch.int64) - (heading == 3).to(torch.int64)
        row = (position // _COLUMNS + down).clamp(0, _ROWS - 1)
        column = (position % _COLUMNS + right).clamp(0, _COLUMNS - 1)
        bottom = row == _ROWS - 1
        falls = bottom & (column > 0) & (column < _COLUMNS - 1)
        step, fall = (
            tabular.number(x, dtype, position.device) for x in (self.step_reward, self.cliff_reward)
        )
        return Outcomes(
            probability=torch.full(heading.shape, 1 / heading.shape[0], dtype=dtype, device=position.device),
            position=torch.where(falls, _START, row * _COLUMNS + column),
            reward=torch.where(falls, fall, step),
            terminated=bottom & (column == _COLUMNS - 1),
        )

    def transition(self, state: Place, action: Tensor, key: Tensor) -> Place:
        """Return the place that follows, one of `outcomes`."""
        return tabular.draw(key, self.outcomes(state.position, action))

    def observation(self, state: Place, key: Tensor) -> Tensor:
        """Return the position, `[]` int64."""
        return state.position

    def reward(self, state: Place, action: Tensor, next_state: Place, key: Tensor) -> Tensor:
        """Return what the step paid, `[]` float32."""
        return next_state.reward

    def terminal(self, state: Place, key: Tensor) -> Tensor:
        """Return whether the goal has been reached, `[]` boolean."""
        return state.terminated

    def render(self, state: Place) -> Frame:
        """Return a picture of one state, `[H, W, 3]`: the cliff, the way along it, and the goal's flag."""
        return maps.picture(self.map, int(state.position), maps.EARTH)
