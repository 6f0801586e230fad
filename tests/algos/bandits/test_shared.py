"""What all bandit algorithms promise, beside the contracts of every algorithm."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from funcrl import envs
from funcrl.algos import bandits
from funcrl.core import random, tree
from funcrl.envs.bernoulli_bandit import BernoulliBandit
from funcrl.envs.gaussian_bandit import GaussianBandit
from tests.algos.bandits import table
from tests.algos.bandits.table import CASES

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
KEY = random.key(5)
HISTORY = [(0, 1.0), (2, 0.0), (1, 0.5)]


@cases
def test_actions_have_the_shape_of_the_observations(case):
    state = case.after(HISTORY)
    for shape in ((), (1,), (4,), (2, 3)):
        obs = torch.zeros(shape, dtype=torch.int64)
        action, extras = case.algorithm.act(state, obs, KEY)
        assert (action.shape, action.dtype, extras) == (obs.shape, torch.int64, {})
        greedy = case.algorithm.greedy(state, obs)
        assert (greedy.shape, greedy.dtype) == (obs.shape, torch.int64)
        assert len(set(greedy.flatten().tolist())) == 1


@cases
def test_an_untried_bandit_tries_every_arm(case):
    """Behaviour breaks ties at random, and each observation has a draw of its own."""
    action, _ = case.algorithm.act(case.init(), torch.zeros(300), KEY)
    counts = np.bincount(action.numpy(), minlength=3)
    assert counts.min() > 60


@cases
def test_one_arm_is_enough(case):
    env = BernoulliBandit(means=(0.5,))
    state = case.after([(0, 1.0), (0, 0.0)], env=env)
    assert int(case.algorithm.act(state, torch.zeros(()), KEY)[0]) == 0
    assert all(value.isfinite() for value in state.metrics.values())


@cases
def test_nothing_is_made_on_another_device(case):
    """On the meta device, where the CPU's tensors would not mix with its own."""
    meta = lambda value: tree.map(lambda leaf: leaf.to("meta"), value)
    state = meta(case.after(HISTORY))
    updated = case.algorithm.update(state, meta(table.transition(0, 1.0)))
    action, _ = case.algorithm.act(updated, torch.zeros(2, device="meta"), KEY.to("meta"))
    greedy = case.algorithm.greedy(updated, torch.zeros(2, device="meta"))
    begun = case.algorithm.init(KEY.to("meta"), case.config, case.env)
    assert {x.device.type for x in tree.leaves((updated, action, greedy, begun))} == {"meta"}


@cases
def test_several_pulls_at_once_are_refused(case):
    batch = tree.stack([table.transition(0, 1.0)] * 2)
    with pytest.raises(ValueError, match=rf"{case.name}\.update: batch\.action must be one number"):
        case.algorithm.update(case.init(), batch)
    one = table.transition(0, 1.0)
    with pytest.raises(ValueError, match=rf"{case.name}\.update: batch\.reward must be one number"):
        case.algorithm.update(case.init(), tree.replace(one, reward=torch.ones(1)))


def world(actions):
    return SimpleNamespace(observation_space=spaces.Discrete(1), action_space=actions)


def no_arms():
    space = spaces.Discrete(1)
    space.n = np.int64(0)
    return space


@cases
@pytest.mark.parametrize(
    ("env", "words"),
    [
        (envs.make("Pendulum-v1"), r"env\.action_space must be Discrete \(counted from 0\)"),
        (world(spaces.Discrete(3, start=1)), r"env\.action_space must be Discrete \(counted from 0\)"),
        (world(no_arms()), r"env\.action_space must have at least one arm"),
        (envs.make("CartPole-v1"), r"env\.observation_space must be Discrete\(1\)"),
        (envs.make("CliffWalking-v1"), r"env\.observation_space must be Discrete\(1\)"),
    ],
    ids=["continuous", "from one", "no arms", "vectors", "states"],
)
def test_what_is_no_bandit_is_refused(case, env, words):
    with pytest.raises(ValueError, match=rf"^{case.name}\.init: {words}"):
        case.init(env=env)


@pytest.mark.parametrize("limits", [(-math.inf, math.inf), (0.0, 2.0), (-1.0, 1.0), (0.0, math.nan)])
def test_thompson_beta_refuses_rewards_that_are_no_probabilities(limits):
    env = world(spaces.Discrete(2))
    env.reward_range = limits
    with pytest.raises(ValueError, match=r"env\.reward_range must lie in \[0, 1\].*thompson_gaussian"):
        bandits.thompson_beta.init(KEY, bandits.thompson_beta.Config(), env)
    with pytest.raises(ValueError, match="reward_range"):
        bandits.thompson_beta.init(KEY, bandits.thompson_beta.Config(), GaussianBandit())


def test_thompson_beta_takes_an_environment_that_does_not_tell_its_rewards():
    state = bandits.thompson_beta.init(KEY, bandits.thompson_beta.Config(), world(spaces.Discrete(2)))
    assert state.successes.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("epsilon_greedy", {"epsilon": 1.1}),
        ("decaying_epsilon", {"c": -1.0}),
        ("decaying_epsilon", {"d": 0.0}),
        ("decaying_epsilon", {"d": 1.5}),
        ("optimistic", {"step_size": 2.0}),
        ("optimistic", {"epsilon": -0.1}),
        ("optimistic", {"initial_value": math.nan}),
        ("optimistic", {"initial_value": math.inf}),
        ("ucb", {"exponent": -1.0}),
        ("ucb", {"width": -1.0}),
        ("thompson_beta", {"prior_successes": 0.0}),
        ("thompson_beta", {"prior_failures": math.inf}),
        ("thompson_gaussian", {"noise_std": 0.0}),
        ("thompson_gaussian", {"prior_std": math.inf}),
        ("thompson_gaussian", {"prior_mean": math.nan}),
        ("gradient_bandit", {"step_size": -0.1}),
        ("boltzmann", {"temperature": 0.0}),
    ],
)
def test_impossible_settings_are_refused(name, params):
    ((field, value),) = params.items()
    unbounded = field in ("initial_value", "prior_mean")
    hold = "be finite" if unbounded else "lie in"
    with pytest.raises(ValueError, match=rf"^{name}\.Config: {field} must {hold}.*, got {value}"):
        getattr(bandits, name).Config(**params)
