"""MountainCar against Gymnasium's own, state for state."""

import functools

import gymnasium
import numpy as np
import pytest
import torch

from funcrl.core import random
from funcrl.envs import drawing
from funcrl.envs.mountain_car import MountainCar
from tests.envs import classic

ENV = MountainCar()
KEY = random.key(0)


def reference():
    return gymnasium.make("MountainCar-v0").unwrapped


def states_of_interest():
    """States all over the space, at the wall, at the right end and about the goal."""
    generator = np.random.default_rng(1)
    anywhere = generator.uniform([-1.2, -0.07], [0.6, 0.07], (2500, 2))
    wall = generator.uniform([-1.2, -0.07], [-1.15, 0.01], (1000, 2))
    right = generator.uniform([0.4, -0.02], [0.6, 0.07], (1000, 2))
    at_wall = np.stack([np.full(200, -1.2), generator.uniform(-0.01, 0.01, 200)], axis=1)
    behind_it = generator.uniform([-1.25, -0.01], [-1.21, 0.07], (200, 2))
    fast = np.stack([generator.uniform(-1, 0.3, 300), generator.choice([-0.0699, 0.0699], 300)], axis=1)
    return np.concatenate([anywhere, wall, right, at_wall, behind_it, fast])


@functools.cache
def steps():
    """9,200 steps."""
    return classic.record(reference(), lambda g: int(g.integers(3)), [200] * 20, states_of_interest())


def away_from_ties(recorded, goal):
    return np.abs(recorded.next_state[:, 0] - goal) + (np.abs(recorded.next_state[:, 1]) < 1e-6) > 1e-6


def test_spaces_are_gymnasiums():
    classic.assert_same_spaces(ENV, gymnasium.make("MountainCar-v0"))


def test_every_step_equals_gymnasiums_in_float32():
    recorded = steps()
    _, obs, reward, terminal = classic.run(ENV, np.float32(recorded.state), recorded.action)
    np.testing.assert_allclose(obs, recorded.obs, atol=1e-6)
    assert np.array_equal(reward, recorded.reward)
    clear = away_from_ties(recorded, 0.5)
    assert clear.mean() > 0.99
    assert np.array_equal(terminal[clear], recorded.terminated[clear])
    # The wall, the right end, the speed limit and the goal all were reached.
    at_wall = recorded.next_state[:, 0] == -1.2
    assert at_wall.sum() > 300
    assert np.array_equal(obs[at_wall][:, 1] == 0, recorded.next_state[at_wall, 1] == 0)
    assert (recorded.next_state[:, 0] == 0.6).sum() > 100
    assert (np.abs(recorded.next_state[:, 1]) == 0.07).sum() > 60
    assert 500 < recorded.terminated.sum() < 2000


def test_every_step_equals_gymnasiums_in_float64():
    recorded = steps()
    following, _, _, terminal = classic.run(ENV, recorded.state, recorded.action)
    assert following.dtype == torch.float64
    np.testing.assert_allclose(following, recorded.next_state, atol=1e-12)
    assert np.array_equal(terminal, recorded.terminated)


def test_a_goal_velocity_is_gymnasiums():
    slow = gymnasium.make("MountainCar-v0", goal_velocity=0.03).unwrapped
    recorded = classic.record(slow, lambda g: int(g.integers(3)), [], states_of_interest())
    env = MountainCar(goal_velocity=0.03)
    _, _, _, terminal = classic.run(env, recorded.state, recorded.action)
    assert np.array_equal(terminal, recorded.terminated)
    assert 100 < recorded.terminated.sum() < (recorded.next_state[:, 0] >= 0.5).sum() - 100


def test_whole_episodes_agree_up_to_the_goal_or_the_time_limit():
    """Four lanes push the way the car goes, four at random."""
    generator = np.random.default_rng(0)

    def policy(lane, obs):
        action = int(generator.integers(3))
        return (2 if obs[1] >= 0 else 0) if lane < 4 else action

    references = [gymnasium.make("MountainCar-v0", disable_env_checker=True) for _ in range(8)]
    ends = ["terminated"] * 4 + ["truncated"] * 4
    classic.assert_whole_episodes(ENV, references, policy, ends, atol=1e-6)


