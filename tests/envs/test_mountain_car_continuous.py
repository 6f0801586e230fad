"""MountainCarContinuous against Gymnasium's own, state for state."""

import dataclasses
import functools

import gymnasium
import numpy as np
import pytest
import torch

from funcrl.core import random
from funcrl.envs import drawing
from funcrl.envs.mountain_car_continuous import MountainCarContinuous
from tests.envs import classic
from tests.envs.test_mountain_car import away_from_ties, states_of_interest

ENV = MountainCarContinuous()
KEY = random.key(0)


@functools.cache
def steps():
    """9,200 steps, a third of their actions outside of the space."""
    reference = gymnasium.make("MountainCarContinuous-v0").unwrapped
    return classic.record(reference, lambda g: g.uniform(-1.5, 1.5, 1), [200] * 20, states_of_interest())


def test_spaces_are_gymnasiums():
    classic.assert_same_spaces(ENV, gymnasium.make("MountainCarContinuous-v0"))


def test_every_step_equals_gymnasiums_in_float32():
    recorded = steps()
    _, obs, reward, terminal = classic.run(ENV, np.float32(recorded.state), np.float32(recorded.action))
    np.testing.assert_allclose(obs, recorded.obs, atol=1e-6)
    clear = away_from_ties(recorded, 0.45)
    assert clear.mean() > 0.99
    np.testing.assert_allclose(reward[clear], recorded.reward[clear], atol=1e-5)
    assert np.array_equal(terminal[clear], recorded.terminated[clear])
    assert (recorded.next_state[:, 0] == np.float32(-1.2)).sum() > 300
    assert (recorded.next_state[:, 0] == np.float32(0.6)).sum() > 100
    assert (np.abs(recorded.next_state[:, 1]) == np.float32(0.07)).sum() > 60
    assert 500 < recorded.terminated.sum() < 2500


def test_every_step_equals_gymnasiums_in_float64():
    """Gymnasium computes in float64 here, but rounds the state that it keeps to float32."""
    recorded = steps()
    following, _, reward, terminal = classic.run(ENV, recorded.state, recorded.action)
    assert following.dtype == torch.float64
    rounded = following.to(torch.float32).numpy()
    assert np.mean(rounded == np.float32(recorded.next_state)) > 0.9999
    np.testing.assert_allclose(rounded, recorded.next_state, rtol=2e-7)
    np.testing.assert_allclose(reward, recorded.reward, atol=1e-9)
    assert np.array_equal(terminal, recorded.terminated)


def test_a_goal_velocity_is_gymnasiums():
    slow = gymnasium.make("MountainCarContinuous-v0", goal_velocity=0.03).unwrapped
    recorded = classic.record(slow, lambda g: g.uniform(-1.5, 1.5, 1), [], states_of_interest())
    env = MountainCarContinuous(goal_velocity=0.03)
    _, _, reward, terminal = classic.run(env, recorded.state, recorded.action)
    assert np.array_equal(terminal, recorded.terminated)
    np.testing.assert_allclose(reward, recorded.reward, atol=1e-9)
    assert 100 < recorded.terminated.sum() < (recorded.next_state[:, 0] >= 0.45).sum() - 100


def test_whole_episodes_agree_up_to_the_goal_or_the_time_limit():
    """Two lanes push the way the car goes, two weakly at random.

    Gymnasium rounds its state to float32 in every step, hence the tolerance.
    """
    generator = np.random.default_rng(0)

    def policy(lane, obs):
        noise = generator.uniform(-0.3, 0.3, 1)
        return np.array([1.2 if obs[1] >= 0 else -1.2]) if lane < 2 else noise

    references = [gymnasium.make("MountainCarContinuous-v0", disable_env_checker=True) for _ in range(4)]
    ends = ["terminated"] * 2 + ["truncated"] * 2
    classic.assert_whole_episodes(ENV, references, policy, ends, atol=1e-5)


def test_beginnings_are_uniform_and_at_rest():
    states = torch.vmap(ENV.initial)(random.split(KEY, 20_000))
    assert states.shape == (20_000, 2)
    classic.assert_uniform(states[:, 0], np.float32(-0.6), np.float32(-0.4))
    assert not states[:, 1].any()


def test_the_action_is_clipped_in_the_motion_and_not_in_the_cost():
    state = torch.tensor([[-0.5, 0.01]])
    beyond, limit = (classic.run(ENV, state, torch.tensor([[a]])) for a in (-3.0, -1.0))
    assert torch.equal(beyond[0], limit[0])
    assert float(beyond[2]) == pytest.approx(-0.9)
    assert float(limit[2]) == pytest.approx(-0.1)


def test_what_comes_out_is_float32_and_inside_of_the_space():
    recorded = steps()
    classic.assert_float32(ENV, dataclasses.replace(recorded, action=np.float32(recorded.action)))


def few():
    """Every 10th of the steps from given states."""
    return classic.Steps(*(np.float32(x[4000::10]) for x in vars(steps()).values()))


def test_every_number_can_differ_between_lanes():
    classic.assert_every_number_can_differ_between_lanes(ENV, few())


def test_a_traced_program_equals_eager():
    classic.assert_traced_equals_eager(ENV, few())


def test_all_tensors_stay_on_their_device():
    classic.assert_stays_on_its_device(ENV, np.zeros(1, np.float32))


@pytest.mark.parametrize(
    "params",
    [
        {"power": -1.0},
        {"max_action": 0.0},
        {"goal_reward": float("nan")},
        {"gravity": float("nan")},
        {"max_position": -1.3},
        {"initial_high": -0.7},
        {"max_episode_steps": 0},
    ],
)
def test_impossible_parameters_are_refused(params):
    with pytest.raises(ValueError, match=f"MountainCarContinuous: {next(iter(params))} must"):
        MountainCarContinuous(**params)


def test_pictures_show_the_car_and_the_flag():
    states = [[-0.5, 0.0], [-1.2, 0.0], [0.45, 0.0]]
    classic.assert_pictures(ENV, states)
    for position, _ in states:
        frame = ENV.render(torch.tensor([position, 0.05]))
        columns, _ = classic.pixels(frame, drawing.RED)
        assert columns.mean() == pytest.approx((position + 1.3) * 240, abs=14)
        flag, _ = classic.pixels(frame, drawing.YELLOW)
        assert (0.45 + 1.3) * 240 - 2 < flag.min() < (0.45 + 1.3) * 240 + 4


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
    classic.assert_starts_are_gymnasiums("MountainCarContinuous-v0", options, (low, 0.0), (high, 0.0))


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
    classic.assert_options_are_refused("MountainCarContinuous-v0", options, message)
