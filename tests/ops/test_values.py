"""Losses and targets of action values against their definitions, written naively in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funcrl import ops
from funcrl.core import random

seeds = st.integers(0, 2**31)
thresholds = st.sampled_from([0.1, 1.0, 2.5, math.inf])


def normal(seed, *shape, scale=1.0):
    return scale * random.normal(random.key(seed), shape).double()


def softmax(seed, *shape):
    return torch.softmax(normal(seed, *shape, scale=3.0), dim=-1)


def naive_huber(error, threshold):
    size = abs(error)
    return 0.5 * error**2 if size <= threshold else threshold * (size - 0.5 * threshold)


@given(seeds, thresholds)
def test_huber_equals_its_definition(seed, threshold):
    error = normal(seed, 20, scale=3.0)
    expected = [naive_huber(x, threshold) for x in error.tolist()]
    assert torch.allclose(ops.huber(error, threshold), torch.tensor(expected).double())
    assert torch.allclose(ops.huber(error, torch.tensor(threshold)), torch.tensor(expected).double())


@pytest.mark.parametrize("threshold", [0.5, 1.0, math.inf])
def test_the_gradient_of_huber_is_the_clipped_error(threshold):
    error = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
    gradient = torch.func.grad(lambda x: ops.huber(x, torch.tensor(threshold)).sum())(error)
    assert torch.equal(gradient, error.clamp(-threshold, threshold))


def test_huber_by_hand():
    assert ops.huber(torch.tensor([0.5, 2.0, -5.0]), 2.0).tolist() == [0.125, 2.0, 8.0]
    assert ops.huber(torch.tensor([0.5, 2.0, -4.0]), math.inf).tolist() == [0.125, 2.0, 8.0]


def naive_quantile_huber(error, level, threshold):
    size = abs(error) if threshold == 0 else naive_huber(error, threshold)
    return abs(level - (1.0 if error < 0 else 0.0)) * size


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0, torch.tensor(0.0), torch.tensor(0.7)])
def test_quantile_regression_has_the_mean_loss_of_all_pairs_and_its_gradient(threshold):
    """A gradient that is written out is that of differentiating, through lanes and weights."""
    k_own, k_goal = random.split(random.key(3), 2)
    own = random.normal(k_own, (2, 3, 5)).double()
    goals = random.normal(k_goal, (2, 3, 7)).double()
    weight = torch.tensor([1.0, 0.3, 2.0]).double()
    level = (torch.arange(5).double() + 0.5) / 5

    def pairs(own, goals):
        error = goals.unsqueeze(-2) - own.unsqueeze(-1)
        return ops.quantile_huber(error, level.unsqueeze(-1), threshold).mean(dim=-1)

    assert torch.allclose(ops.quantile_regression(own, goals, threshold), pairs(own, goals))
    by = lambda loss: torch.vmap(torch.func.grad(lambda x, y: (weight * loss(x, y).sum(-1)).sum()))(
        own, goals
    )
    assert torch.allclose(by(lambda x, y: ops.quantile_regression(x, y, threshold)), by(pairs))


@given(seeds, st.sampled_from([0.0, 0.1, 1.0, math.inf]))
def test_quantile_huber_equals_its_definition(seed, threshold):
    error = normal(seed, 4, 5, scale=2.0)
    level = random.uniform(random.key(seed), (5,)).double()
    expected = [
        [naive_quantile_huber(float(u), float(q), threshold) for u, q in zip(row, level, strict=True)]
        for row in error
    ]
    found = ops.quantile_huber(error, level, torch.tensor(threshold))
    assert torch.allclose(found, torch.tensor(expected).double())


def test_the_quantile_loss_is_least_at_the_quantile():
    # Of 0, 1, …, 10 the quantile of level 0.25 is 2: a quarter of 11 is 2.75, and 3 numbers are at most 2.
    data, candidates = torch.arange(11.0), torch.linspace(0, 10, 101)
    mean = lambda x: ops.quantile_huber(data - x, torch.tensor(0.25), 0.0).mean()
    losses = torch.vmap(mean)(candidates)
    assert candidates[losses.argmin()] == 2.0


@pytest.mark.parametrize("threshold", [0.0, 1.0, math.inf])
def test_the_gradient_of_the_quantile_loss_is_finite(threshold):
    gradient = torch.func.grad(
        lambda u: ops.quantile_huber(u, torch.tensor(0.3), torch.tensor(threshold)).sum()
    )(torch.tensor([-1e4, -1.0, 0.0, 1.0, 1e4]))
    assert gradient.isfinite().all()
    assert gradient[0] < 0 < gradient[-1]


def naive_projection(values, probabilities, support):
    """Algorithm 1, with the whole mass to the atom that a value falls on."""
    num_atoms, low, high = len(support), support[0], support[-1]
    result = torch.zeros(len(values), num_atoms, dtype=torch.float64)
    for row in range(len(values)):
        for value, mass in zip(values[row].tolist(), probabilities[row].tolist(), strict=True):
            place = (
                (min(max(value, float(low)), float(high)) - float(low)) / float(high - low) * (num_atoms - 1)
            )
            below, above = math.floor(place), math.ceil(place)
            if below == above:
                result[row, below] += mass
            else:
                result[row, below] += mass * (above - place)
                result[row, above] += mass * (place - below)
    return result


@given(seeds, st.integers(1, 9), st.integers(2, 60), st.floats(-20, 20), st.floats(0.5, 200))
def test_the_projection_equals_algorithm_1(seed, num_values, num_atoms, low, width):
    support = torch.linspace(low, low + width, num_atoms, dtype=torch.float64)
    values = low + 0.5 * width + normal(seed, 3, num_values, scale=width)
    # Some on an atom, and on both ends.
    values = torch.cat([values, support[:1].expand(3, 1), support[seed % num_atoms].expand(3, 1)], dim=-1)
    values = torch.cat([values, support[-1:].expand(3, 1)], dim=-1)
    probabilities = softmax(seed + 1, *values.shape)
    found = ops.categorical_projection(values, probabilities, support)
    assert torch.allclose(found, naive_projection(values, probabilities, support))
    assert torch.allclose(found.sum(dim=-1), torch.ones(3).double())


@given(seeds)
def test_the_projection_keeps_the_mean_of_what_lies_within(seed):
    support = torch.linspace(-2, 3, 11, dtype=torch.float64)
    values = -2 + 5 * random.uniform(random.key(seed), (4, 7)).double()
    probabilities = softmax(seed, 4, 7)
    found = ops.categorical_projection(values, probabilities, support)
    assert torch.allclose((found * support).sum(-1), (probabilities * values).sum(-1))


def test_projecting_atoms_onto_themselves_changes_nothing():
    support = torch.linspace(-100.0, 100.0, 51)
    probabilities = softmax(0, 8, 51).float()
    found = ops.categorical_projection(support.expand(8, 51), probabilities, support)
    assert torch.allclose(found, probabilities, atol=1e-5)


def test_the_projection_by_hand():
    # Onto 0, 2, 4: 3 is half 2 and half 4; 9 is clipped to 4; -1 to 0; 0.5 is ¾ 0 and ¼ 2.
    values = torch.tensor([3.0, 9.0, -1.0, 0.5])
    found = ops.categorical_projection(
        values, torch.tensor([0.4, 0.1, 0.1, 0.4]), torch.tensor([0.0, 2.0, 4.0])
    )
    assert torch.allclose(found, torch.tensor([0.4, 0.3, 0.3]))


def test_the_projection_over_lanes_that_differ_in_their_ends():
    unit = torch.linspace(0, 1, 5)
    values, probabilities, widths = normal(0, 3, 2, 4), softmax(1, 3, 2, 4), torch.tensor([1.0, 2.0, 3.0])
    lane = lambda v, p, width: ops.categorical_projection(v, p, width * unit)
    together = torch.vmap(lane)(values, probabilities, widths)
    for i in range(3):
        assert torch.allclose(together[i], lane(values[i], probabilities[i], widths[i]))


def test_a_projection_needs_two_atoms_and_a_mass_for_each_value():
    with pytest.raises(ValueError, match=r"support must have at least two atoms, got \(1,\)"):
        ops.categorical_projection(torch.ones(3), torch.ones(3), torch.ones(1))
    with pytest.raises(ValueError, match=r"probabilities must have the shape \(3,\) of values, got \(2,\)"):
        ops.categorical_projection(torch.ones(3), torch.ones(2), torch.ones(4))


@given(seeds, st.integers(1, 10**6), st.sampled_from([0.0, 0.4, 1.0]))
def test_importance_weights_equal_their_definition(seed, count, exponent):
    probability = softmax(seed, 12)
    raw = [(count * p) ** -exponent for p in probability.tolist()]
    expected = torch.tensor([w / max(raw) for w in raw]).double()
    assert torch.allclose(ops.importance_weights(probability, exponent), expected)
    assert torch.allclose(ops.importance_weights(7.0 * probability, torch.tensor(exponent)), expected)


def test_of_action_by_hand():
    values = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [torch.nan, torch.nan]]])
    assert ops.of_action(values, torch.tensor([1, 0])).tolist() == [[3.0, 4.0], [5.0, 6.0]]


@given(seeds, st.integers(1, 4), st.integers(1, 5))
def test_of_action_is_indexing(seed, num_actions, size):
    values = normal(seed, 6, num_actions, size)
    action = random.randint(random.key(seed), (6,), 0, num_actions)
    assert torch.equal(ops.of_action(values, action), values[torch.arange(6), action])


def test_importance_weights_by_hand():
    assert ops.importance_weights(torch.tensor([0.1, 0.2, 0.4]), 1.0).tolist() == [1.0, 0.5, 0.25]
    assert ops.importance_weights(torch.tensor([0.1, 0.2, 0.4]), 0.0).tolist() == [1.0, 1.0, 1.0]