def test_beginnings_are_uniform_and_at_rest():
    states = torch.vmap(ENV.initial)(random.split(KEY, 20_000))
    assert states.shape == (20_000, 2)
    classic.assert_uniform(states[:, 0], np.float32(-0.6), np.float32(-0.4))
    assert not states[:, 1].any()


def test_what_comes_out_is_float32_and_inside_of_the_space():
    classic.assert_float32(ENV, steps())


def few():
    """Every 10th of the steps from given states."""
    return classic.Steps(*(x[4000::10] for x in vars(steps()).values()))


def test_every_number_can_differ_between_lanes():
    classic.assert_every_number_can_differ_between_lanes(ENV, few())


def test_a_traced_program_equals_eager():
    classic.assert_traced_equals_eager(ENV, few())


def test_all_tensors_stay_on_their_device():
    classic.assert_stays_on_its_device(ENV, 1)


@pytest.mark.parametrize(
    "params",
    [
        {"gravity": float("nan")},
        {"force": -1.0},
        {"max_speed": 0.0},
        {"max_position": -1.3},
        {"initial_high": -0.7},
        {"goal_velocity": float("nan")},
        {"max_episode_steps": 0},
    ],
)
def test_impossible_parameters_are_refused(params):
    with pytest.raises(ValueError, match=f"MountainCar: {next(iter(params))} must"):
        MountainCar(**params)


def test_pictures_show_the_car_where_it_is():
    states = [[-0.5, 0.0], [-0.48, 0.0], [-1.2, 0.0], [0.5, 0.0], [0.6, 0.0]]
    classic.assert_pictures(ENV, states)
    unit = 480 / 2.0
    for position, _ in states:
        columns, rows = classic.pixels(ENV.render(torch.tensor([position, 0.05])), drawing.RED)
        assert columns.mean() == pytest.approx((position + 1.3) * unit, abs=14)
        # Its body lies a little above the ground.
        ground = (1.22 - 0.45 * np.sin(3 * position) - 0.55) * unit
        assert 2 < ground - rows.mean() < 16


def test_pictures_show_the_flag_at_the_goal():
    for goal in (0.5, 0.2):
        columns, _ = classic.pixels(
            MountainCar(goal_position=goal).render(torch.tensor([-0.5, 0.0])), drawing.YELLOW
        )
        assert (goal + 1.3) * 240 - 2 < columns.min() < (goal + 1.3) * 240 + 4


@pytest.mark.parametrize(
    ("options", "low", "high"),
    [
        ({"low": -1.0, "high": -0.1}, -1.0, -0.1),
        ({"low": -1.0}, -1.0, -0.4),
        ({"high": np.float32(-0.1)}, -0.6, -0.1),
        ({"low": "-0.1", "high": -0.1}, -0.1, -0.1),
        ({}, -0.6, -0.4),
    ],
    ids=str,
)
def test_options_of_a_reset_mean_what_they_mean_in_gymnasium(options, low, high):
    classic.assert_starts_are_gymnasiums("MountainCar-v0", options, (low, 0.0), (high, 0.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 0.2, "high": 0.1}, r"high'\] must be at least the lower end, 0\.2, got 0\.1"),
        ({"low": 9}, r"high'\] must be at least the lower end, 9, got -0\.4"),
        ({"low": None}, r"low'\] must be a finite number, got None"),
        ({"high": "far"}, r"high'\] must be a finite number, got 'far'"),
        ({"high": float("inf")}, r"high'\] must be a finite number, got inf"),
    ],
)
def test_impossible_options_of_a_reset_are_refused(options, message):
    classic.assert_options_are_refused("MountainCar-v0", options, message)
