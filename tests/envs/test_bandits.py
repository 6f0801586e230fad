"""Bandits: what arms pay, how they live on from pull to pull, and regret from their true means."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from funcrl import envs
from funcrl.core import random, tree
from funcrl.envs import drawing
from funcrl.envs.bernoulli_bandit import GARIVIER_CAPPE, BernoulliBandit
from funcrl.envs.gaussian_bandit import GaussianBandit
from funcrl.envs.single import TorchEnv
from tests.envs import classic

# Keys are fixed: a comparison with a distribution always fails or never.
ALPHA = 1e-3
NUM = 4000
DRIFTING = GaussianBandit(spread=0.0, drift=0.01)
ALL = [
    pytest.param(BernoulliBandit(), id="coins"),
    pytest.param(BernoulliBandit(means=GARIVIER_CAPPE), id="given coins"),
    pytest.param(BernoulliBandit(num_arms=1), id="one arm"),
    pytest.param(GaussianBandit(), id="testbed"),
    pytest.param(GaussianBandit(means=(-1.0, 2.5), std=0.5), id="given arms"),
    pytest.param(DRIFTING, id="drifting"),
]


def pull(env, state, action, seed=0, num=NUM):
    """Return what `num` pulls of one arm from one state led to."""
    keys = random.split(random.key(seed), num)
    return torch.vmap(lambda key: env.transition(state, torch.tensor(action), key))(keys)


@pytest.mark.parametrize("env", [ALL[i] for i in (0, 2, 4)])
def test_check_env_passes(env):
    """The others have names, and are checked with all that have one."""
    assert env not in [envs.make(name) for name in envs.REGISTRY]
    drawn = env.means is None and env.num_arms is None
    envs.check_env(env, num_steps=20, backend="aot_eager" if drawn else "eager")


@pytest.mark.parametrize("env", ALL)
def test_every_pull_is_an_episode_and_the_arms_outlive_it(env):
    state = envs.reset(env, random.key(0))
    means = state.inner.means
    for t in range(3):
        state, row = envs.step(env, state, torch.tensor(0), random.key(t))
        assert bool(row.terminated)
        assert not bool(row.truncated)
        assert int(row.episode_length) == 1
        assert float(row.episode_return) == float(row.reward)
        assert (int(row.next_obs), int(state.obs)) == (0, 0)
        assert not bool(env.terminal(state.inner, random.key(0)))
        assert float(state.inner.reward) == 0.0
        if env != DRIFTING:
            assert torch.equal(state.inner.means, means)


def test_a_lane_draws_its_own_arms_uniformly():
    env = BernoulliBandit(num_arms=5)
    means = torch.vmap(env.initial)(random.split(random.key(1), NUM)).means
    assert means.shape == (NUM, 5)
    assert scipy.stats.kstest(means.flatten().numpy(), "uniform").pvalue > ALPHA


def test_a_lane_draws_its_own_arms_normally():
    env = GaussianBandit(num_arms=5, spread=3.0)
    means = torch.vmap(env.initial)(random.split(random.key(2), NUM)).means
    assert means.shape == (NUM, 5)
    assert scipy.stats.kstest(means.flatten().numpy(), scipy.stats.norm(0, 3).cdf).pvalue > ALPHA


def test_the_testbed_has_ten_arms_of_unit_spread_and_noise():
    env = GaussianBandit()
    assert int(env.action_space.n) == 10
    assert (env.spread, env.std, env.drift) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("arm", [0, 1, 2])
def test_coins_pay_with_their_probability(arm):
    env = BernoulliBandit(means=(0.0, 0.3, 1.0))
    rewards = pull(env, env.initial(random.key(0)), arm, seed=3).reward
    assert set(rewards.tolist()) <= {0.0, 1.0}
    count = int(rewards.sum())
    assert scipy.stats.binomtest(count, NUM, env.means[arm]).pvalue > ALPHA


@pytest.mark.parametrize("arm", [0, 1])
def test_normal_arms_pay_mean_and_noise(arm):
    env = GaussianBandit(means=(-1.0, 2.5), std=0.5)
    after = pull(env, env.initial(random.key(0)), arm, seed=4)
    law = scipy.stats.norm(env.means[arm], 0.5)
    assert scipy.stats.kstest(after.reward.numpy(), law.cdf).pvalue > ALPHA


def test_drifting_arms_start_equal_and_take_a_random_walk():
    start = DRIFTING.initial(random.key(0))
    assert start.means.tolist() == [0.0] * 10
    walked = pull(DRIFTING, tree.replace(start, means=torch.arange(10.0)), 0, seed=5)
    increments = (walked.means - torch.arange(10.0)).numpy()
    assert scipy.stats.kstest(increments.flatten(), scipy.stats.norm(0, 0.01).cdf).pvalue > ALPHA
    correlations = np.corrcoef(np.column_stack([increments, walked.reward.numpy()]), rowvar=False)
    assert np.abs(correlations - np.eye(11)).max() < 0.08


def test_a_pull_pays_by_the_means_before_the_walk():
    env = GaussianBandit(means=(0.0, 0.0), std=0.0, drift=1.0)
    after = pull(env, env.initial(random.key(0)), 1, num=5)
    assert after.reward.tolist() == [0.0] * 5
    assert (after.means != 0.0).all()


@pytest.mark.parametrize("kind", [BernoulliBandit, GaussianBandit])
def test_regret_is_the_distance_to_the_best_mean(kind):
    env = kind(means=(0.25, 0.75, 0.5, 0.75))
    state = env.initial(random.key(0))
    found = [float(env.regret(state, torch.tensor(arm))) for arm in range(4)]
    assert found == [0.5, 0.0, 0.25, 0.0]


def test_regret_follows_the_arms_that_were_drawn():
    env = GaussianBandit(num_arms=4)
    states = torch.vmap(env.initial)(random.split(random.key(6), 50))
    for arm in range(4):
        found = torch.vmap(env.regret)(states, torch.full((50,), arm))
        expected = states.means.max(dim=1).values - states.means[:, arm]
        assert torch.equal(found, expected)
    best = torch.vmap(env.regret)(states, states.means.argmax(dim=1))
    assert best.tolist() == [0.0] * 50


def test_lower_bounds_are_those_of_lai_and_robbins():
    env = BernoulliBandit(means=(0.25, 0.5))
    divergence = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert float(env.lower_bound(env.initial(random.key(0)))) == pytest.approx(0.25 / divergence, rel=1e-5)
    env = GaussianBandit(means=(0.0, 0.5, 2.0), std=3.0)
    expected = 2 * 9 / 2.0 + 2 * 9 / 1.5
    assert float(env.lower_bound(env.initial(random.key(0)))) == pytest.approx(expected)


def test_reward_ranges():
    assert BernoulliBandit().reward_range == (0.0, 1.0)
    assert GaussianBandit().reward_range == (-math.inf, math.inf)


def test_numbers_may_differ_between_lanes():
    def first(std, spread):
        env = GaussianBandit(std=std, spread=spread)
        state = env.initial(random.key(7))
        return env.transition(state, torch.tensor(1), random.key(8)).reward, state.means

    rewards, means = torch.vmap(first)(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0]))
    assert torch.allclose(means[1], 2 * means[0])
    assert float(rewards[0]) == float(means[0, 1])
    assert float(rewards[1]) != float(means[1, 1])


def test_gymnasium_can_step_one():
    env = TorchEnv(BernoulliBandit(means=(0.0, 1.0)), backend="eager")
    for arm in (0, 1, 1):
        obs, _ = env.reset(seed=0)
        assert int(obs) == 0
        _, reward, terminated, truncated, _ = env.step(torch.tensor(arm))
        assert (reward, terminated, truncated) == (float(arm), True, False)


@pytest.mark.parametrize(
    ("kind", "params", "error", "words"),
    [
        (BernoulliBandit, {"num_arms": 0}, ValueError, "num_arms must be at least 1, got 0"),
        (GaussianBandit, {"num_arms": 0}, ValueError, "num_arms must be at least 1, got 0"),
        (BernoulliBandit, {"num_arms": 2.0}, TypeError, "num_arms must be an integer"),
        (BernoulliBandit, {"means": ()}, ValueError, "means must hold at least one arm"),
        (BernoulliBandit, {"means": (0.5, 1.5)}, ValueError, r"means\[1\] must lie in \[0, 1\], got 1.5"),
        (BernoulliBandit, {"means": (-0.1,)}, ValueError, r"means\[0\] must lie in \[0, 1\], got -0.1"),
        (BernoulliBandit, {"means": (0.5, math.nan)}, ValueError, r"means\[1\] must lie"),
        (GaussianBandit, {"means": (0.5, math.nan)}, ValueError, r"means\[1\] must be finite"),
        (GaussianBandit, {"means": (math.inf, 0.0)}, ValueError, r"means\[0\] must be finite"),
        (GaussianBandit, {"means": [0.5, 0.2]}, TypeError, "means must be a tuple of numbers or None"),
        (GaussianBandit, {"means": ("a",)}, TypeError, "means must be a tuple of numbers or None"),
        (GaussianBandit, {"means": (True,)}, TypeError, "means must be a tuple of numbers or None"),
        (GaussianBandit, {"means": (0.0,), "num_arms": 2}, ValueError, "num_arms must be the 1 of means"),
        (GaussianBandit, {"std": -1.0}, ValueError, "std must lie"),
        (GaussianBandit, {"spread": -1.0}, ValueError, "spread must lie"),
        (GaussianBandit, {"drift": math.nan}, ValueError, "drift must lie"),
        (BernoulliBandit, {"max_episode_steps": 0}, ValueError, "max_episode_steps must be at least 1"),
        (GaussianBandit, {"max_episode_steps": 0}, ValueError, "max_episode_steps must be at least 1"),
    ],
)
def test_impossible_parameters_are_refused(kind, params, error, words):
    with pytest.raises(error, match=f"^{kind.__name__}: {words}"):
        kind(**params)


def test_means_and_their_number_may_both_be_given():
    assert int(BernoulliBandit(means=(0.5, 1), num_arms=2).action_space.n) == 2


def test_pictures_show_the_means_and_the_best_arm():
    env = BernoulliBandit(means=(0.2, 0.8, 0.4, 0.05))
    frame = env.render(env.initial(random.key(0)))
    heights = []
    for arm in range(4):
        middle = frame[50:, int(64 + 556 / 4 * (arm + 0.5))]
        wanted, other = ([0x55, 0xA8, 0x68], [0x3B, 0x6E, 0xA8])[:: 1 if arm == 1 else -1]
        heights.append((middle == wanted).all(axis=1).sum() + 2)  # the line on top is 2 high
        assert not (middle == other).all(axis=1).any()
    assert heights == pytest.approx(np.array(env.means) / 0.8 * heights[1], abs=3)


def test_pictures_show_what_the_last_pull_paid_and_how_rewards_vary():
    for env in (GaussianBandit(means=(-1.0, 0.5)), BernoulliBandit(means=(0.1, 0.9))):
        before = env.initial(random.key(0))
        after = [env.transition(before, torch.tensor(arm), random.key(arm)) for arm in range(2)]
        assert float(after[0].reward) != float(after[1].reward)
        frames = [env.render(state) for state in (before, *after)]
        assert not (frames[0] == [0xC4, 0x4E, 0x52]).all(axis=2).any()
        classic.pixels(frames[1], drawing.RED)
        assert not np.array_equal(frames[1], frames[2])
    # From -2 to 2 on 288 pixels: one standard deviation either way is half of it.
    for std, height in ((0.0, 0), (1.0, 144)):
        env = GaussianBandit(means=(0.0, 0.0), std=std)
        middle = env.render(env.initial(random.key(0)))[:, 64 + 139]
        assert (middle == [0xE6, 0xEB, 0xF2]).all(axis=1).sum() == pytest.approx(height, abs=5)


@pytest.mark.parametrize(
    "env",
    [
        *ALL,
        BernoulliBandit(num_arms=200),
        BernoulliBandit(means=(0.0, 0.0)),
        GaussianBandit(means=(0.0,), std=0.0),
        GaussianBandit(std=math.inf),
        GaussianBandit(means=(1e6, -3e6)),
    ],
)
def test_pictures_of_all_kinds_of_arms(env):
    state = env.initial(random.key(0))
    frame = env.render(env.transition(state, torch.tensor(0), random.key(1)))
    assert (frame.shape, frame.dtype) == ((400, 640, 3), np.uint8)
