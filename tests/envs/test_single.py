"""One environment behind `gymnasium.Env`."""

import gymnasium
import numpy as np
import pytest
import torch

from funcrl import envs
from funcrl.core import tree
from funcrl.envs.single import TorchEnv
from funcrl.envs.vector import TorchVectorEnv


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("CartPole-v1", "aot_eager"),
        ("Blackjack-v1", "aot_eager"),
        ("Pendulum-v1", "aot_eager"),
        pytest.param("CartPole-v1", "inductor", marks=pytest.mark.compiled),
    ],
)
def test_it_lives_through_the_episodes_of_environment_0(name, backend):
    """Seeded and unseeded beginnings, and ends of both kinds."""
    env = envs.TimeLimit(envs.make(name), 12)
    one, many = TorchEnv(env, backend=backend), TorchVectorEnv(env, 1, "cpu", "eager", "Disabled")
    first, also = one.reset(seed=6)[0], many.reset(seed=6)[0]
    one.action_space.seed(0)
    ends = 0
    for _ in range(60):
        for ours, expected in zip(tree.leaves(first), tree.leaves(also), strict=True):
            assert torch.allclose(ours.float(), expected[0].float(), atol=1e-5)
        action = one.action_space.sample()
        first, reward, terminated, truncated, infos = one.step(action)
        also, *figures, theirs = many.step(torch.as_tensor(np.array([action])))
        assert [type(value) for value in (reward, terminated, truncated)] == [float, bool, bool]
        assert reward == pytest.approx(float(figures[0]), abs=1e-5)
        assert (terminated, truncated) == (bool(figures[1]), bool(figures[2]))
        assert list(infos) == ["episode_return", "episode_length"]
        assert infos["episode_length"] == int(theirs["episode_length"])
        assert infos["episode_return"] == pytest.approx(float(theirs["episode_return"]), abs=1e-4)
        if terminated or truncated:
            ends += 1
            seed = ends if ends % 3 == 0 else None
            first, also = one.reset(seed=seed)[0], many.reset(seed=seed)[0]
    assert ends > 3
    assert (one._step_program.num_graphs, one._restart_program.num_graphs) == (1, 1)


def test_what_is_handed_out_may_be_changed():
    one, other = (TorchEnv(envs.make("CartPole-v1"), backend="eager") for _ in range(2))
    one.reset(seed=0)[0].zero_()
    other.reset(seed=0)
    for _ in range(2):
        for _ in range(3):
            obs, expected = one.step(1)[0], other.step(1)[0]
            assert torch.equal(obs, expected)
            kept = obs.clone()
            one.step(0)
            assert torch.equal(obs, kept)
            other.step(0)
            obs.zero_()
        assert torch.equal(one.reset()[0].clone(), other.reset()[0])


@pytest.mark.parametrize(
    "action",
    [1, np.int64(1), np.int32(1), np.array(1), torch.tensor(1), torch.tensor(1, dtype=torch.int32)],
    ids=repr,
)
def test_an_integer_of_any_kind_is_an_action(action):
    one, other = (TorchEnv(envs.make("CartPole-v1"), backend="eager") for _ in range(2))
    one.reset(seed=0)
    other.reset(seed=0)
    assert torch.equal(one.step(action)[0], other.step(1)[0])


@pytest.mark.parametrize("action", [2, -1, np.int64(2), torch.tensor(-1), np.array(5)], ids=repr)
def test_an_integer_that_stands_for_no_action_is_refused(action):
    env = gymnasium.make("funcrl/CartPole-v1", backend="eager")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"CartPole\.step: actions must lie between 0 and 1, got"):
        env.step(action)
    for other in (True, 1.0, torch.tensor(True)):
        with pytest.raises(ValueError, match=r"CartPole\.step: actions must be integers"):
            env.step(other)


def test_a_reset_that_is_refused_changes_nothing():
    env, other = (TorchEnv(envs.make("CartPole-v1"), backend="eager") for _ in range(2))
    env.reset(seed=0)
    other.reset(seed=0)
    env.step(1)
    for options in ({"speed": 0}, {"low": 2.0, "high": 1.0}):
        with pytest.raises(ValueError, match=r"CartPole\.reset: options"):
            env.reset(options=options)
    other.step(1)
    assert torch.equal(env.step(0)[0], other.step(0)[0])


def test_options_say_where_the_next_episode_starts():
    env = TorchEnv(envs.make("CartPole-v1"), backend="eager")
    env.reset(seed=0)
    env.step(1)
    for options, low, high in (({"low": 0.3, "high": 0.4}, 0.3, 0.4), (None, -0.05, 0.05)):
        obs, _ = env.reset(options=options)
        assert ((obs >= low) & (obs <= high)).all()
        assert env.step(0)[0][0] == pytest.approx(float(obs[0] + 0.02 * obs[1]), abs=1e-6)
