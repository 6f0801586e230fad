"""Taxi against Gymnasium's own, table for table and step for step."""

import itertools

import gymnasium
import numpy as np
import pytest
import torch

from funcrl import envs
from funcrl.envs import drawing, tabular
from funcrl.envs.scenes import town
from funcrl.envs.taxi import Taxi, _is_free
from tests.envs import classic, own
from tests.envs import tabular_parity as parity

NAME = "Taxi-v4"
VARIANTS = {
    "dry": {},
    "rainy": {"is_rainy": True},
    "rainier": {"is_rainy": True, "rainy_probability": 0.3},
    "fickle": {"fickle_passenger": True, "fickle_probability": 0.7},
    "rainy and fickle": {"is_rainy": True, "fickle_passenger": True, "fickle_probability": 0.7},
}


@pytest.mark.parametrize("variant", ["dry", "rainy", "rainier"])
def test_table_and_surroundings_are_gymnasiums(variant):
    env, reference = Taxi(**VARIANTS[variant]), gymnasium.make(NAME, **VARIANTS[variant])
    parity.assert_surroundings_are_gymnasiums(env, reference)
    parity.assert_table_is_gymnasiums(env, reference)


def all_that_may_happen(inside, chooser, position, action):
    """Let Gymnasium's taxi take one step in every way that its generator could choose."""
    listed = inside.P[position % 500][action]
    for index, (probability, *_) in enumerate(listed):
        for other in range(1, 4):
            inside.s, inside.fickle_step = position % 500, position >= 500
            chooser.pick([p for p, *_ in listed], index)
            chooser.choices = [(position + other) % 4]
            obs, reward, terminated, _, _ = inside.step(action)
            yield probability / 3, obs + 500 * inside.fickle_step, reward, terminated


@pytest.mark.parametrize("variant", ["fickle", "rainy and fickle"])
def test_table_with_fickle_passengers_is_what_gymnasium_does(variant):
    env, inside = Taxi(**VARIANTS[variant]), gymnasium.make(NAME, **VARIANTS[variant]).unwrapped
    inside.np_random = chooser = parity.Chooser()
    theirs = {
        (position, action): parity.merged(all_that_may_happen(inside, chooser, position, action))
        for position in range(1000)
        for action in range(6)
    }
    parity.assert_same_tables(parity.table_of(env), theirs)


def test_beginnings_of_fickle_passengers_are_gymnasiums():
    env = Taxi(fickle_passenger=True)
    both = env.initial_distribution().reshape(2, 500).numpy()
    theirs = gymnasium.make(NAME).unwrapped.initial_state_distrib
    np.testing.assert_allclose(both, [0.7 * theirs, 0.3 * theirs], atol=1e-6)
    assert env.observation_space == gymnasium.make(NAME).observation_space


@pytest.mark.parametrize("variant", ["dry", "rainy", "fickle", "rainy and fickle"])
def test_random_steps_are_gymnasiums(variant):
    """The time limit is Gymnasium's default, 200 steps."""
    reference = gymnasium.make(NAME, **VARIANTS[variant], disable_env_checker=True)
    env = Taxi(**VARIANTS[variant])
    count, _, truncated = parity.assert_steps_are_gymnasiums(env, reference, num_envs=30, num_steps=205)
    assert count >= 6000
    assert truncated > 20


@pytest.mark.parametrize("variant", ["dry", "rainy", "fickle", "rainy and fickle"])
def test_steps_of_a_good_driver_are_gymnasiums(variant):
    """Random actions hardly ever deliver a passenger, the best of the table do."""
    reference = gymnasium.make(NAME, **VARIANTS[variant], disable_env_checker=True)
    env = Taxi(**VARIANTS[variant])
    best = parity.best_actions(env)
    policy = lambda states, drawn: best[states.inner.position]
    count, terminated, _ = parity.assert_steps_are_gymnasiums(
        env, reference, num_envs=100, num_steps=50, policy=policy
    )
    assert count >= 5000
    assert terminated > 150


@pytest.mark.parametrize("variant", ["dry", "fickle"])
def test_action_masks_are_gymnasiums(variant):
    env, inside = Taxi(**VARIANTS[variant]), gymnasium.make(NAME).unwrapped
    masks = torch.vmap(lambda p: env.action_mask(envs.tabular.begin(p)))(torch.arange(env.num_states))
    assert masks.dtype == torch.bool
    assert masks.shape == (env.num_states, 6)
    expected = np.stack([inside.action_mask(p % 500) for p in range(env.num_states)])
    assert np.array_equal(masks.numpy(), expected.astype(bool))


