"""TMaze against a naive walk, and what can be had in it with a memory and without."""

import numpy as np
import pytest
import torch

from funcrl import envs
from funcrl.core import random, tree
from funcrl.envs.checking import check_env
from funcrl.envs.t_maze import Maze, TMaze
from tests.envs import own
from tests.envs.classic import assert_stays_on_its_device


def actions(num_steps, num_envs, seed=0):
    chance = [0.6, 0.1, 0.15, 0.15]
    return torch.from_numpy(np.random.default_rng(seed).choice(4, (num_steps, num_envs), p=chance))


@pytest.mark.parametrize("length", [1, 2, 5])
def test_nine_thousand_steps_are_those_of_a_naive_walk(length):
    env = TMaze(length=length, goal_reward=3.0, wrong_reward=-2.0, wall_reward=-0.25, max_episode_steps=20)
    taken = actions(90, 100)
    states, rows = own.rollout(env, taken)
    goal_is_left = states.inner.goal_is_left.numpy()
    columns = (rows.obs, rows.reward, rows.terminated, rows.truncated, taken)
    obs, reward, terminated, truncated, taken = (column.numpy() for column in columns)
    ends = 0
    # All lanes at once.
    cell, elapsed = np.zeros(100, int), np.zeros(100, int)
    for t in range(90):
        left, action = goal_is_left[t], taken[t]
        seen = [(cell == 0) & left, (cell == 0) & ~left, (cell > 0) & (cell < length), cell == length]
        assert (obs[t] == np.stack(seen, axis=1)).all()
        over = (cell == length) & (action >= 2)
        move = (action == 0) * 1 - (action == 1)
        after = np.where(over, cell, np.clip(cell + move, 0, length))
        paid = np.where(over, np.where((action == 2) == left, 3.0, -2.0), np.where(after == cell, -0.25, 0.0))
        cell = after
        elapsed += 1
        assert (reward[t] == paid).all()
        assert (terminated[t] == over).all()
        assert (truncated[t] == (elapsed >= 20)).all()
        ends += over.sum()
        cell[over | (elapsed >= 20)] = 0
        elapsed[over | (elapsed >= 20)] = 0
    assert ends > 100


def test_either_side_is_as_likely_and_only_the_first_cell_tells():
    env = TMaze(length=3)
    begun = torch.vmap(lambda key: envs.reset(env, key))(random.split(random.key(0), 4000))
    assert abs(float(begun.inner.goal_is_left.float().mean()) - 0.5) < 0.03
    key = random.key(1)
    for position in range(4):
        place = torch.tensor(position)
        sides = [Maze(place, torch.tensor(left), place * 0, torch.tensor(0.0)) for left in (True, False)]
        one, other = (env.observation(side, key) for side in sides)
        assert torch.equal(one, other) is (position > 0)


def test_with_a_memory_the_goal_is_found_and_without_one_it_is_chance():
    env = TMaze(length=6)
    ahead = torch.zeros(6, 2000, dtype=torch.int64)
    states, _ = own.rollout(env, ahead)
    for turn, expected in ((torch.where(states.inner.goal_is_left[0], 2, 3), 4.0), (ahead[0] + 2, 1.95)):
        _, rows = own.rollout(env, torch.cat([ahead, turn[None]]))
        assert rows.terminated[-1].all()
        assert abs(float(rows.episode_return[-1].mean()) - expected) < 0.15


def test_numbers_may_differ_between_lanes_and_it_traces():
    others = {"goal_reward": 2.0, "wrong_reward": 1.0, "wall_reward": -3.0}
    own.assert_every_number_can_differ_between_lanes(TMaze(length=2), actions(30, 30), others)
    own.assert_compiled_equals_eager(TMaze(length=3), actions(30, 20))
    assert_stays_on_its_device(TMaze(), 1)
    check_env(TMaze(length=4), num_steps=50)


def test_pictures():
    key = random.key(0)
    left = tree.replace(TMaze().initial(key), goal_is_left=torch.tensor(True))
    right = tree.replace(left, goal_is_left=torch.tensor(False))
    at_end = tree.replace(right, position=torch.tensor(10))
    own.assert_pictures(TMaze(), [left, right, at_end, tree.replace(at_end, turned=torch.tensor(2))])


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"length": 0}, ValueError),
        ({"length": 100}, ValueError),
        ({"length": 2.5}, TypeError),
        ({"goal_reward": float("nan")}, ValueError),
    ],
)
def test_what_cannot_be_is_refused(params, error):
    with pytest.raises(error, match="TMaze: "):
        TMaze(**params)
