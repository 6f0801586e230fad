"""GridNavigation against a naive robot in Python, and its layouts against what is said about them."""

import numpy as np
import pytest
import scipy.stats
import torch

from funcrl import envs
from funcrl.core import random, tree
from funcrl.envs.grid_navigation import GridNavigation, Layout
from tests.envs import own
from tests.envs.classic import assert_stays_on_its_device

KEY = random.key(0)
UP, RIGHT, DOWN, LEFT = range(4)


def layouts(env, count, seed=0):
    """Return `count` layouts: robots `[count]`, goals `[count]`, obstacles `[count, size, size]`."""
    found = torch.vmap(env.initial)(random.split(random.key(seed), count))
    return found.robot.numpy(), found.goal.numpy(), found.obstacles.numpy()


def actions(num_steps, num_envs, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(4, size=(num_steps, num_envs)))


def distances(robot, goal, obstacles):
    """Return the length of the shortest paths, by flooding all layouts at once from their robots."""
    count, size, _ = obstacles.shape
    reached = np.zeros((count, size * size), bool)
    reached[np.arange(count), robot] = True
    reached = reached.reshape(count, size, size)
    found = np.full(count, -1)
    for step in range(size * size):
        found[(found < 0) & reached.reshape(count, -1)[np.arange(count), goal]] = step
        if (found >= 0).all():
            break
        padded = np.pad(reached, ((0, 0), (1, 1), (1, 1)))
        near = padded[:, :-2, 1:-1] | padded[:, 2:, 1:-1] | padded[:, 1:-1, :-2] | padded[:, 1:-1, 2:]
        reached = (reached | near) & ~obstacles
    return found


def naive_step(row, column, obstacles, action):
    rows, columns = {UP: (-1, 0), RIGHT: (0, 1), DOWN: (1, 0), LEFT: (0, -1)}[action]
    to = (row + rows, column + columns)
    free = 0 <= to[0] < len(obstacles) and 0 <= to[1] < len(obstacles) and not obstacles[to]
    return to if free else (row, column)


def test_spaces():
    env = envs.make("GridNavigation-v0")
    assert isinstance(env, GridNavigation)
    assert env.observation_space.shape == (3, 8, 8)
    assert (env.observation_space.low == 0).all()
    assert (env.observation_space.high == 1).all()
    assert env.action_space.n == 4


@pytest.mark.parametrize(("size", "density"), [(8, 0.2), (5, 0.6), (2, 0.3)])
def test_ten_thousand_steps_are_those_of_a_naive_robot(size, density):
    env = GridNavigation(
        size=size, obstacle_density=density, step_reward=-0.25, goal_reward=3.0, max_episode_steps=23
    )
    num_steps, num_envs = 100, 100
    taken = actions(num_steps, num_envs)
    states, rows = own.rollout(env, taken)
    robots, goals, obstacles = (
        getattr(states.inner, name).numpy() for name in ("robot", "goal", "obstacles")
    )
    columns = (rows.reward, rows.terminated, rows.truncated, rows.next_obs, rows.obs)
    reward, terminated, truncated, next_obs, obs = (column.numpy() for column in columns)
    here, goal, there = (np.zeros((num_steps, num_envs, 2), int) for _ in range(3))
    here[..., 0], here[..., 1] = np.divmod(robots, size)
    goal[..., 0], goal[..., 1] = np.divmod(goals, size)
    for t, lane in np.ndindex(num_steps, num_envs):
        there[t, lane] = naive_step(*here[t, lane].tolist(), obstacles[t, lane], int(taken[t, lane]))
    times, lanes = np.indices((num_steps, num_envs))
    images = np.zeros((num_steps, num_envs, 3, size, size))
    images[times, lanes, 0, there[..., 0], there[..., 1]] = 1
    images[times, lanes, 1, goal[..., 0], goal[..., 1]] = 1
    images[:, :, 2] = obstacles
    assert (next_obs == images).all()
    arrived = (there == goal).all(axis=-1)
    assert (reward == np.where(arrived, np.float32(3.0), np.float32(-0.25))).all()
    assert (terminated == arrived).all()
    over, elapsed = np.zeros((num_steps, num_envs), bool), np.zeros(num_envs, int)
    for t in range(num_steps):
        elapsed += 1
        assert (truncated[t] == (elapsed == 23)).all()
        over[t] = arrived[t] | (elapsed == 23)
        elapsed[over[t]] = 0
    on = ~over[:-1]
    assert (here[1:] == there[:-1])[on].all()
    assert (goals[1:] == goals[:-1])[on].all()
    assert (obstacles[1:] == obstacles[:-1])[on].all()
    assert (obs[1:] == images[:-1])[on].all()
    bumps, ends = (there == here).all(axis=-1).sum(), over.sum()
    assert bumps > 1000
    assert ends > 100