@pytest.mark.parametrize(("variant", "every"), [("rainy", 3), ("fickle", 5), ("rainy and fickle", 17)])
def test_chance_has_the_stated_frequencies(variant, every):
    env = Taxi(**VARIANTS[variant])
    parity.assert_draws_have_the_stated_frequencies(env, num_draws=300, every=every)


@pytest.mark.parametrize("variant", ["dry", "fickle"])
def test_beginnings_have_the_stated_frequencies(variant):
    parity.assert_beginnings_have_the_stated_frequencies(Taxi(**VARIANTS[variant]), num_draws=60_000)


@pytest.mark.parametrize("variant", ["dry", "rainy and fickle"])
def test_compiled_equals_eager_and_stays_on_the_device(variant):
    env = Taxi(**VARIANTS[variant])
    parity.assert_compiled_is_eager(env)
    parity.assert_everything_stays_on_the_device(env)


@pytest.mark.parametrize("variant", ["dry", "rainy", "fickle", "rainy and fickle"])
def test_numbers_can_differ_between_lanes(variant):
    static = {name: value for name, value in VARIANTS[variant].items() if value is True}
    parity.assert_numbers_can_differ(Taxi(**static), Taxi(-2.0, 7.0, -3.0, 0.5, 0.9, **static))


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"rainy_probability": 1.1}, ValueError),
        ({"fickle_probability": -0.1}, ValueError),
        ({"delivery_reward": float("nan")}, ValueError),
        ({"is_rainy": 0}, TypeError),
        ({"fickle_passenger": None}, TypeError),
        ({"max_episode_steps": 0}, ValueError),
    ],
)
def test_impossible_parameters_are_refused(params, error):
    with pytest.raises(error, match=f"Taxi: {next(iter(params))} must "):
        Taxi(**params)


def place(row, column, passenger, destination, is_fickle=False):
    position = ((row * 5 + column) * 5 + passenger) * 4 + destination
    return tabular.begin(torch.tensor(position + 500 * is_fickle))


def cell_of(frame, color):
    """Return the row and the column of the cell in which the pixels of a colour lie on average."""
    columns, rows = classic.pixels(frame, color)
    return int(rows.mean() / 100 - 0.2), int(columns.mean() / 100 - 0.2)


def test_pictures_show_the_taxi_the_passenger_and_the_destination():
    env = Taxi()
    landmarks = [(0, 0), (0, 4), (4, 0), (4, 3)]
    cells = [(0, 0), (0, 4), (4, 0), (4, 3), (2, 1), (3, 4)]
    # Every second pair: each cell, each passenger, and those who wait where the taxi is are among them.
    for (row, column), passenger in list(itertools.product(cells, range(5)))[::2]:
        destination = (row + column + passenger) % 4
        frame = env.render(place(row, column, passenger, destination))
        assert cell_of(frame, drawing.YELLOW) == (row, column)
        expected = (row, column) if passenger == 4 else landmarks[passenger]
        assert cell_of(frame, town._PASSENGER) == expected
        # The flag is all that differs from the same picture with another destination.
        other = env.render(place(row, column, passenger, (destination + 1) % 4))
        rows, columns = np.nonzero((frame != other).any(axis=2))
        changed = set(zip((rows / 100 - 0.2).astype(int), (columns / 100 - 0.2).astype(int), strict=True))
        assert changed == {landmarks[destination], landmarks[(destination + 1) % 4]}


def test_pictures_of_different_states_differ():
    states = [place(0, 0, 0, 1), place(0, 0, 4, 1), place(0, 0, 4, 0), place(0, 0, 0, 0), place(1, 0, 4, 0)]
    own.assert_pictures(Taxi(), states)
    fickle = Taxi(fickle_passenger=True)
    for passenger in range(5):
        steadfast, other = (
            fickle.render(place(2, 2, passenger, 1, is_fickle)) for is_fickle in (False, True)
        )
        assert (steadfast != other).any()


def test_the_walls_of_pictures_are_those_that_hold_the_taxi_back():
    frame = Taxi().render(place(2, 0, 4, 1))
    for row in range(5):
        for column in range(4):
            free = bool(_is_free(torch.tensor(row), torch.tensor(column), torch.tensor(2)))
            # A little below the middle of the side between two cells.
            shade = frame[int(100 * (row + 0.2 + 0.55)), int(100 * (column + 1.2))]
            assert (shade.sum() < 3 * 60) == (not free), (row, column)
