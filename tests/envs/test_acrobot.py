"""Acrobot against Gymnasium's own, state for state."""

import functools
import math

import gymnasium
import numpy as np
import pytest
import torch

from funcrl.core import random
from funcrl.envs import drawing
from funcrl.envs.acrobot import Acrobot
from tests.envs import classic

ENV = Acrobot()
KEY = random.key(0)


@functools.cache
def steps(dynamics="book"):
    """7,500 steps: walks, states from all over the space, at the limits, and about the line."""
    generator = np.random.default_rng(1)
    high = np.array([math.pi, math.pi, 4 * math.pi, 9 * math.pi])
    anywhere = generator.uniform(-high, high, (2500, 4))
    slow = anywhere[:1500] * [1, 1, 0.1, 0.05]
    limits = anywhere[:500].copy()
    limits[:, 2:] = np.sign(limits[:, 2:]) * high[2:]
    reference = gymnasium.make("Acrobot-v1").unwrapped
    reference.book_or_nips = dynamics
    walks = [500] * 6 if dynamics == "book" else [200]
    return classic.record(
        reference, lambda g: int(g.integers(3)), walks, np.concatenate([anywhere, slow, limits])
    )


def test_spaces_are_gymnasiums():
    classic.assert_same_spaces(ENV, gymnasium.make("Acrobot-v1"))


@pytest.mark.parametrize("dynamics", ["book", "nips"])
def test_every_step_equals_gymnasiums_in_float32(dynamics):
    recorded = steps(dynamics)
    env = Acrobot(dynamics=dynamics)
    _, obs, reward, terminal = classic.run(env, np.float32(recorded.state), recorded.action)
    # A link that turns by several radians in one step of 0.2 s is not integrated but scrambled: the
    # stages of the Runge-Kutta step multiply float32's rounding by up to 10⁴. The run in float64 below
    # shows that nothing else differs.
    fast = (np.abs(recorded.state[:, 2:]) > [6, 12]).any(axis=1)
    assert fast.sum() > 2000
    np.testing.assert_allclose(obs[~fast], recorded.obs[~fast], atol=1e-5)
    assert np.quantile(np.abs(obs.numpy() - recorded.obs)[fast], 0.99) < 1e-4
    np.testing.assert_allclose(obs[fast], recorded.obs[fast], atol=1e-2)
    first, second = recorded.next_state[:, 0], recorded.next_state[:, 1]
    tie = np.abs(-np.cos(first) - np.cos(first + second) - 1) < 1e-3
    assert tie.mean() < 0.005
    assert np.array_equal(terminal[~tie], recorded.terminated[~tie])
    assert np.array_equal(reward[~tie], recorded.reward[~tie])
    assert recorded.terminated.sum() > 500


@pytest.mark.parametrize("dynamics", ["book", "nips"])
def test_every_step_equals_gymnasiums_in_float64(dynamics):
    recorded = steps(dynamics)
    following, obs, reward, terminal = classic.run(
        Acrobot(dynamics=dynamics), recorded.state, recorded.action
    )
    assert following.dtype == torch.float64
    np.testing.assert_allclose(following[:, 2:], recorded.next_state[:, 2:], atol=1e-9)
    turn = (following[:, :2].numpy() - recorded.next_state[:, :2]) / (2 * math.pi)
    np.testing.assert_allclose(turn, 0, atol=1e-9)  # wrapped to the same turn, ties aside
    np.testing.assert_allclose(obs, recorded.obs, atol=1e-6, rtol=1e-6)
    assert np.array_equal(terminal, recorded.terminated)
    assert np.array_equal(reward, recorded.reward)
    assert np.mean(np.abs(recorded.next_state[:, 2]) == 4 * math.pi) > 0.01
    assert np.mean(np.abs(recorded.next_state[:, 3]) == 9 * math.pi) > 0.01


def test_whole_episodes_agree_up_to_the_line_or_the_time_limit():
    """Four lanes pump energy in, four let the links hang."""

    def policy(lane, obs):
        return int(1 + np.sign(obs[5])) if lane < 4 else 1

    references = [gymnasium.make("Acrobot-v1", disable_env_checker=True) for _ in range(8)]
    ends = ["terminated"] * 4 + ["truncated"] * 4
    classic.assert_whole_episodes(ENV, references, policy, ends, atol=1e-6)


def test_beginnings_are_uniform_and_independent():
    states = torch.vmap(ENV.initial)(random.split(KEY, 20_000))
    assert states.shape == (20_000, 4)
    for component in states.T:
        classic.assert_uniform(component, -0.1, 0.1)
    assert (torch.corrcoef(states.T) - torch.eye(4)).abs().max() < 0.03