@pytest.mark.parametrize(
    ("size", "density"), [(8, 0.2), (8, 0.5), (8, 1.0), (2, 1.0), (3, 0.9), (15, 0.4), (15, 1.0)]
)
def test_every_layout_can_be_solved_within_the_documented_number_of_moves(size, density):
    robot, goal, obstacles = layouts(GridNavigation(size=size, obstacle_density=density), 3000)
    moves = distances(robot, goal, obstacles)
    assert moves.min() == 1
    assert moves.max() <= 4 * (size - 1)
    for places in (robot, goal):
        assert not obstacles.reshape(3000, -1)[np.arange(3000), places].any()


def test_some_layouts_need_a_detour_and_crowded_ones_more_often():
    shares = []
    for density in (0.0, 0.2, 0.5):
        robot, goal, obstacles = layouts(GridNavigation(obstacle_density=density), 3000)
        direct = abs(robot // 8 - goal // 8) + abs(robot % 8 - goal % 8)
        shares.append((distances(robot, goal, obstacles) > direct).mean())
    assert shares[0] == 0
    assert 0.04 < shares[1] < 0.1
    assert shares[2] > 0.2


def test_with_full_density_only_two_legs_with_a_corner_each_are_free():
    robot, goal, obstacles = layouts(GridNavigation(obstacle_density=1.0), 3000)
    free = 64 - obstacles.sum(axis=(1, 2))
    moves = distances(robot, goal, obstacles)
    assert (free >= moves + 1).all()
    assert free.max() <= 4 * 7 + 1
    # Between two random cells of a row lie 21/8 steps on average, so a leg has 21/4 and two have 21/2.
    assert 21 / 4 < free.mean() - 1 < 21 / 2
    straight = 0
    for lane in range(300):
        cells = {divmod(int(cell), 8) for cell in np.flatnonzero(~obstacles[lane].reshape(-1))}
        here, there = divmod(robot[lane], 8), divmod(goal[lane], 8)
        assert any(
            cells == set(leg(here, between, first) + leg(between, there, second))
            for between in cells
            for first in (True, False)
            for second in (True, False)
        )
        straight += {(here[0], there[1]), (there[0], here[1])} <= cells
    assert straight < 150


def leg(begin, end, along_row_first):
    """Return the cells from one to the other, one by one."""
    (row, column), cells = begin, [begin]
    for axis in ("column", "row") if along_row_first else ("row", "column"):
        while (column if axis == "column" else row) != (end[1] if axis == "column" else end[0]):
            if axis == "column":
                column += int(np.sign(end[1] - column))
            else:
                row += int(np.sign(end[0] - row))
            cells.append((row, column))
    return cells


def test_robot_and_goal_are_two_different_cells_and_every_pair_is_equally_likely():
    robot, goal, _ = layouts(GridNavigation(size=3), 40_000)
    counts = np.zeros((9, 9))
    np.add.at(counts, (robot, goal), 1)
    assert (np.diag(counts) == 0).all()
    assert scipy.stats.chisquare(counts[~np.eye(9, dtype=bool)]).pvalue > 0.005


def test_the_way_goes_through_every_cell_and_in_either_order():
    """With full density and 2 · 2 cells: free are the corners of both legs, each as likely as said."""
    robot, goal, obstacles = layouts(GridNavigation(size=2, obstacle_density=1.0), 20_000)
    free = 4 - obstacles.sum(axis=(1, 2))
    diagonal = robot + goal == 3
    # Neighbours: the cell between is one of them (2 free cells), or a leg goes along the diagonal, by
    # an end (3) or by the last corner (4). Across the diagonal there is always one corner on the way.
    shares = [(free[~diagonal] == count).mean() for count in (2, 3, 4)]
    assert shares == pytest.approx([1 / 2, 1 / 4, 1 / 4], abs=0.02)
    assert (free[diagonal] == 3).all()
    corner = robot[diagonal] // 2 * 2 + goal[diagonal] % 2
    at_corner = ~obstacles[diagonal].reshape(-1, 4)[np.arange(diagonal.sum()), corner]
    assert at_corner.mean() == pytest.approx(1 / 2, abs=0.02)


def test_the_order_of_one_leg_says_nothing_about_the_order_of_the_other():
    """Stairs from corner to corner of 3 · 3 cells: both legs turn alike only by way of the middle."""
    robot, goal, obstacles = layouts(GridNavigation(size=3, obstacle_density=1.0), 150_000)
    free = ~obstacles[(robot == 0) & (goal == 8)].reshape(-1, 9)
    for way in ([0, 1, 4, 5, 8], [0, 3, 4, 7, 8]):
        share = (free == np.isin(np.arange(9), way)).all(axis=1).mean()
        assert share == pytest.approx(1 / 9 / 4, abs=0.012)


@pytest.mark.parametrize("density", [0.2, 0.7])
def test_off_the_free_path_the_density_is_the_stated_one(density):
    *_, walls = layouts(GridNavigation(obstacle_density=1.0), 4000)
    *_, obstacles = layouts(GridNavigation(obstacle_density=density), 4000)
    assert not obstacles[~walls].any()
    assert obstacles[walls].mean() == pytest.approx(density, abs=0.005)
    shares = obstacles.sum(axis=0) / walls.sum(axis=0)
    assert abs(shares - density).max() < 0.05
    assert not layouts(GridNavigation(obstacle_density=0.0), 100)[2].any()


def test_different_keys_give_different_layouts_and_the_same_key_the_same():
    env = GridNavigation()
    robot, goal, obstacles = layouts(env, 2000)
    rows = np.concatenate([robot[:, None], goal[:, None], obstacles.reshape(2000, -1)], axis=1)
    assert len(np.unique(rows, axis=0)) == 2000
    assert (layouts(env, 2000)[2] == obstacles).all()


@pytest.mark.parametrize("density", [0.2, 1.0])
def test_the_shortest_path_is_as_long_as_flooding_says_and_leads_to_the_goal(density):
    env = GridNavigation(obstacle_density=density)
    states = torch.vmap(env.initial)(random.split(KEY, 300))
    moves = distances(states.robot.numpy(), states.goal.numpy(), states.obstacles.numpy())
    for lane in range(300):
        state = tree.index(states, lane)
        path = env.shortest_path(state)
        assert len(path) == moves[lane]
        place = divmod(int(state.robot), 8)
        for action in path:
            following = naive_step(*place, state.obstacles.numpy(), action)
            assert following != place
            place = following
        assert place == divmod(int(state.goal), 8)


def test_the_shortest_path_earns_the_documented_return():
    env = GridNavigation(obstacle_density=0.6)
    for seed in range(10):
        state = envs.reset(env, random.key(seed))
        path = env.shortest_path(state.inner)
        for action in path:
            state, row = envs.step(env, state, torch.tensor(action), KEY)
        assert bool(row.terminated)
        assert float(row.episode_return) == pytest.approx(1.0 - 0.01 * (len(path) - 1))


def test_there_is_no_path_through_walls_and_none_is_needed_at_the_goal():
    env = GridNavigation(size=2)
    wall = torch.tensor([[False, True], [True, False]])
    with pytest.raises(ValueError, match="shortest_path: state must have a path"):
        env.shortest_path(Layout(torch.tensor(0), torch.tensor(3), wall))
    assert env.shortest_path(Layout(torch.tensor(3), torch.tensor(3), wall)) == []


def test_the_time_limit_follows_the_size():
    assert GridNavigation().max_episode_steps == 32
    assert GridNavigation(size=20).max_episode_steps == 80
    assert GridNavigation(max_episode_steps=7).max_episode_steps == 7
    assert GridNavigation(max_episode_steps=None).max_episode_steps is None


def test_every_number_can_differ_between_lanes():
    others = {"obstacle_density": 0.8, "step_reward": -0.5, "goal_reward": 3.0}
    own.assert_every_number_can_differ_between_lanes(GridNavigation(size=4), actions(20, 30), others)


def test_compiled_equals_eager_and_stays_on_the_device():
    own.assert_compiled_equals_eager(GridNavigation(size=4), actions(20, 50))
    assert_stays_on_its_device(GridNavigation(), UP)


def test_rewards_that_are_written_as_integers_stay_numbers():
    env = GridNavigation(step_reward=-1, goal_reward=1)
    state = env.initial(KEY)
    assert env.reward(state, torch.tensor(0), state, KEY).dtype == torch.float32


def test_the_picture_shows_robot_goal_and_obstacles_where_they_are():
    obstacles = torch.zeros(4, 4, dtype=torch.bool)
    obstacles[1, 2] = True
    env = GridNavigation(size=4)
    frame = env.render(Layout(torch.tensor(3), torch.tensor(8), obstacles)).astype(int)
    cell = frame.shape[0] / 4.5
    at = lambda row, column: frame[int((row + 0.75) * cell), int((column + 0.75) * cell)]
    blue, green = at(0, 3), at(2, 0)
    assert blue.argmax() == 2
    assert green.argmax() == 1
    assert at(1, 2).max() < 100
    assert at(3, 3).min() == 255
    keys = random.split(KEY, 4)
    own.assert_pictures(env, [env.initial(key) for key in keys])


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"obstacle_density": 1.5}, ValueError),
        ({"obstacle_density": -0.1}, ValueError),
        ({"step_reward": float("nan")}, ValueError),
        ({"size": 1}, ValueError),
        ({"size": 300}, ValueError),
        ({"size": 8.0}, TypeError),
        ({"max_episode_steps": -1}, ValueError),
    ],
)
def test_impossible_parameters_are_refused(params, error):
    with pytest.raises(error, match="GridNavigation: "):
        GridNavigation(**params)
