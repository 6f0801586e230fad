"""GridNavigation-v0: a robot finds its goal among obstacles, seen from above as an image.

One of funcrl's own. Every episode has a layout of its own, drawn from its key, so that training and
testing on different keys is training and testing on different layouts.
"""

from __future__ import annotations

import collections
import functools

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.envs import tabular
from funcrl.envs.drawing import INK, Canvas, Frame
from funcrl.envs.scenes import figures

_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""change of row and column by action: up, right, down, left"""
_TIME_LIMIT_OF_THE_SIZE = 0


@functools.cache
def _images(size: int) -> spaces.Box:
    return spaces.Box(0.0, 1.0, (3, size, size), np.float32)


@tree.struct
class Layout:
    """Where everything is; cell number row · size + column, from the top left."""

    robot: Tensor
    """`[]` int64, number of its cell"""
    goal: Tensor
    """`[]` int64, number of its cell"""
    obstacles: Tensor
    """`[size, size]` boolean"""


@tree.struct
class GridNavigation:
    """The environment; its numbers may be tensors, to `vmap` the dynamics over them.

    Observation: `[3, size, size]` float32 of zeros and ones, the channels robot, goal, obstacles.
    Actions: 0 up, 1 right, 2 down, 3 left, by one cell; a move into an obstacle or off the grid
    leaves the robot where it is. Every move pays `step_reward`; the one that reaches the goal pays
    `goal_reward` in its place and terminates the episode.

    Layouts: robot and goal are two different cells, every pair equally likely (to within size² /
    2²⁴, the grain of a random number). Every other cell is
    an obstacle with probability `obstacle_density`, except that a path is kept free: from the robot
    to a cell drawn uniformly and on to the goal, each half along a row and a column in either
    order. So every layout can be solved by construction, at a fixed cost and without a search,
    while the shortest path may still have to make a detour. Different keys give different layouts.

    Optimal return: with d ≥ 1 moves on the shortest path (`shortest_path` finds it; it has at most
    4 · (size - 1) moves), undiscounted and for step_reward ≤ 0,

        goal_reward + step_reward · (d - 1)

    and γᵈ⁻¹ · goal_reward + step_reward · (1 - γᵈ⁻¹) / (1 - γ) with discount γ.
    """

    render_fps = 4
    """pictures per second of a film"""

    obstacle_density: float = 0.2
    """probability of an obstacle in a cell off the path that is kept free"""
    step_reward: float = -0.01
    """for a move that does not reach the goal"""
    goal_reward: float = 1.0
    """for the move that reaches the goal"""
    size: int = tree.static(default=8)
    """rows and columns of the grid, 2 to 256"""
    max_episode_steps: int | None = tree.static(default=_TIME_LIMIT_OF_THE_SIZE)
    """time limit; None for none, 0 becomes 4 · size: enough for the shortest path of every layout"""

    def __post_init__(self) -> None:
        checks.settings(self, "GridNavigation", unit=("obstacle_density",))
        for name in ("step_reward", "goal_reward"):
            checks.number("GridNavigation", name, getattr(self, name), -np.inf, np.inf)
        checks.integer("GridNavigation", "size", self.size, 2)
        checks.require(self.size <= 256, "GridNavigation", "size", "be at most 256", self.size)
        if self.max_episode_steps is not None:
            checks.integer("GridNavigation", "max_episode_steps", self.max_episode_steps, 0)
            if self.max_episode_steps == _TIME_LIMIT_OF_THE_SIZE:
                object.__setattr__(self, "max_episode_steps", 4 * self.size)

    @property
    def observation_space(self) -> spaces.Box:
        """Images of zeros and ones, `[3, size, size]`."""
        return _images(self.size)

    @property
    def action_space(self) -> spaces.Discrete:
        """0 goes up, 1 right, 2 down, 3 left."""
        return tabular.discrete(4)

    def initial(self, key: Tensor) -> Layout:
        """Return a new layout."""
        num_cells = self.size**2
        # One draw for everything: random numbers are most of what this costs to compile.
        unit = random.uniform(key, (5 + num_cells,))
        robot = (unit[0] * num_cells).to(torch.int64)
        # Any cell but the robot's: that many cells further on, around the end.
        goal = (robot + 1 + (unit[1] * (num_cells - 1)).to(torch.int64)) % num_cells
        between = (unit[2] * num_cells).to(torch.int64)
        free = self._leg(robot, between, unit[3] < 0.5) | self._leg(between, goal, unit[4] < 0.5)
        drawn = unit[5:].reshape(self.size, self.size) < self.obstacle_density
        return Layout(robot=robot, goal=goal, obstacles=drawn & ~free)

    def _leg(self, begin: Tensor, end: Tensor, along_row_first: Tensor) -> Tensor:
        """Return the cells of the way between two cells with one corner, `[size, size]` boolean."""
        cells = torch.arange(self.size, device=begin.device)
        row, column = cells[:, None], cells[None, :]
        rows, columns = (begin // self.size, end // self.size), (begin % self.size, end % self.size)
        between_rows = (row - rows[0]) * (row - rows[1]) <= 0
        between_columns = (column - columns[0]) * (column - columns[1]) <= 0
        walked_row = torch.where(along_row_first, rows[0], rows[1])
        walked_column = torch.where(along_row_first, columns[1], columns[0])
        return ((row == walked_row) & between_columns) | ((column == walked_column) & between_rows)

    def transition(self, state: Layout, action: Tensor, key: Tensor) -> Layout:
        """Return the layout with the robot moved; deterministic, the key is not used."""
        down = (action == 2).to(torch.int64) - (action == 0).to(torch.int64)
        right = (action == 1).to(torch.int64) - (action == 3).to(torch.int64)
        row = (state.robot // self.size + down).clamp(0, self.size - 1)
        column = (state.robot % self.size + right).clamp(0, self.size - 1)
        blocked = state.obstacles[row, column]
        return tree.replace(state, robot=torch.where(blocked, state.robot, row * self.size + column))

    def observation(self, state: Layout, key: Tensor) -> Tensor:
        """Return the image, `[3, size, size]`: robot, goal, obstacles."""
        cells = torch.arange(self.size**2, device=state.robot.device)
        channels = [cells == state.robot, cells == state.goal, state.obstacles.reshape(-1)]
        # Numbers before stacking: the compiler does not vectorise the stacking of booleans.
        image = torch.stack([channel.to(torch.float32) for channel in channels])
        return image.reshape(3, self.size, self.size)

    def reward(self, state: Layout, action: Tensor, next_state: Layout, key: Tensor) -> Tensor:
        """Return the goal's reward where the move reached it and a step's elsewhere, `[]` float32."""
        paid = torch.where(self.terminal(next_state, key), self.goal_reward, self.step_reward)
        return paid.to(torch.float32)

    def terminal(self, state: Layout, key: Tensor) -> Tensor:
        """Return whether the robot is at its goal, `[]` boolean."""
        return state.robot == state.goal

    def shortest_path(self, state: Layout) -> list[int]:
        """Return the actions of a shortest path from robot to goal, by breadth-first search.

        Plain Python on the host, for one state: what a learner can at best achieve.

        Args:
            state: The environment's own state; `.inner` of what `envs.reset` and `envs.step` return.

        Raises:
            ValueError: When there is no path, which happens only for layouts made by hand.

        >>> env = GridNavigation(obstacle_density=0.0)
        >>> env.shortest_path(Layout(torch.tensor(0), torch.tensor(2), torch.zeros(8, 8) > 0))
        [1, 1]
        """
        obstacles = state.obstacles.cpu().numpy()
        begin, goal = divmod(int(state.robot), self.size), divmod(int(state.goal), self.size)
        paths: dict[tuple[int, int], list[int]] = {begin: []}
        queue = collections.deque(paths)
        while queue and goal not in paths:
            row, column = cell = queue.popleft()
            for action, (down, right) in enumerate(_MOVES):
                near = (row + down, column + right)
                inside = 0 <= near[0] < self.size and 0 <= near[1] < self.size
                if inside and not obstacles[near] and near not in paths:
                    paths[near] = [*paths[cell], action]
                    queue.append(near)
        checks.require(goal in paths, "shortest_path", "state", "have a path from robot to goal", state)
        return paths[goal]

    def render(self, state: Layout) -> Frame:
        """Return a picture of a state: the robot in blue, its goal a green flag, obstacles dark.

        Args:
            state: The environment's own state; `.inner` of what `envs.reset` and `envs.step` return.
        """
        size, wall = self.size, 0.25
        canvas = Canvas((-wall, size + wall), (-wall, size + wall), background=INK)
        for row in range(size):
            for column in range(size):
                x, y = column, size - 1 - row
                canvas.rectangle(x, y, x + 1, y + 1, "#dddddd")
                taken = bool(state.obstacles[row, column])
                canvas.rectangle(x + 0.02, y + 0.02, x + 0.98, y + 0.98, "#4a4f57" if taken else "white")
        row, column = divmod(int(state.goal), self.size)
        x, y = column, size - 1 - row
        canvas.rectangle(x + 0.02, y + 0.02, x + 0.98, y + 0.98, "#dcefe0")
        figures.flag(canvas, (x, y))
        row, column = divmod(int(state.robot), size)
        figures.agent(canvas, (column + 0.5, size - row - 0.5))
        return canvas.frame()
