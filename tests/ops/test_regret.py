"""Regret and its bounds against their definitions, written naively in float64."""

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funcrl.ops import regret

probabilities = st.floats(0.0, 1.0)
means_of_arms = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.9, 1.0]), min_size=1, max_size=6)


def float64(x):
    return torch.tensor(x, dtype=torch.float64)


def naive_bernoulli_kl(p, q):
    total = 0.0
    for of_p, of_q in ((p, q), (1 - p, 1 - q)):
        if of_p > 0:
            total += math.inf if of_q == 0 else of_p * math.log(of_p / of_q)
    return total


def naive_gaussian_kl(mean, other, std):
    return (mean - other) ** 2 / (2 * std**2)


def naive_lai_robbins(means, divergence):
    best = max(means)
    return sum((best - mean) / divergence(mean, best) for mean in means if mean < best)


def naive_ucb1_bound(means, t):
    differences = [max(means) - mean for mean in means]
    return 8 * sum(math.log(t) / d for d in differences if d > 0) + (1 + math.pi**2 / 3) * sum(differences)


@given(probabilities, probabilities)
def test_bernoulli_kl_is_its_definition(p, q):
    expected = naive_bernoulli_kl(p, q)
    assert float(regret.bernoulli_kl(float64(p), float64(q))) == pytest.approx(expected, rel=1e-6, abs=1e-13)


@pytest.mark.parametrize("difference", [-0.01, 0.01, -1e-4, 1e-4])
def test_bernoulli_kl_keeps_its_digits_in_float32_where_both_coins_are_alike(difference):
    p = torch.linspace(0.02, 0.98, 500)
    q = p + difference
    for of_p, of_q, found in zip(p.tolist(), q.tolist(), regret.bernoulli_kl(p, q).tolist(), strict=True):
        assert found == pytest.approx(naive_bernoulli_kl(of_p, of_q), rel=1e-2)


def test_bernoulli_kl_at_the_ends():
    p, q = float64([0.0, 1.0, 0.0, 1.0, 0.5, 0.5, 0.3]), float64([0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.3])
    found = regret.bernoulli_kl(p, q)
    assert found.tolist() == [0.0, 0.0, math.inf, math.inf, math.inf, math.inf, 0.0]


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0.1, 5))
def test_gaussian_kl_is_its_definition(mean, other, std):
    found = regret.gaussian_kl(float64(mean), float64(other), std)
    assert float(found) == pytest.approx(naive_gaussian_kl(mean, other, std))


@given(means_of_arms)
def test_gaps_are_distances_to_the_best(means):
    assert regret.gaps(float64(means)).tolist() == [max(means) - mean for mean in means]


@given(means_of_arms)
def test_lai_robbins_is_its_definition_for_coins(means):
    found = regret.lai_robbins(float64(means), regret.bernoulli_kl)
    assert float(found) == pytest.approx(naive_lai_robbins(means, naive_bernoulli_kl))


@given(means_of_arms, st.floats(0.1, 5))
def test_lai_robbins_is_its_definition_for_normal_rewards(means, std):
    found = regret.lai_robbins(float64(means), functools.partial(regret.gaussian_kl, std=std))
    divergence = functools.partial(naive_gaussian_kl, std=std)
    assert float(found) == pytest.approx(naive_lai_robbins(means, divergence))


def test_lai_robbins_by_hand():
    """(0.5 - 0.25) / (0.25 ln 0.5 + 0.75 ln 1.5); the second best arm adds nothing."""
    expected = 0.25 / (0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    found = regret.lai_robbins(float64([0.25, 0.5, 0.5]), regret.bernoulli_kl)
    assert float(found) == pytest.approx(expected)
    assert float(regret.lai_robbins(float64([0.5, 0.5]), regret.bernoulli_kl)) == 0.0


def test_an_arm_that_always_pays_is_found_at_no_cost_in_the_long_run():
    assert float(regret.lai_robbins(float64([0.5, 1.0]), regret.bernoulli_kl)) == 0.0


@given(means_of_arms, st.integers(1, 10**6))
def test_ucb1_bound_is_theorem_1(means, t):
    found = regret.ucb1_bound(float64(means), float64(float(t)))
    assert float(found) == pytest.approx(naive_ucb1_bound(means, t))


def test_ucb1_bound_broadcasts_over_times_and_bandits():
    means = float64([[0.1, 0.5], [0.2, 0.25]])
    times = float64([10.0, 100.0, 1000.0])
    found = regret.ucb1_bound(means, times.unsqueeze(-1))
    for i, t in enumerate((10, 100, 1000)):
        for j, row in enumerate(means.tolist()):
            assert float(found[i, j]) == pytest.approx(naive_ucb1_bound(row, t))
    assert regret.ucb1_bound(means[0], times).shape == (3,)


def test_everything_takes_lanes():
    means = torch.rand(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for function in (
        regret.gaps,
        lambda x: regret.lai_robbins(x, regret.bernoulli_kl),
        lambda x: regret.ucb1_bound(x, torch.full((), 9.0, dtype=x.dtype)),
    ):
        together = torch.vmap(function)(means)
        assert torch.equal(together, function(means))
        for lane in range(4):
            assert torch.allclose(together[lane], function(means[lane]))
