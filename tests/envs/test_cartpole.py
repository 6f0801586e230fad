"""CartPole against Gymnasium's own, state for state."""

import gymnasium
import numpy as np
import pytest
import torch

from funcrl import envs
from funcrl.core import random, tree
from funcrl.envs import drawing
from tests.envs import classic

ENV = envs.make("CartPole-v1")
KEY = random.key(0)


def test_spaces_are_gymnasiums():
    reference = gymnasium.make("CartPole-v1")
    assert ENV.observation_space == reference.observation_space
    assert ENV.action_space == reference.action_space
    assert ENV.max_episode_steps == reference.spec.max_episode_steps


def test_every_step_of_long_random_episodes_equals_gymnasiums():
    """Gymnasium's state is put into ours before each step, so that rounding does not add up."""
    reference = gymnasium.make("CartPole-v1").unwrapped
    recorded = classic.record(reference, lambda g: int(g.integers(2)), [2000] * 5)
    following, obs, reward, terminal = classic.run(ENV, np.float32(recorded.state), recorded.action)
    assert following.dtype == torch.float32
    np.testing.assert_allclose(obs, recorded.obs, atol=1e-5)
    assert np.array_equal(reward, recorded.reward)
    assert np.array_equal(terminal, recorded.terminated)
    assert recorded.terminated.sum() > 200


def test_whole_episodes_agree_from_the_same_beginning():
    """Without putting the state back, up to the time limit, for a policy that balances the pole.

    In float64: the pole is unstable, so that float32's rounding doubles every few steps.
    """

    def policy(lane, obs):
        return int(obs[2] + 0.3 * obs[3] + 0.05 * obs[1] + 0.02 * obs[0] > 0)

    references = [gymnasium.make("CartPole-v1", disable_env_checker=True) for _ in range(3)]
    rows = classic.assert_whole_episodes(ENV, references, policy, ["truncated"] * 3, atol=1e-6)
    assert rows.next_obs.dtype == torch.float64
    assert rows.episode_return[-1].tolist() == [500.0] * 3
    assert rows.episode_length[-1].tolist() == [500] * 3


def test_thresholds_end_the_episode_on_either_side():
    for state, over in [
        ([2.41, 0, 0, 0], True),
        ([-2.41, 0, 0, 0], True),
        ([0, 0, 0.2096, 0], True),
        ([0, 0, -0.2096, 0], True),
        ([2.39, 9, 0.209, 9], False),
    ]:
        assert bool(ENV.terminal(torch.tensor(state, dtype=torch.float32), KEY)) == over


def test_beginnings_are_uniform_in_their_range():
    states = torch.vmap(ENV.initial)(random.split(KEY, 5000))
    assert states.shape == (5000, 4)
    assert states.min() >= -0.05
    assert states.max() < 0.05
    assert states.std(dim=0) == pytest.approx(0.1 / np.sqrt(12), rel=0.05)


def test_numbers_can_differ_between_lanes():
    env = envs.CartPole(half_length=torch.tensor([0.5, 1.5]))
    f = lambda env: env.transition(torch.tensor([0.0, 0.0, 0.1, 0.0]), torch.tensor(1), KEY)
    in_dims = tree.map(lambda x: 0 if isinstance(x, torch.Tensor) else None, env)
    together = torch.vmap(f, in_dims=(in_dims,))(env)
    assert torch.allclose(together[1], f(envs.CartPole(half_length=1.5)))
    assert not torch.allclose(together[0], together[1])


def test_unknown_names_and_parameters_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"envs\.make: name must be one of .* Did you mean 'CartPole-v1'"):
        envs.make("CartPole-v0")
    with pytest.raises(ValueError, match="Did you mean 'gravity'"):
        envs.make("CartPole-v1", gravty=3.0)


@pytest.mark.parametrize(
    "params", [{"gravity": float("nan")}, {"half_length": 0.0}, {"max_episode_steps": 0}]
)
def test_impossible_parameters_are_refused(params):
    with pytest.raises(ValueError, match="CartPole: "):
        envs.make("CartPole-v1", **params)


