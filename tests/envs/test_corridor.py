"""Corridor against its closed forms and against a naive walk."""

import numpy as np
import pytest
import torch

from funcrl import envs
from funcrl.core import random
from funcrl.envs.checking import check_env
from funcrl.envs.corridor import Corridor
from tests.envs import own, tabular_parity
from tests.envs.classic import assert_stays_on_its_device

KEY = random.key(0)


def actions(num_steps, num_envs, right=0.5, seed=0):
    return torch.from_numpy(
        (np.random.default_rng(seed).random((num_steps, num_envs)) < right).astype("int64")
    )


def test_spaces():
    env = envs.make("Corridor-v0")
    assert isinstance(env, Corridor)
    assert env.observation_space.shape == (1,)
    assert env.action_space.n == 2
    assert env.num_states == 10
    assert env.max_episode_steps == 100


@pytest.mark.parametrize(("slip", "length"), [(0.0, 10), (1.0, 10), (0.0, 2), (0.0, 3)])
def test_twelve_thousand_steps_are_those_of_a_naive_walk(slip, length):
    env = Corridor(slip=slip, length=length, step_reward=-0.3, goal_reward=2.0, max_episode_steps=17)
    taken = actions(100, 120, right=0.3 if slip else 0.7)
    states, rows = own.rollout(env, taken)
    position, obs, next_obs = (x.numpy() for x in (states.inner.position, rows.obs, rows.next_obs))
    reward, returns = rows.reward.numpy(), rows.episode_return.numpy()
    terminated, truncated = rows.terminated.numpy(), rows.truncated.numpy()
    terminations = 0
    # All lanes at once.
    cell, elapsed, total = np.zeros(120, int), np.zeros(120, int), np.zeros(120)
    for t in range(100):
        assert (position[t] == cell).all()
        assert (obs[t, :, 0] == np.float32(cell / (length - 1))).all()
        goes_right = taken[t].numpy() == (0 if slip else 1)
        cell = np.where(goes_right, cell + 1, np.maximum(cell - 1, 0))
        elapsed += 1
        there = cell == length - 1
        total += np.where(there, 2.0, -0.3)
        assert (reward[t] == np.float32(np.where(there, 2.0, -0.3))).all()
        assert (terminated[t] == there).all()
        assert (truncated[t] == (elapsed >= 17)).all()
        assert (next_obs[t, :, 0] == np.float32(cell / (length - 1))).all()
        assert (abs(returns[t] - total) < 1e-5).all()
        terminations += there.sum()
        for column in (cell, elapsed, total):
            column[there | truncated[t]] = 0
    assert terminations > 100


def test_slips_have_the_stated_frequency():
    tabular_parity.assert_draws_have_the_stated_frequencies(Corridor(slip=0.3))


def test_every_episode_begins_in_cell_0():
    tabular_parity.assert_beginnings_have_the_stated_frequencies(Corridor())


def test_the_table_holds_both_moves_and_the_goal_follows_itself():
    table = tabular_parity.table_of(Corridor(slip=0.25, length=4, step_reward=-1.0, goal_reward=5.0))
    assert table[0, 0] == {(0, -1.0, False): 0.75, (1, -1.0, False): 0.25}
    assert table[0, 1] == {(1, -1.0, False): 0.75, (0, -1.0, False): 0.25}
    assert table[2, 1] == {(3, 5.0, True): 0.75, (1, -1.0, False): 0.25}
    assert table[3, 0] == table[3, 1] == {(3, 0.0, True): 1.0}


def optimal_value(env, gamma):
    """Value of cell 0 by value iteration over the table of outcomes, in float64, and whether right is best."""
    positions, chosen = tabular_parity.pairs(env)
    table = torch.vmap(env.outcomes)(positions, chosen)
    values = torch.zeros(env.num_states, dtype=torch.float64)
    for _ in range(3000):
        following = torch.where(table.terminated, 0.0, gamma * values[table.position])
        returns = (table.probability * (table.reward + following)).sum(dim=1).reshape(-1, 2)
        before, values = values, returns.amax(dim=1)
        if torch.equal(values, before):  # all further ones are the same
            break
    return float(values[0]), bool((returns.argmax(dim=1)[:-1] == 1).all())


@pytest.mark.parametrize("gamma", [0.9, 0.99])
@pytest.mark.parametrize("length", [2, 5, 10])
def test_the_documented_discounted_return_is_optimal(length, gamma):
    steps = length - 2
    expected = 1.0 * gamma**steps - 0.1 * (1 - gamma**steps) / (1 - gamma)
    value, right = optimal_value(Corridor(length=length), gamma)
    assert value == pytest.approx(expected, abs=1e-6)
    assert right


@pytest.mark.parametrize("slip", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("length", [2, 5, 10])
def test_the_documented_return_on_slippery_ground_is_optimal(length, slip):
    n, rho = length - 1, slip / (1 - slip)
    steps = (n - rho * (1 - rho**n) / (1 - rho)) / (1 - 2 * slip)
    value, right = optimal_value(Corridor(length=length, slip=slip), 1.0)
    assert value == pytest.approx(1.0 - 0.1 * (steps - 1), abs=1e-4)
    assert right


def test_going_right_earns_the_documented_return():
    _, rows = own.rollout(Corridor(), torch.ones(9, 3, dtype=torch.int64))
    assert rows.terminated[-1].all()
    assert not rows.terminated[:-1].any()
    assert rows.episode_return[-1].tolist() == pytest.approx([0.2] * 3)


def test_every_number_can_differ_between_lanes():
    others = {"step_reward": -0.5, "goal_reward": 3.0, "slip": 0.6}
    own.assert_every_number_can_differ_between_lanes(Corridor(length=4), actions(30, 30), others)


def test_compiled_equals_eager_and_stays_on_the_device():
    own.assert_compiled_equals_eager(Corridor(slip=0.2), actions(30, 50, right=0.8))
    assert_stays_on_its_device(Corridor(), 1)


def test_it_is_what_an_environment_must_be():
    check_env(Corridor(slip=0.2), num_steps=50)


def test_rewards_that_are_written_as_integers_stay_numbers():
    env = Corridor(step_reward=-1, goal_reward=1, slip=0)
    _, rows = own.rollout(env, actions(5, 4))
    assert rows.reward.dtype == torch.float32
    assert env.transition(env.initial(KEY), torch.tensor(1), KEY).reward.dtype == torch.float32


def test_pictures():
    env = Corridor()
    states = [envs.reset(env, KEY).inner]
    for _ in range(9):
        states.append(env.transition(states[-1], torch.tensor(1), KEY))
    own.assert_pictures(env, states)


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"slip": 1.5}, ValueError),
        ({"slip": -0.1}, ValueError),
        ({"step_reward": float("nan")}, ValueError),
        ({"goal_reward": "much"}, TypeError),
        ({"length": 1}, ValueError),
        ({"length": 4.0}, TypeError),
        ({"max_episode_steps": 0}, ValueError),
    ],
)
def test_impossible_parameters_are_refused(params, error):
    with pytest.raises(error, match="Corridor: "):
        Corridor(**params)
