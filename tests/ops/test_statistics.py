"""Statistics against scipy, and schedules by hand."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from funcrl import ops
from funcrl.core import random
from funcrl.ops import schedules


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_iqm_equals_the_trimmed_mean(num, seed):
    values = random.normal(random.key(seed), (num, 3)).double()
    assert np.allclose(ops.iqm(values, dim=0), scipy.stats.trim_mean(values, 0.25, axis=0))


def test_iqm_does_not_hide_a_missing_value():
    assert ops.iqm(torch.tensor([1.0, torch.nan, 2.0, 3.0])).isnan()


def test_bootstrap_interval_agrees_with_scipy():
    values = random.normal(random.key(1), (16,)) * 50 + 400
    low, high = ops.bootstrap_interval(random.key(0), values, num_resamples=9000)
    reference = scipy.stats.bootstrap(
        (values.numpy(),),
        lambda x, axis: scipy.stats.trim_mean(x, 0.25, axis=axis),
        n_resamples=9000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert float(low) == pytest.approx(reference.low, abs=1.5)
    assert float(high) == pytest.approx(reference.high, abs=1.5)
    assert low < ops.iqm(values) < high


def test_bootstrap_interval_covers_columns_like_single_ones():
    values = random.normal(random.key(2), (12, 3))
    low, high = ops.bootstrap_interval(random.key(0), values, num_resamples=200)
    for column in range(3):
        one = ops.bootstrap_interval(random.key(0), values[:, column], num_resamples=200)
        assert torch.allclose(torch.stack(one), torch.stack([low[column], high[column]]))


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    draws = random.normal(random.key(3), (30, 300))
    low, high = ops.bootstrap_interval(random.key(4), draws, confidence=0.9, num_resamples=300)
    covered = float(((low < 0) & (high > 0)).float().mean())
    assert 0.8 < covered < 0.96


@pytest.mark.parametrize(("step", "expected"), [(0, 2.0), (5, 1.5), (10, 1.0), (99, 1.0)])
def test_linear_schedule(step, expected):
    assert float(schedules.linear(2.0, 1.0, 10.0, torch.tensor(step))) == pytest.approx(expected)


def test_linear_schedule_over_infinity_stays():
    assert float(schedules.linear(2.0, 1.0, torch.inf, torch.tensor(1000))) == 2.0
