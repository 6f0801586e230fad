"""Statistics that compare algorithms, against scipy and their definitions."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from funcrl import ops
from funcrl.core import random

NUMBERS = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=30)


def tensor(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@given(NUMBERS)
def test_the_median_is_numpys(numbers):
    assert float(ops.median(tensor(numbers))) == pytest.approx(np.median(numbers), abs=1e-12)


def test_the_median_does_not_hide_a_missing_value():
    assert ops.median(torch.tensor([1.0, torch.nan, 2.0])).isnan()


@given(NUMBERS, st.integers(-20, 20))
def test_the_optimality_gap_is_its_definition(numbers, target):
    naive = sum(max(target - x, 0.0) for x in numbers) / len(numbers)
    assert float(ops.optimality_gap(tensor(numbers), float(target))) == pytest.approx(naive, abs=1e-12)


@given(NUMBERS, NUMBERS)
def test_a_profile_is_its_definition(numbers, thresholds):
    naive = [sum(x > t for x in numbers) / len(numbers) for t in thresholds]
    found = ops.performance_profile(tensor(numbers), tensor(thresholds))
    assert found.tolist() == pytest.approx(naive, abs=1e-12)


@given(NUMBERS, NUMBERS)
def test_the_probability_of_improvement_is_mann_and_whitneys(numbers, others):
    reference = scipy.stats.mannwhitneyu(numbers, others).statistic / (len(numbers) * len(others))
    found = ops.probability_of_improvement(tensor(numbers), tensor(others))
    assert float(found) == pytest.approx(reference, abs=1e-12)
    back = ops.probability_of_improvement(tensor(others), tensor(numbers))
    assert float(found + back) == pytest.approx(1.0, abs=1e-12)


def test_the_probability_of_improvement_is_averaged_over_tasks():
    x, y = random.normal(random.key(0), (7, 3)).double(), random.normal(random.key(1), (5, 3)).double()
    each = [float(ops.probability_of_improvement(x[:, i], y[:, i])) for i in range(3)]
    assert float(ops.probability_of_improvement(x, y)) == pytest.approx(sum(each) / 3, abs=1e-12)
    with pytest.raises(ValueError, match=r"ops.probability_of_improvement: values and others must"):
        ops.probability_of_improvement(x, y[:, :2])


def middle_half_of_exponential():
    """The interquartile mean of the exponential distribution, in closed form."""
    part = lambda t: -(t + 1) * math.exp(-t)
    return (part(-math.log(0.25)) - part(-math.log(0.75))) / 0.5


@pytest.mark.parametrize("num", [16, 30])
def test_intervals_cover_the_truth_as_often_as_they_say(num):
    count = 3000  # the share that is found strays by 0.4 points
    draws = {
        0.0: random.normal(random.key(1), (num, count)),
        middle_half_of_exponential(): -torch.log1p(-random.uniform(random.key(2), (num, count))),
    }
    for truth, values in draws.items():
        low, high = ops.bootstrap_interval(random.key(3), values, num_resamples=600)
        covered = float(((low < truth) & (truth < high)).float().mean())
        assert 0.93 <= covered <= 0.97


def test_stratified_intervals_cover_the_truth_as_often_as_they_say():
    values = random.normal(random.key(1), (500, 16, 2)) * torch.tensor([1.0, 5.0]) + torch.tensor([0.0, 3.0])
    mean = lambda runs: runs.mean()
    ends = [
        ops.stratified_interval(k, [x], mean, num_resamples=400)
        for k, x in zip(random.split(random.key(2), 500), values, strict=True)
    ]
    covered = sum(float(low) < 1.5 < float(high) for low, high in ends) / 500
    assert 0.90 <= covered <= 0.97


def test_tasks_are_drawn_apart():
    # Two tasks whose runs cancel seed by seed: drawn together, their mean would always be 0.
    x = random.normal(random.key(0), (20, 1))
    low, high = ops.stratified_interval(random.key(1), [torch.cat([x, -x], dim=1)], lambda runs: runs.mean())
    assert float(high - low) > 0.1


def test_the_interval_of_a_comparison_agrees_with_scipy():
    x, y = random.normal(random.key(4), (12,)) + 0.5, random.normal(random.key(5), (15,))
    low, high = ops.stratified_interval(
        random.key(6), [x, y], ops.probability_of_improvement, num_resamples=9000
    )
    reference = scipy.stats.bootstrap(
        (x.numpy(), y.numpy()),
        lambda a, b, axis: (np.expand_dims(a, -1) > np.expand_dims(b, -2)).mean(axis=(-1, -2)),
        n_resamples=9000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert float(low) == pytest.approx(reference.low, abs=0.02)
    assert float(high) == pytest.approx(reference.high, abs=0.02)
