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
    taken = actions(300, 30)
    states, rows = own.rollout(env, taken)
    ends = 0
    for lane in range(30):
        cell, elapsed = 0, 0
        for t in range(300):
            left, action = bool(states.inner.goal_is_left[t, lane]), int(taken[t, lane])
            seen = [cell == 0 and left, cell == 0 and not left, 0 < cell < length, cell == length]
            assert rows.obs[t, lane].tolist() == [float(x) for x in seen]
            over = cell == length and action >= 2
            if over:
                paid = 3.0 if (action == 2) == left else -2.0
            else:
                before = cell
                cell = min(max(cell + {0: 1, 1: -1}.get(action, 0), 0), length)
                paid = -0.25 if cell == before else 0.0
            elapsed += 1
            assert float(rows.reward[t, lane]) == paid
            assert bool(rows.terminated[t, lane]) == over
            assert bool(rows.truncated[t, lane]) == (elapsed >= 20)
            if over or elapsed >= 20:
                ends += over
                cell, elapsed = 0, 0
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
