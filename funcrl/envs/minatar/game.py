"""What the five games share: actions that stick, images of ten by ten cells, pictures."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.envs import tabular
from funcrl.envs.drawing import INK, Canvas, Frame

SIZE = 10
"""rows and columns of every game"""
ACTIONS = ("nothing", "left", "up", "right", "down", "fire")
"""by the numbers of the full set"""
NOTHING, LEFT, UP, RIGHT, DOWN, FIRE = range(6)
COLORS = (
    "#4c9be8",
    "#e0a83a",
    "#8d99ae",
    "#c44e52",
    "#55a868",
    "#b07cc6",
    "#f2a07b",
    "#3fb8af",
    "#d9d9d9",
    "#f2e34c",
)


@functools.cache
def _images(num_channels: int) -> spaces.Box:
    return spaces.Box(0.0, 1.0, (SIZE, SIZE, num_channels), np.float32)


@tree.struct
class Played:
    """A game between two steps."""

    board: Any
    """the game's own"""
    last_action: Tensor
    """`[]` int64 what was done last, of the full set of actions"""
    earned: Tensor
    """`[]` float32 reward of the last step"""
    over: Tensor
    """`[]` boolean"""


@tree.struct
class Game:
    """A game; see the classes of the five.

    Before each step the agent's action is replaced by the one that was done last with probability
    `sticky_probability`. Observation: `[10, 10, channels]` float32 of zeros and ones, row and column from the top left.

    Source: Young & Tian 2019, arXiv 1903.03176, sections 3 and 4, and the package `minatar` 1.0.15, with which each agrees in every
    reward, end and observation where both are given the same random choices.
    """

    render_fps = 10
    """pictures per second of a film"""
    CHANNELS: ClassVar[tuple[str, ...]] = ()
    """what is where the last axis of an observation has a one"""
    MINIMAL: ClassVar[tuple[int, ...]] = tuple(range(6))
    """actions of the full set that do something"""
    NUM_CHOICES: ClassVar[int] = 0
    """random numbers that a step of the game itself may use"""

    sticky_probability: float = 0.1
    """of doing again what was done last; 0 for a game without"""
    difficulty_ramping: bool = tree.static(default=True)
    """whether the game becomes harder, for those that can"""
    minimal_actions: bool = tree.static(default=True)
    """whether actions are numbered among those that do something; else all six are there"""
    max_episode_steps: int | None = tree.static(default=5000)
    """time limit, which the package does not have; None for none"""

    def __post_init__(self) -> None:
        name = type(self).__name__
        checks.settings(self, name, unit=("sticky_probability",))
        checks.time_limit(name, self.max_episode_steps)
        for field in ("difficulty_ramping", "minimal_actions"):
            value = getattr(self, field)
            checks.require(isinstance(value, bool), name, field, "be True or False", value)

    @property
    def actions(self) -> tuple[int, ...]:
        """What actions 0, 1, 2 … are among `ACTIONS`."""
        return self.MINIMAL if self.minimal_actions else tuple(range(len(ACTIONS)))

    @property
    def observation_space(self) -> spaces.Box:
        """Images of zeros and ones, `[10, 10, channels]`."""
        return _images(len(self.CHANNELS))

    @property
    def action_space(self) -> spaces.Discrete:
        """The minimal set of actions, or all six; see `actions`."""
        return tabular.discrete(len(self.actions))

    def begin(self, choices: Tensor) -> Any:
        """Return the board at the beginning of an episode.

        Args:
            choices: `[NUM_CHOICES]` uniform numbers in [0, 1).
        """
        raise NotImplementedError

    def play(self, board: Any, action: Tensor, choices: Tensor) -> tuple[Any, Tensor, Tensor]:
        """Return the board after a step, the reward, `[]`, and whether the game is over, `[]` boolean.

        Args:
            board: Before.
            action: `[]` int64, of the full set.
            choices: `[NUM_CHOICES]` uniform numbers in [0, 1).
        """
        raise NotImplementedError

    def channels(self, board: Any) -> list[Tensor]:
        """Return where what is, `[100]` booleans in the order of `CHANNELS`, row after row."""
        raise NotImplementedError

    def choices(self, key: Tensor) -> Tensor:
        """Return the random choices of a step, `[1 + NUM_CHOICES]` in [0, 1): whether the action sticks, then the game's own."""
        return random.uniform(key, (1 + self.NUM_CHOICES,))

    def initial(self, key: Tensor) -> Played:
        """Return a game that begins."""
        device = key.device
        return Played(
            board=self.begin(self.choices(key)[1:]),
            last_action=torch.full((), NOTHING, dtype=torch.int64, device=device),
            earned=torch.zeros((), dtype=torch.float32, device=device),
            over=torch.zeros((), dtype=torch.bool, device=device),
        )

    def transition(self, state: Played, action: Tensor, key: Tensor) -> Played:
        """Return the game after a step."""
        choices = self.choices(key)
        done = chosen = action.to(torch.int64)
        for place, number in enumerate(self.actions):
            if place != number:
                done = torch.where(chosen == place, number, done)
        done = torch.where(choices[0] < self.sticky_probability, state.last_action, done)
        board, earned, over = self.play(state.board, done, choices[1:])
        return Played(board, done, earned.to(torch.float32), over)

    def observation(self, state: Played, key: Tensor) -> Tensor:
        """Return the image, `[10, 10, channels]`."""
        # Numbers before stacking: the compiler does not vectorise the stacking of booleans.
        flat = torch.stack([x.to(torch.float32) for x in self.channels(state.board)], dim=-1)
        return flat.reshape(SIZE, SIZE, -1)

    def reward(self, state: Played, action: Tensor, next_state: Played, key: Tensor) -> Tensor:
        """Return what the step earned, `[]` float32."""
        return next_state.earned

    def terminal(self, state: Played, key: Tensor) -> Tensor:
        """Return whether the game is over, `[]` boolean."""
        return state.over

    def render(self, state: Played) -> Frame:
        """Return a picture of a state, a colour a channel; where several things are, the last channel is seen.

        Args:
            state: The environment's own state; `.inner` of what `envs.reset` and `envs.step` return.
        """
        canvas = Canvas((0.0, float(SIZE)), (0.0, float(SIZE)), background=INK)
        image = torch.stack(self.channels(state.board)).reshape(-1, SIZE, SIZE).cpu().numpy()
        for channel, row, column in np.argwhere(image):
            x, y = float(column), float(SIZE - 1 - row)
            canvas.rectangle(x + 0.04, y + 0.04, x + 0.96, y + 0.96, COLORS[channel])
        return canvas.frame()


