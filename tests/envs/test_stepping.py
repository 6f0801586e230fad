"""Time limit, autoreset and episode statistics."""

import pytest
import torch

from funcrl import envs
from funcrl.core import random
from tests.probes import Counter

KEY = random.key(0)


def run(env, num_steps):
    state, rows = envs.reset(env, KEY), []
    for key in random.split(random.key(1), num_steps):
        state, row = envs.step(env, state, torch.tensor(0), key)
        rows.append(row)
    return state, rows


def test_termination_keeps_the_true_observation_and_begins_anew():
    state, rows = run(Counter(end=3, max_episode_steps=10), 7)
    assert [float(row.obs) for row in rows] == [0, 1, 2, 0, 1, 2, 0]
    assert [float(row.next_obs) for row in rows] == [1, 2, 3, 1, 2, 3, 1]
    assert [bool(row.terminated) for row in rows] == [False, False, True, False, False, True, False]
    assert not any(bool(row.truncated) for row in rows)
    assert [int(row.episode_length) for row in rows] == [1, 2, 3, 1, 2, 3, 1]
    assert [float(row.episode_return) for row in rows] == [1, 2, 3, 1, 2, 3, 1]
    assert float(state.obs) == 1


def test_the_time_limit_truncates_and_does_not_terminate():
    _, rows = run(Counter(end=100, max_episode_steps=2), 4)
    assert [bool(row.truncated) for row in rows] == [False, True, False, True]
    assert not any(bool(row.terminated) for row in rows)
    assert [float(row.next_obs) for row in rows] == [1, 2, 1, 2]


def test_both_may_happen_at_once_as_in_gymnasium():
    _, rows = run(Counter(end=2, max_episode_steps=2), 2)
    assert bool(rows[1].terminated)
    assert bool(rows[1].truncated)


def test_without_a_limit_nothing_is_truncated():
    _, rows = run(Counter(end=100, max_episode_steps=None), 50)
    assert not any(bool(row.truncated) for row in rows)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_step_vmaps(num_envs):
    env = envs.make("CartPole-v1")
    states = torch.vmap(lambda k: envs.reset(env, k))(random.split(KEY, num_envs))
    keys = random.split(random.key(1), num_envs)
    actions = torch.zeros(num_envs, dtype=torch.int64)
    together, _ = torch.vmap(lambda s, a, k: envs.step(env, s, a, k))(states, actions, keys)
    for i, key in enumerate(random.split(KEY, num_envs)):
        one, _ = envs.step(env, envs.reset(env, key), actions[i], keys[i])
        assert torch.equal(one.obs, together.obs[i])
