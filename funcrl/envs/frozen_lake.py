"""FrozenLake-v1: cross a frozen lake without falling into a hole, on ice that lets one slip.

Maps, rewards and slipping are those of Gymnasium's `FrozenLake-v1` (4 × 4) and `FrozenLake8x8-v1`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.core.checks import require
from funcrl.envs import tabular
from funcrl.envs.drawing import Frame
from funcrl.envs.scenes import maps
from funcrl.envs.tabular import Outcomes, Place

MAPS = {
    "4x4": ("SFFF", "FHFH", "FFFH", "HFFG"),
    "8x8": (
        "SFFFFFFF",
        "FFFFFFFF",
        "FFFHFFFF",
        "FFFFFHFF",
        "FFFHFFFF",
        "FHHFFFHF",
        "FHFFHFHF",
        "FFFHFFFG",
    ),
}
"""Gymnasium's maps: S start, F frozen, H hole, G goal"""

_TILES = "SFHG"
_HOLE, _GOAL = 2, 3
_TIME_LIMIT_OF_THE_MAP = 0
_ATTEMPTS = 10_000


def _has_path(desc: Sequence[str]) -> bool:
    """Whether the upper left corner is connected with the lower right one without a hole."""
    size = len(desc)
    reached, frontier = {(0, 0)}, [(0, 0)]
    while frontier:
        row, column = frontier.pop()
        for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            inside = 0 <= cell[0] < size and 0 <= cell[1] < size
            if inside and cell not in reached and desc[cell[0]][cell[1]] != "H":
                reached.add(cell)
                frontier.append(cell)
    return (size - 1, size - 1) in reached


def random_map(size: int = 8, frozen_probability: float = 0.8, seed: int = 0) -> tuple[str, ...]:
    """Return a random square map on which the goal can be reached: a `desc` for `FrozenLake`.

    Maps are drawn until one has a path. The same arguments give the same map, and the map that
    Gymnasium's `generate_random_map` gives for this seed.

    Args:
        size: Number of rows and of columns, at least 2.
        frozen_probability: Of a cell that is neither start (upper left) nor goal (lower right).
        seed: Not negative.

    Returns:
        `size` strings of `size` letters.

    Raises:
        ValueError: When an argument is out of range, or no map with a path was found.

    >>> random_map(3, 0.6, seed=1)
    ('SHF', 'FHF', 'FFG')
    """
    checks.integer("random_map", "size", size, 2)
    checks.number("random_map", "frozen_probability", frozen_probability, 0, 1)
    checks.integer("random_map", "seed", seed, 0)
    generator = np.random.default_rng(seed)
    for _ in range(_ATTEMPTS):
        letters = np.where(generator.random((size, size)) < frozen_probability, "F", "H")
        letters[0, 0], letters[-1, -1] = "S", "G"
        desc = tuple("".join(row) for row in letters)
        if _has_path(desc):
            return desc
    raise ValueError(
        f"random_map: frozen_probability must be so large that one map in {_ATTEMPTS} has a path, "
        f"got {frozen_probability!r} with size={size}. Write frozen_probability=0.8."
    )


def _check_map(desc: tuple[str, ...]) -> None:
    hold = "be a tuple of strings of one length"
    strings = isinstance(desc, tuple) and len(desc) > 0 and all(isinstance(row, str) for row in desc)
    require(strings, "FrozenLake", "desc", hold, desc, "Write desc=('SF', 'FG').")
    require(len(desc[0]) > 0 and len({len(row) for row in desc}) == 1, "FrozenLake", "desc", hold, desc)
    letters = "".join(desc)
    unknown = "".join(sorted(set(letters) - set(_TILES)))
    require(not unknown, "FrozenLake", "desc", "hold only the letters S, F, H and G", unknown)
    for letter, meaning in (("S", "start"), ("G", "goal")):
        require(letter in letters, "FrozenLake", "desc", f"hold a {letter} ({meaning}) at least once", desc)