def number(value: int | bool, like: Tensor) -> Tensor:
    """Return an integer or a flag as a tensor, `[]` int64 or boolean, where another one is."""
    kind = torch.bool if isinstance(value, bool) else torch.int64
    return torch.full((), value, dtype=kind, device=like.device)


# Cells lie in one row of a hundred, and numbers are small: so the compiler works on sixteen of them at once.


def places(like: Tensor) -> Tensor:
    """Return the numbers of all cells, `[100]` int32, row after row."""
    return torch.arange(SIZE * SIZE, dtype=torch.int32, device=like.device)


def cell(row: Tensor, column: Tensor) -> Tensor:
    """Return where one thing is, `[100]` boolean; nowhere for a place outside."""
    inside = (row >= 0) & (row < SIZE) & (column >= 0) & (column < SIZE)
    return places(row) == torch.where(inside, row * SIZE + column, -1).to(torch.int32)


def some(there: Tensor) -> Tensor:
    """Return whether anything is anywhere in `[100]` booleans, `[]` boolean."""
    return there.to(torch.float32).amax() > 0


def cells(rows: Tensor, columns: Tensor, there: Tensor) -> Tensor:
    """Return where any of several things are, `[100]` boolean; those outside are nowhere.

    Args:
        rows: `[N]`.
        columns: `[N]`.
        there: `[N]` which of them exist.
    """
    along = torch.arange(SIZE, device=rows.device)
    down = ((rows[:, None] == along) & there[:, None]).to(torch.float32)
    across = (columns[:, None] == along).to(torch.float32)
    return (down.T @ across > 0).flatten()


def moved(position: Tensor, action: Tensor, down: int, up: int, low: int = 0, high: int = SIZE - 1) -> Tensor:
    """Return a coordinate after an action of which one lowers it and another one raises it, within its bounds."""
    change = (action == up).to(torch.int64) - (action == down).to(torch.int64)
    return (position + change).clamp(low, high)


def counted_down(timer: Tensor) -> Tensor:
    """Return a timer that stops at 0 after a step."""
    return timer - (timer > 0).to(torch.int64)


def drawn(choice: Tensor, low: int | Tensor, high: int | Tensor) -> Tensor:
    """Return an integer from `low` to `high` - 1 by a uniform number."""
    return low + (choice * (high - low)).to(torch.int64)
