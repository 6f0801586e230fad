"""Distributions against torch.distributions in float64."""

import math

import pytest
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


@given(seeds, st.integers(2, 7), st.data())
def test_gradients_with_impossible_classes_are_those_without_them(seed, num_actions, data):
    """A logit of -inf takes no gradient and leaves the others as if the class did not exist."""
    k_logits, k_other = random.split(random.key(seed), 2)
    logits, other = (random.normal(k, (num_actions,)).double() for k in (k_logits, k_other))
    ruled_out = torch.tensor(data.draw(st.permutations([True] + [False] * (num_actions - 1))))
    masked = logits.masked_fill(ruled_out, -torch.inf)
    masked_other = other.masked_fill(ruled_out, -torch.inf)
    kept = int((~ruled_out).nonzero()[0])
    index = int((~ruled_out[:kept]).sum())
    functions = [
        (ops.categorical_entropy, (masked,), (logits[~ruled_out],)),
        (ops.categorical_kl, (masked, masked_other), (logits[~ruled_out], other[~ruled_out])),
        (
            lambda x, at: ops.categorical_log_prob(x, at),
            (masked, torch.tensor(kept)),
            (logits[~ruled_out], torch.tensor(index)),
        ),
    ]
    for function, full, short in functions:
        floating = tuple(i for i, x in enumerate(full) if x.is_floating_point())
        found, expected = (torch.func.grad(function, argnums=floating)(*args) for args in (full, short))
        for slope, own in zip(found, expected, strict=True):
            assert slope[ruled_out].tolist() == [0.0]
            assert torch.allclose(slope[~ruled_out], own)
    torch_logits = masked.clone().requires_grad_()
    torch.distributions.Categorical(logits=torch_logits).entropy().backward()
    assert torch.allclose(torch.func.grad(ops.categorical_entropy)(masked), torch_logits.grad)


def test_gradients_where_only_p_rules_a_class_out():
    logits, other = torch.tensor([0.0, 1.0, -torch.inf]), torch.tensor([0.0, 0.0, 0.0])
    slopes = torch.func.grad(ops.categorical_kl, argnums=(0, 1))(logits, other)
    share = torch.softmax(logits, dim=-1)
    # ∂KL/∂(logits of q) = q - p, whatever p rules out.
    assert torch.allclose(slopes[1], torch.full((3,), 1 / 3) - share)
    assert slopes[0].isfinite().all()
    assert float(slopes[0][2]) == 0.0
    assert float(ops.categorical_kl(other, logits)) == torch.inf


@given(seeds, st.integers(1, 4))
def test_normal_equals_torch(seed, size):
    k_x, k_mean, k_std = random.split(random.key(seed), 3)
    x, mean, log_std = (random.normal(k, (5, size)).double() for k in (k_x, k_mean, k_std))
    p = torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)
    assert torch.allclose(ops.normal_log_prob(x, mean, log_std), p.log_prob(x))
    assert torch.allclose(ops.normal_entropy(log_std), p.entropy())
    q_mean, q_log_std = x, mean
    q = torch.distributions.Independent(torch.distributions.Normal(q_mean, q_log_std.exp()), 1)
    expected = torch.distributions.kl_divergence(p, q)
    assert torch.allclose(ops.normal_kl(mean, log_std, q_mean, q_log_std), expected)


def test_the_divergence_of_normals_keeps_its_digits_near_zero():
    """KL = δ² to second order where only log σ differs, by δ."""
    zero, delta = torch.zeros(1), torch.full((1,), 1e-3)
    assert torch.allclose(ops.normal_kl(zero, delta, zero, zero), delta[0] ** 2, rtol=2e-3)


@given(st.floats(-18, 18))
def test_the_slope_of_tanh_is_its_definition(x):
    found = ops.tanh_log_slope(torch.tensor(x, dtype=torch.float64))
    assert float(found) == pytest.approx(-2 * math.log(math.cosh(x)), rel=1e-8, abs=1e-12)


@given(seeds, st.integers(1, 4), st.floats(0.1, 5))
def test_bernoulli_equals_torch(seed, size, scale):
    k_p, k_q, k_value = random.split(random.key(seed), 3)
    logits, others = (scale * random.normal(k, (5, size)).double() for k in (k_p, k_q))
    value = random.randint(k_value, (5, size), 0, 2)
    p, q = (
        torch.distributions.Independent(torch.distributions.Bernoulli(logits=x), 1) for x in (logits, others)
    )
    assert torch.allclose(ops.bernoulli_log_prob(logits, value), p.log_prob(value.double()))
    assert torch.allclose(ops.bernoulli_entropy(logits), p.entropy())
    # Not beyond: torch's own divergence loses the logarithm of a probability near 1, and becomes infinite.
    assert torch.allclose(
        ops.bernoulli_kl(logits, others), torch.distributions.kl_divergence(p, q), atol=1e-6
    )


def test_coins_that_are_certain_make_no_nan():
    logits = torch.tensor([torch.inf, -torch.inf])
    assert float(ops.bernoulli_log_prob(logits, torch.tensor([1, 0]))) == 0.0
    assert float(ops.bernoulli_entropy(logits)) == 0.0
    assert float(ops.bernoulli_kl(logits, logits)) == 0.0
    assert float(ops.bernoulli_kl(torch.zeros(2), logits)) == torch.inf