def test_pictures_show_the_pole_where_it_is():
    states = [[0.0] * 4, [0.0, 0.0, 0.15, 0.0], [0.0, 0.0, -0.15, 0.0], [1.0, 0.0, 0.0, 0.0]]
    classic.assert_pictures(ENV, states)
    meter, middle = 480 / 5.52, 240
    for x, angle in ((0.0, 0.0), (1.0, 0.0), (-2.4, 0.0), (0.0, 0.2), (0.0, -0.2), (1.0, 1.2)):
        frame = ENV.render(torch.tensor([x, 1.0, angle, 1.0]))
        # The centre of the pole: half a metre from the axle, which is 0.32 m above the ground.
        columns, rows = classic.pixels(frame, drawing.YELLOW)
        assert columns.mean() - middle == pytest.approx((x + 0.5 * np.sin(angle)) * meter, abs=3)
        assert (1.6 - 0.32 - 0.5 * np.cos(angle)) * meter == pytest.approx(rows.mean(), abs=5)
        cart, _ = classic.pixels(frame, drawing.INK)
        assert cart.mean() - middle == pytest.approx(x * meter, abs=3)


@pytest.mark.parametrize(
    ("options", "low", "high"),
    [
        ({"low": -0.3, "high": 0.15}, -0.3, 0.15),
        ({"low": -0.3}, -0.3, 0.05),
        ({"high": np.float32(0.15)}, -0.05, 0.15),
        ({"low": "0.15", "high": 0.15}, 0.15, 0.15),
        ({}, -0.05, 0.05),
    ],
    ids=str,
)
def test_options_of_a_reset_mean_what_they_mean_in_gymnasium(options, low, high):
    classic.assert_starts_are_gymnasiums("CartPole-v1", options, low, high)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 0.2, "high": 0.1}, r"high'\] must be at least the lower end, 0\.2, got 0\.1"),
        ({"low": 9}, r"high'\] must be at least the lower end, 9, got 0\.05"),
        ({"low": None}, r"low'\] must be a finite number, got None"),
        ({"high": "far"}, r"high'\] must be a finite number, got 'far'"),
        ({"high": float("inf")}, r"high'\] must be a finite number, got inf"),
    ],
)
def test_impossible_options_of_a_reset_are_refused(options, message):
    classic.assert_options_are_refused("CartPole-v1", options, message)


def test_the_reward_of_sutton_and_barto_is_gymnasiums():
    """-1 for the step that ends an episode by a fall; a time limit is none."""
    name, kwargs = "CartPole-v1", {"sutton_barto_reward": True, "max_episode_steps": 25}
    reference, ours = (
        gymnasium.make(name, **kwargs),
        gymnasium.make(f"funcrl/{name}", backend="eager", **kwargs),
    )
    env, seen = ours.unwrapped.env, []
    generator = np.random.default_rng(0)
    reference.reset(seed=0)
    for t in range(600):
        state = torch.tensor(reference.unwrapped.state, dtype=torch.float32)
        # Some episodes fall at once, others last to the limit.
        balanced = int(state[2] + 0.3 * state[3] > 0)
        action = torch.tensor(balanced if t % 300 > 150 else int(generator.integers(2)))
        _, reward, terminated, truncated, _ = reference.step(int(action))
        following = env.transition(state, action, KEY)
        paid = env.reward(state, action, following, KEY)
        assert paid.dtype == torch.float32
        assert float(paid) == reward
        seen.append((reward, terminated, truncated))
        if terminated or truncated:
            reference.reset()
    assert set(seen) == {(0.0, False, False), (-1.0, True, False), (0.0, False, True)}
    ours.reset(seed=0)
    steps = [ours.step(1)[1:3] for _ in range(8)]
    while not steps[-1][1]:
        steps.append(ours.step(1)[1:3])
    assert steps == [(0.0, False)] * (len(steps) - 1) + [(-1.0, True)]
    with pytest.raises(TypeError, match="CartPole: sutton_barto_reward must be True or False, got 1"):
        envs.make(name, sutton_barto_reward=1)
