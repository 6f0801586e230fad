"""Prefix sums and recurrences equal the loops that they replace."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from funcrl.core import loops, random


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_prefix_sum_equals_cumsum(length, seed):
    x = random.normal(random.key(seed), (3, length)).double()
    assert torch.allclose(loops.prefix_sum(x, dim=-1), x.cumsum(-1))


@given(st.integers(1, 70), st.booleans(), st.integers(0, 2**31))
def test_recurrence_equals_the_loop(length, reverse, seed):
    k_factor, k_term = random.split(random.key(seed), 2)
    factor = random.uniform(k_factor, (length, 2), -1, 1).double()
    term = random.normal(k_term, (length, 2)).double()
    order = range(length - 1, -1, -1) if reverse else range(length)
    expected, x = torch.zeros_like(term), torch.zeros(2, dtype=torch.float64)
    for t in order:
        x = term[t] + factor[t] * x
        expected[t] = x
    assert torch.allclose(loops.linear_recurrence(factor, term, reverse=reverse), expected)
