"""Distributions against torch.distributions in float64."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from funcrl import ops
from funcrl.core import random

seeds = st.integers(0, 2**31)


@given(seeds, st.integers(1, 7), st.floats(0.1, 20))
def test_categorical_equals_torch(seed, num_actions, scale):
    k_logits, k_other, k_index = random.split(random.key(seed), 3)
    logits = scale * random.normal(k_logits, (5, num_actions)).double()
    others = scale * random.normal(k_other, (5, num_actions)).double()
    index = random.randint(k_index, (5,), 0, num_actions)
    p = torch.distributions.Categorical(logits=logits)
    q = torch.distributions.Categorical(logits=others)
    assert torch.allclose(ops.categorical_log_prob(logits, index), p.log_prob(index))
    assert torch.allclose(ops.categorical_entropy(logits), p.entropy())
    assert torch.allclose(ops.categorical_kl(logits, others), torch.distributions.kl_divergence(p, q))


def test_an_impossible_class_makes_no_nan():
    logits = torch.tensor([0.0, -torch.inf])
    assert float(ops.categorical_log_prob(logits, torch.tensor(0))) == 0.0
    assert float(ops.categorical_entropy(logits)) == 0.0
    assert float(ops.categorical_kl(logits, torch.zeros(2))) > 0.0


@given(seeds, st.integers(1, 4))
def test_normal_equals_torch(seed, size):
    k_x, k_mean, k_std = random.split(random.key(seed), 3)
    x, mean, log_std = (random.normal(k, (5, size)).double() for k in (k_x, k_mean, k_std))
    p = torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)
    assert torch.allclose(ops.normal_log_prob(x, mean, log_std), p.log_prob(x))
    assert torch.allclose(ops.normal_entropy(log_std), p.entropy())
