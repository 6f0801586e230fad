"""Every bandit algorithm against the same one written naively: what it knows, and what it does."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funcrl.algos import bandits
from funcrl.core import random, tree
from tests.algos.bandits import table
from tests.algos.bandits.table import CASES, COINS, NORMAL

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
BY_NAME = {case.name: case for case in CASES}
NUM = 20_000
ALPHA = 1e-3

few = settings(max_examples=30, deadline=None)
whole_rewards = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 1.0])), max_size=12)
any_rewards = st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1, width=32)), max_size=12)

HISTORIES = {
    "nothing": [],
    "one pull": [(1, 1.0)],
    "ties": [(0, 1.0), (1, 1.0), (2, 0.0)],
    "each once": [(0, 0.0), (1, 1.0), (2, 0.5)],
    "long": [(0, 0.2), (1, 0.7), (2, 0.4), (1, 0.9), (0, 1.0), (1, 0.5), (2, 0.1), (1, 0.8)],
}


@cases
@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_arms_are_drawn_with_the_probabilities_of_the_definition(case, history):
    expected = case.policy(case.config, history, 3)
    assert expected.sum() == pytest.approx(1, abs=1e-4)
    action, extras = case.algorithm.act(case.after(history), torch.zeros(NUM), random.key(1))
    assert extras == {}
    counts = np.bincount(action.numpy(), minlength=3)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    if possible.sum() > 1:
        weights = expected[possible] / expected[possible].sum()
        assert scipy.stats.chisquare(counts[possible], weights * NUM).pvalue > ALPHA


@few
@given(any_rewards)
def test_sample_averages_and_greedy_arms_are_those_of_the_history(history):
    counts, means = table.sample_averages(history, 3)
    for name in ("epsilon_greedy", "decaying_epsilon", "ucb", "boltzmann"):
        state = BY_NAME[name].after(history)
        assert state.arms.count.tolist() == counts.tolist()
        assert np.allclose(state.arms.mean, means, atol=1e-6)
        arm = int(BY_NAME[name].algorithm.greedy(state, torch.zeros(())))
        assert means[arm] == pytest.approx(means.max(), abs=1e-6)


@few
@given(any_rewards)
def test_optimistic_values_are_2_5(history):
    case = BY_NAME["optimistic"]
    state = case.after(history)
    assert np.allclose(state.values, table.optimistic_values(case.config, history, 3), atol=1e-5)
    assert state.values[case.algorithm.greedy(state, torch.zeros(()))] == state.values.max()


@few
@given(any_rewards)
def test_beta_posteriors_count_successes_and_failures(history):
    case = BY_NAME["thompson_beta"]
    state = case.after(history)
    a, b = table.beta_parameters(case.config, history, 3)
    assert np.allclose(state.successes, a, atol=1e-5)
    assert np.allclose(state.failures, b, atol=1e-5)
    means = [scipy.stats.beta(*parameters).mean() for parameters in zip(a, b, strict=True)]
    arm = int(case.algorithm.greedy(state, torch.zeros(())))
    assert means[arm] == pytest.approx(max(means), abs=1e-5)
    if history:
        assert float(state.metrics["value"]) == pytest.approx(max(means), abs=1e-5)
        std = scipy.stats.beta(float(state.successes[arm]), float(state.failures[arm])).std()
        assert float(state.metrics["std"]) == pytest.approx(std, rel=1e-3)


@few
@given(any_rewards)
def test_normal_posteriors_are_those_of_the_textbook(history):
    case = BY_NAME["thompson_gaussian"]
    state = case.after(history)
    expected_mean, expected_std = table.normal_parameters(case.config, history, 3)
    mean, std = case.algorithm.posterior(case.config, state.arms)
    assert np.allclose(mean, expected_mean, atol=1e-5)
    assert np.allclose(std, expected_std, atol=1e-5)
    arm = int(case.algorithm.greedy(state, torch.zeros(())))
    assert expected_mean[arm] == pytest.approx(expected_mean.max(), abs=1e-5)
    if history:
        assert float(state.metrics["value"]) == pytest.approx(expected_mean.max(), abs=1e-5)
        assert float(state.metrics["std"]) == pytest.approx(expected_std[arm], rel=1e-4)


@few
@given(any_rewards)
def test_preferences_are_2_12(history):
    case = BY_NAME["gradient_bandit"]
    state = case.after(history)
    expected = table.preferences(case.config, history, 3)
    assert np.allclose(state.preferences, expected, atol=1e-5)
    arm = int(case.algorithm.greedy(state, torch.zeros(())))
    assert expected[arm] == pytest.approx(expected.max(), abs=1e-5)
    if history:
        assert float(state.baseline) == pytest.approx(np.mean([r for _, r in history]), abs=1e-5)


def test_a_posterior_by_hand():
    """Beta(1, 1), two successes and a failure of arm 0: Beta(3, 2) with mean 3/5, std 1/5."""
    case = BY_NAME["thompson_beta"]
    state = case.after([(0, 1), (0, 1), (0, 0)], case.algorithm.Config())
    assert (state.successes.tolist(), state.failures.tolist()) == ([3, 1, 1], [2, 1, 1])
    assert float(state.metrics["value"]) == pytest.approx(0.6)
    assert float(state.metrics["std"]) == pytest.approx(0.2)


def test_half_a_reward_is_half_a_success():
    state = BY_NAME["thompson_beta"].after([(1, 0.5)], bandits.thompson_beta.Config())
    assert (state.successes.tolist(), state.failures.tolist()) == ([1, 1.5, 1], [1, 1.5, 1])


def test_the_first_pull_moves_no_preference():
    state = BY_NAME["gradient_bandit"].after([(1, 7.0)])
    assert state.preferences.tolist() == [0, 0, 0]
    assert float(state.baseline) == 7.0


def test_epsilon_falls_as_1_over_t():
    """c K / (d² t) = 0.5 · 3 / 0.25 / t = 6 / t, capped at 1 up to the sixth pull."""
    case = BY_NAME["decaying_epsilon"]
    state = case.init()
    found = []
    for _ in range(8):
        state = case.algorithm.update(state, table.transition(0, 1.0))
        found.append(float(state.metrics["epsilon"]))
    assert found == pytest.approx([1] * 6 + [6 / 7, 6 / 8])


def test_the_bonus_of_ucb1_is_root_2_ln_t_over_n():
    config = bandits.ucb.Config()
    found = bandits.ucb.bonus(
        torch.tensor([1.0, 5.0]), torch.tensor(9.0), torch.tensor(config.exponent), torch.tensor(config.width)
    )
    assert found.tolist() == pytest.approx([math.sqrt(2 * math.log(9)), math.sqrt(2 * math.log(9) / 5)])


def test_ucb_pulls_every_arm_once_before_any_twice():
    case, seen = BY_NAME["ucb"], []
    for lane in range(20):
        state = case.init()
        arms = []
        for t in range(3):
            action, _ = case.algorithm.act(state, torch.zeros(()), random.key(100 * lane + t))
            arms.append(int(action))
            state = case.algorithm.update(state, table.transition(int(action), -5.0))
        assert sorted(arms) == [0, 1, 2]
        seen.append(tuple(arms))
    assert len(set(seen)) > 3


def test_metrics_by_hand():
    history = [(0, 1.0), (1, 0.0), (0, 0.5), (2, 0.5)]
    for name in ("epsilon_greedy", "decaying_epsilon", "ucb", "boltzmann"):
        metrics = BY_NAME[name].after(history).metrics
        assert (float(metrics["value"]), float(metrics["greedy_share"])) == (0.75, 0.5)
    bonus = BY_NAME["ucb"].after(history).metrics["bonus"]
    assert float(bonus) == pytest.approx(0.7 * math.sqrt(math.log(4) / 2))
    state = BY_NAME["optimistic"].after(history)
    values = table.optimistic_values(BY_NAME["optimistic"].config, history, 3)
    assert float(state.metrics["value"]) == pytest.approx(values.max())
    assert float(state.metrics["spread"]) == pytest.approx(np.ptp(values), rel=1e-5)
    history = [*history, (1, 1.0)]
    for name in ("gradient_bandit", "boltzmann"):
        policy = BY_NAME[name].policy(BY_NAME[name].config, history, 3)
        entropy = BY_NAME[name].after(history).metrics["entropy"]
        assert float(entropy) == pytest.approx(scipy.stats.entropy(policy), rel=1e-4)


@pytest.mark.parametrize("reward", [-0.01, 1.01, math.inf, math.nan])
def test_a_reward_that_is_no_probability_makes_its_lane_nan_and_no_other(reward):
    case = BY_NAME["thompson_beta"]
    lanes = tree.stack([case.after([(0, 1.0)]) for _ in range(3)])
    batches = tree.stack([table.transition(1, r) for r in (1.0, reward, 0.0)])
    after = torch.vmap(case.algorithm.update)(lanes, batches)
    for lane in (0, 2):
        assert all(leaf.isfinite().all() for leaf in tree.leaves(tree.index(after, lane)))
    broken = tree.index(after, 1)
    assert broken.successes.isnan().all()
    assert broken.failures.isnan().all()
    assert broken.metrics["value"].isnan()
    action, _ = torch.vmap(case.algorithm.act)(after, torch.zeros(3), random.split(random.key(0), 3))
    assert ((action >= 0) & (action < 3)).all()
    again = torch.vmap(case.algorithm.update)(after, tree.stack([table.transition(1, 1.0)] * 3))
    assert tree.index(again, 1).successes.isnan().all()


@cases
def test_the_best_arm_is_found(case):
    """60 lanes, 80 pulls; gaps of 0.8 or 2 are seen in a few pulls."""
    env = COINS if case.env == COINS else NORMAL
    config = {
        "optimistic": bandits.optimistic.Config(initial_value=2.0, epsilon=0.1),
        "decaying_epsilon": bandits.decaying_epsilon.Config(c=0.5, d=0.7),
        "boltzmann": bandits.boltzmann.Config(temperature=0.15),
    }.get(case.name, case.config)
    agents, regret = table.run(case, env, 60, 80, config)
    found = torch.vmap(case.algorithm.greedy)(agents, torch.zeros(60))
    assert float((found == 1).float().mean()) >= 0.95
    state = env.initial(random.key(0))
    uniform = 80 * (float(state.means.max()) - float(state.means.mean()))
    assert float(regret[-1].mean()) < 0.5 * uniform


def test_constant_epsilon_loses_epsilon_times_the_mean_gap_in_the_long_run():
    case = BY_NAME["epsilon_greedy"]
    _, regret = table.run(case, COINS, 300, 150)
    slope = (regret[-1] - regret[49]) / 100
    error = float(slope.std()) / 300**0.5
    assert float(slope.mean()) == pytest.approx(0.3 * 1.6 / 3, abs=4 * error)