@tree.struct
class FrozenLake:
    """The environment; its numbers may be tensors, to `vmap` the dynamics over them.

    Position = number of columns · row + column, row 0 at the top. The observation is the position.
    Actions: 0 left, 1 down, 2 right, 3 up; the border of the map holds the agent back. An episode
    ends in a hole or at the goal, and begins on one of the S, each equally likely.
    """

    render_fps = 4
    """pictures per second of a film"""

    success_rate: float = 1 / 3
    """probability of moving as intended on slippery ice; the rest is shared by the two sides"""
    goal_reward: float = 1.0
    """for reaching the goal"""
    hole_reward: float = 0.0
    """for falling into a hole"""
    frozen_reward: float = 0.0
    """for any other step"""
    map_name: str | None = tree.static(default="4x4")
    """one of `MAPS`; not looked at where there is a `desc`"""
    desc: tuple[str, ...] | None = tree.static(default=None)
    """a map of one's own, one string a row; see `random_map`"""
    is_slippery: bool = tree.static(default=True)
    """whether a step may go to the left or right of where it should"""
    max_episode_steps: int | None = tree.static(default=_TIME_LIMIT_OF_THE_MAP)
    """time limit; None for none, 0 becomes, when it is made, that of the map: 200 for "8x8", else 100"""

    def __post_init__(self) -> None:
        checks.settings(self, "FrozenLake", unit=("success_rate",), flags=("is_slippery",))
        for name in ("goal_reward", "hole_reward", "frozen_reward"):
            checks.number("FrozenLake", name, getattr(self, name), -math.inf, math.inf)
        if isinstance(self.desc, list):  # as Gymnasium's own maps are, and all that has been JSON
            object.__setattr__(self, "desc", tuple(self.desc))
        if self.desc is not None:
            _check_map(self.desc)
        else:
            instead = "Write desc=random_map(8, seed=0)." if self.map_name is None else ""
            known = self.map_name in MAPS
            require(known, "FrozenLake", "map_name", "be one of '4x4', '8x8'", self.map_name, instead)
        if self.max_episode_steps is not None:
            checks.integer("FrozenLake", "max_episode_steps", self.max_episode_steps, 0)
            if self.max_episode_steps == _TIME_LIMIT_OF_THE_MAP:
                limit = 200 if self.desc is None and self.map_name == "8x8" else 100
                object.__setattr__(self, "max_episode_steps", limit)

    @property
    def map(self) -> tuple[str, ...]:
        """The map in use, one string a row."""
        return MAPS[str(self.map_name)] if self.desc is None else self.desc

    @property
    def arrows(self) -> str:
        """Where each action points."""
        return "←↓→↑"

    @property
    def num_states(self) -> int:
        """Number of cells."""
        return len(self.map) * len(self.map[0])

    @property
    def observation_space(self) -> spaces.Discrete:
        """The position."""
        return tabular.discrete(self.num_states)

    @property
    def action_space(self) -> spaces.Discrete:
        """0 left, 1 down, 2 right, 3 up."""
        return tabular.discrete(4)

    @property
    def _starts(self) -> list[int]:
        return [cell for cell, letter in enumerate("".join(self.map)) if letter == "S"]

    def initial_distribution(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the probability of each position at the beginning, `[S]`."""
        letters = torch.tensor(
            [letter == "S" for letter in "".join(self.map)], dtype=torch.bool, device="cpu"
        )
        return letters.to(dtype) / len(self._starts)

    def initial(self, key: Tensor) -> Place:
        """Return one of the starts; with a single one the key is not used."""
        starts = self._starts
        if len(starts) == 1:
            return tabular.begin(torch.full((), starts[0], dtype=torch.int64, device=key.device))
        choice = random.randint(key, (), 0, len(starts))
        return tabular.begin(torch.tensor(starts, dtype=torch.int64, device=key.device)[choice])

    def outcomes(self, position: Tensor, action: Tensor, dtype: torch.dtype = torch.float32) -> Outcomes:
        """Return what may follow: one outcome, or three where it is slippery.

        Holes and the goal keep the agent and pay nothing more.

        Args:
            position: `[]` int64.
            action: `[]` integer.
            dtype: Of probabilities and rewards.
        """
        rows, columns = len(self.map), len(self.map[0])
        tiles = torch.tensor(
            [_TILES.index(x) for x in "".join(self.map)], dtype=torch.int64, device=position.device
        )
        over = tiles[position] >= _HOLE
        heading = tabular.headings(action, self.is_slippery)
        down = (heading == 1).to(torch.int64) - (heading == 3).to(torch.int64)
        right = (heading == 2).to(torch.int64) - (heading == 0).to(torch.int64)
        row = (position // columns + down).clamp(0, rows - 1)
        column = (position % columns + right).clamp(0, columns - 1)
        landing = torch.where(over, position, row * columns + column)
        tile = tiles[landing]
        hole, goal, frozen = (
            tabular.number(x, dtype, position.device)
            for x in (self.hole_reward, self.goal_reward, self.frozen_reward)
        )
        reward = torch.where(tile == _HOLE, hole, frozen)
        reward = torch.where(tile == _GOAL, goal, reward)
        return Outcomes(
            probability=self._probability(dtype, position.device),
            position=landing,
            reward=torch.where(over, 0.0, reward),
            terminated=tile >= _HOLE,
        )

    def _probability(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        if not self.is_slippery:
            return torch.ones(1, dtype=dtype, device=device)
        intended = torch.arange(3, device=device) == 1
        aside = tabular.number((1 - self.success_rate) / 2, dtype, device)
        return torch.where(intended, tabular.number(self.success_rate, dtype, device), aside)

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
        """Return whether the agent is in a hole or at the goal, `[]` boolean."""
        return state.terminated

    def render(self, state: Place) -> Frame:
        """Return a picture of one state, `[H, W, 3]`: the ice, its holes, and the flag at the goal."""
        return maps.picture(self.map, int(state.position), maps.ICE)