def test_torque_noise_is_uniform_about_the_torque():
    """What the noise did is read from the velocity, which nearly grows in proportion to the torque."""
    hanging, keys = torch.zeros(4), random.split(KEY, 20_000)

    def velocity(env, action, key):
        return env.transition(hanging, torch.tensor(action), key)[3]

    still, unit = (float(velocity(ENV, action, KEY)) for action in (1, 2))
    assert still == 0
    velocities = torch.vmap(lambda key: velocity(Acrobot(torque_noise=0.1), 1, key))(keys)
    classic.assert_uniform(velocities / unit, -0.1002, 0.1002)
    pushed = torch.vmap(lambda key: velocity(Acrobot(torque_noise=0.1), 2, key))(keys)
    assert pushed.mean() == pytest.approx(unit, rel=1e-2)
    reference = gymnasium.make("Acrobot-v1").unwrapped
    reference.torque_noise_max = 0.1
    reference.reset(seed=0)
    theirs = []
    for _ in range(2000):
        reference.state = np.zeros(4)
        reference.step(1)
        theirs.append(reference.state[3])
    assert velocities.std() == pytest.approx(np.std(theirs), rel=0.05)


def test_what_comes_out_is_float32_and_inside_of_the_space():
    classic.assert_float32(ENV, steps())


def few():
    """Steps that are slow enough for float32."""
    recorded = steps()
    slow = (np.abs(recorded.state[:, 2:]) < [6, 12]).all(axis=1)
    return classic.Steps(*(x[slow][-2000::5] for x in vars(recorded).values()))


def test_every_number_can_differ_between_lanes():
    classic.assert_every_number_can_differ_between_lanes(ENV, few(), factors=(0.4, 1.0))


def test_a_traced_program_equals_eager():
    classic.assert_traced_equals_eager(ENV, few())


def test_all_tensors_stay_on_their_device():
    classic.assert_stays_on_its_device(ENV, 1)


@pytest.mark.parametrize(
    "params",
    [
        {"gravity": float("nan")},
        {"mass_2": 0.0},
        {"torque_noise": -0.1},
        {"dynamics": "boook"},
        {"max_episode_steps": 0},
    ],
)
def test_impossible_parameters_are_refused(params):
    with pytest.raises(ValueError, match=f"Acrobot: {next(iter(params))} must"):
        Acrobot(**params)


def test_pictures_show_the_links_where_they_are():
    right = math.pi / 2
    states = [[0.0, 0, 0, 0], [0.3, 0, 0, 0], [0.0, 0.3, 0, 0], [right, -right, 0, 0], [2.6, 0.4, 0, 0]]
    classic.assert_pictures(ENV, states)
    meter, middle = 480 / 4.4, 240
    # State, and where the centre of both links lies in metres right of the pivot and above it.
    for state, x, y in (
        ([0.0, 0.0], 0.0, -1.0),
        ([right, 0.0], 1.0, 0.0),
        ([-right, 0.0], -1.0, 0.0),
        ([right, right], 0.75, 0.25),
        ([math.pi, 0.0], 0.0, 1.0),
    ):
        columns, rows = classic.pixels(ENV.render(torch.tensor([*state, 1.0, 1.0])), drawing.BLUE)
        assert columns.mean() - middle == pytest.approx(x * meter, abs=12)
        assert middle - rows.mean() == pytest.approx(y * meter, abs=12)


def test_pictures_show_the_line_at_the_target_height():
    for height in (1.0, 0.5):
        frame = Acrobot(target_height=height).render(torch.zeros(4))
        _, rows = classic.pixels(frame, drawing.INK)
        assert 240 - rows.mean() == pytest.approx(height * 480 / 4.4, abs=2)


@pytest.mark.parametrize(
    ("options", "low", "high"),
    [
        ({"low": -0.3, "high": 0.25}, -0.3, 0.25),
        ({"low": -0.3}, -0.3, 0.1),
        ({"high": np.float32(0.25)}, -0.1, 0.25),
        ({"low": "0.25", "high": 0.25}, 0.25, 0.25),
        ({}, -0.1, 0.1),
    ],
    ids=str,
)
def test_options_of_a_reset_mean_what_they_mean_in_gymnasium(options, low, high):
    classic.assert_starts_are_gymnasiums("Acrobot-v1", options, low, high)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 0.2, "high": 0.1}, r"high'\] must be at least the lower end, 0\.2, got 0\.1"),
        ({"low": 9}, r"high'\] must be at least the lower end, 9, got 0\.1"),
        ({"low": None}, r"low'\] must be a finite number, got None"),
        ({"high": "far"}, r"high'\] must be a finite number, got 'far'"),
        ({"high": float("inf")}, r"high'\] must be a finite number, got inf"),
    ],
)
def test_impossible_options_of_a_reset_are_refused(options, message):
    classic.assert_options_are_refused("Acrobot-v1", options, message)
