"""The tree of sums: sums right after any writes, places found in proportion, none with the number 0."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from funcrl.buffers import sum_tree
from funcrl.core import random

CPU = torch.device("cpu")
shapes = st.tuples(st.integers(1, 40), st.integers(2, 4), st.integers(1, 5))


def tree_of(numbers, width=sum_tree.WIDTH, top=sum_tree.TOP):
    numbers = torch.as_tensor(numbers, dtype=torch.float32)
    levels = sum_tree.init(numbers.shape[0], CPU, width, top)
    return sum_tree.write(levels, torch.arange(numbers.shape[0]), numbers)


@given(shapes, st.data())
@settings(max_examples=60, deadline=None)
def test_sums_after_any_writes(shape, data):
    size, width, top = shape
    numbers = np.zeros(size)
    levels = sum_tree.init(size, CPU, width, top)
    assert levels[-1].numel() <= top
    for _ in range(data.draw(st.integers(1, 4))):
        places = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=8, unique=True))
        values = data.draw(st.lists(st.floats(0, 100), min_size=len(places), max_size=len(places)))
        numbers[places] = values
        levels = sum_tree.write(levels, torch.tensor(places), torch.tensor(values))
    assert np.allclose(sum_tree.read(levels, torch.arange(size)), numbers)
    for lower, upper in itertools.pairwise(levels):
        assert torch.allclose(upper.flatten()[: lower.shape[0]], lower.sum(dim=-1))
    assert np.isclose(float(levels[-1].sum()), numbers.sum())


@given(shapes, st.data())
@settings(max_examples=60, deadline=None)
def test_shares_are_found_where_a_cumulative_sum_has_them(shape, data):
    size, width, top = shape
    numbers = data.draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))
    if not sum(numbers):
        return
    # Halfway between whole numbers, where no rounding matters.
    total = sum(numbers)
    share = (torch.arange(total, dtype=torch.float64) + 0.5) / total
    found = sum_tree.search(tree_of(numbers, width, top), share)
    assert found.tolist() == [place for place, number in enumerate(numbers) for _ in range(number)]


@pytest.mark.parametrize(("width", "top"), [(16, 4096), (16, 32), (3, 2)])
def test_frequencies(width, top):
    numbers = random.uniform(random.key(1), (500,)) ** 4
    share = random.uniform(random.key(2), (200_000,))
    counts = torch.bincount(sum_tree.search(tree_of(numbers, width, top), share), minlength=500)
    expected = numbers.double() / numbers.double().sum() * 200_000
    large = expected > 5
    pooled = lambda x: [*x[large].tolist(), x[~large].sum().item()]
    assert stats.chisquare(pooled(counts), pooled(expected)).pvalue > 1e-3


def test_places_of_zeros_are_never_found():
    """Whatever rounding does: shares at both ends of every number, and many numbers of many sizes."""
    numbers = torch.where(torch.arange(5000) % 3 == 0, 10.0 ** (torch.arange(5000) % 7 - 3), 0.0)
    cumulative = numbers.double().cumsum(0) / numbers.double().sum()
    share = torch.cat(
        [cumulative, cumulative.nextafter(torch.zeros(())), random.uniform(random.key(0), (5000,))]
    )
    for width, top in [(16, 4096), (16, 64), (2, 2)]:
        found = sum_tree.search(tree_of(numbers, width, top), share.clamp(0.0, 1.0 - 2.0**-40))
        assert bool((numbers[found] > 0).all())


def test_a_rounding_error_of_the_device_finds_no_zero(monkeypatch):
    """As on a GPU, where a cumulative sum may rise where a 0 is added."""
    cumsum = torch.Tensor.cumsum

    def risen(x, **how):
        return cumsum(x, **how) + torch.tensor([0.0, 1e-9, 0.0]) if x.shape == (3,) else cumsum(x, **how)

    levels = tree_of([1.0, 0.0, 1.0])
    monkeypatch.setattr(torch.Tensor, "cumsum", risen)
    share = torch.tensor([0.5 + 1e-12], dtype=torch.float64)
    assert sum_tree.search(levels, share).tolist() in ([0], [2])


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize(("width", "top"), [(16, 4096), (16, 4), (2, 2)])
def test_places_stay_inside_whatever_the_numbers(value, width, top):
    found = sum_tree.search(tree_of([value] * 48, width, top), torch.linspace(0, 0.999, 9))
    assert bool(((found >= 0) & (found < 64)).all())


def test_a_number_begins_where_those_before_it_end():
    """Half-open ranges: the share at which a number begins is its own, and never a 0's."""
    share = torch.tensor([0.0, 0.25, 0.625], dtype=torch.float64)
    for width, top in [(16, 4096), (2, 2), (2, 4)]:
        assert sum_tree.search(tree_of([0, 2, 0, 3, 3, 0], width, top), share).tolist() == [1, 3, 4]


def test_a_million_places_are_told_apart():
    """In float32 neither the threshold of a search nor the cumulative sum could tell neighbours apart."""
    numbers = 0.5 + random.uniform(random.key(0), (1_000_000,))
    end = numbers.double().cumsum(0)
    place = torch.arange(3, 1_000_000, 401)
    share = (end - 0.99 * numbers)[place] / end[-1]
    assert torch.equal(sum_tree.search(tree_of(numbers), share), place)
