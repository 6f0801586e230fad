"""Pendulum against Gymnasium's own, state for state."""

import dataclasses
import functools
import math

import gymnasium
import numpy as np
import pytest
import torch

from funcrl.core import random
from funcrl.envs import drawing
from funcrl.envs.pendulum import Pendulum
from tests.envs import classic

ENV = Pendulum()
KEY = random.key(0)


@functools.cache
def steps():
    """8,000 steps: walks whose angle grows to many turns, and states at the limits."""
    generator = np.random.default_rng(1)
    turns = generator.choice([-math.pi, 0.0, math.pi, 3 * math.pi], 2000)
    near = np.stack([turns + generator.normal(0, 0.01, 2000), generator.uniform(-8, 8, 2000)], axis=1)
    fast = np.stack([generator.uniform(-4, 4, 2000), generator.choice([-8.0, 7.9, 8.0], 2000)], axis=1)
    reference = gymnasium.make("Pendulum-v1").unwrapped
    # Half of the actions lie outside of the space. A float64 action keeps Gymnasium in float64.
    return classic.record(reference, lambda g: g.uniform(-4, 4, 1), [200] * 20, np.concatenate([near, fast]))


def test_spaces_are_gymnasiums():
    classic.assert_same_spaces(ENV, gymnasium.make("Pendulum-v1"))


def test_every_step_equals_gymnasiums_in_float32():
    recorded = steps()
    assert np.mean(np.abs(recorded.action) > 2) > 0.4
    assert np.mean(np.abs(recorded.next_state[:, 1]) == 8) > 0.05
    _, obs, reward, terminal = classic.run(ENV, np.float32(recorded.state), np.float32(recorded.action))
    np.testing.assert_allclose(obs, recorded.obs, atol=1e-5)
    np.testing.assert_allclose(reward, recorded.reward, atol=1e-5)
    assert not terminal.any()
    assert not recorded.terminated.any()


def test_every_step_equals_gymnasiums_in_float64():
    recorded = steps()
    following, _, reward, _ = classic.run(ENV, recorded.state, recorded.action)
    assert following.dtype == torch.float64
    np.testing.assert_allclose(following, recorded.next_state, atol=1e-9)
    np.testing.assert_allclose(reward, recorded.reward, atol=1e-9)


def test_whole_episodes_agree_up_to_the_time_limit():
    """Four lanes swing up and four do as they like."""
    generator = np.random.default_rng(0)

    def policy(lane, obs):
        noise = generator.uniform(-3, 3)
        pump = 2 * np.sign(obs[2]) if obs[0] < 0.9 else -10 * obs[1] - 2 * obs[2]
        # float64, for Gymnasium computes in the precision of the action.
        return np.array([pump if lane < 4 else noise], dtype=np.float64)

    references = [gymnasium.make("Pendulum-v1", disable_env_checker=True) for _ in range(8)]
    classic.assert_whole_episodes(ENV, references, policy, ["truncated"] * 8, atol=1e-6)


def test_beginnings_are_uniform_and_independent():
    states = torch.vmap(ENV.initial)(random.split(KEY, 20_000))
    assert states.shape == (20_000, 2)
    classic.assert_uniform(states[:, 0], -math.pi, math.pi)
    classic.assert_uniform(states[:, 1], -1.0, 1.0)
    assert torch.corrcoef(states.T)[0, 1].abs() < 0.03


def test_the_action_is_clipped_in_the_motion_and_in_the_cost():
    state = torch.tensor([0.5, 1.0])
    for beyond, limit in ((7.0, 2.0), (-3.0, -2.0)):
        outcomes = [classic.run(ENV, state[None], torch.tensor([[u]])) for u in (beyond, limit)]
        assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


def test_gravity_is_gymnasiums_g():
    reference = gymnasium.make("Pendulum-v1", g=9.81).unwrapped
    recorded = classic.record(reference, lambda g: g.uniform(-2, 2, 1), [200])
    following, *_ = classic.run(Pendulum(gravity=9.81), recorded.state, recorded.action)
    np.testing.assert_allclose(following, recorded.next_state, atol=1e-9)


def test_what_comes_out_is_float32_and_inside_of_the_space():
    recorded = steps()
    classic.assert_float32(ENV, dataclasses.replace(recorded, action=np.float32(recorded.action)))


def few():
    """Every 30th of the steps."""
    return classic.Steps(*(np.float32(x[::30]) for x in vars(steps()).values()))


def test_every_number_can_differ_between_lanes():
    classic.assert_every_number_can_differ_between_lanes(ENV, few())


def test_a_traced_program_equals_eager():
    classic.assert_traced_equals_eager(ENV, few())


def test_all_tensors_stay_on_their_device():
    classic.assert_stays_on_its_device(ENV, np.zeros(1, np.float32))


@pytest.mark.parametrize(
    "params",
    [
        {"gravity": float("nan")},
        {"length": 0.0},
        {"mass": -1.0},
        {"max_torque": 0.0},
        {"max_episode_steps": 0},
    ],
)
def test_impossible_parameters_are_refused(params):
    with pytest.raises(ValueError, match=f"Pendulum: {next(iter(params))} must"):
        Pendulum(**params)


def test_pictures_show_the_rod_where_it_is():
    classic.assert_pictures(ENV, [[0.0, 0.0], [0.4, 0.0], [-0.4, 0.0], [math.pi / 2, 0.0], [math.pi, 0.0]])
    middle = 240
    for angle, right, up in ((0.0, 0, 1), (math.pi / 2, -1, 0), (-math.pi / 2, 1, 0), (math.pi, 0, -1)):
        columns, rows = classic.pixels(ENV.render(torch.tensor([angle, 3.0])), drawing.RED)
        # The centre of the rod is half its length of 171 pixels from the pivot.
        assert columns.mean() - middle == pytest.approx(86 * right, abs=6)
        assert middle - rows.mean() == pytest.approx(86 * up, abs=6)
    # It is as thick whichever way it points.
    areas = [len(classic.pixels(ENV.render(torch.tensor([a, 0.0])), drawing.RED)[0]) for a in (0.0, 0.8, 2.3)]
    assert areas[1:] == pytest.approx([areas[0]] * 2, rel=0.03)
    same = ENV.render(torch.tensor([0.3, 0.0]))
    assert np.abs(same.astype(int) - ENV.render(torch.tensor([0.3 + 2 * math.pi, 0.0]))).max() < 60


@pytest.mark.parametrize(
    ("options", "high"),
    [
        ({"x_init": 0.5, "y_init": 3.0}, (0.5, 3.0)),
        ({"x_init": np.float32(0.25)}, (0.25, 1.0)),
        ({"y_init": "0"}, (math.pi, 0.0)),
        ({}, (math.pi, 1.0)),
    ],
    ids=str,
)
def test_options_of_a_reset_mean_what_they_mean_in_gymnasium(options, high):
    classic.assert_starts_are_gymnasiums("Pendulum-v1", options, [-x for x in high], high)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x_init": -1.0}, r"x_init'\] must be at least 0, got -1\.0"),
        ({"y_init": [1.0, 2.0]}, r"y_init'\] must be a finite number, got \[1\.0, 2\.0\]"),
        ({"y_init": float("inf")}, r"y_init'\] must be a finite number, got inf"),
    ],
)
def test_impossible_options_of_a_reset_are_refused(options, message):
    classic.assert_options_are_refused("Pendulum-v1", options, message)
