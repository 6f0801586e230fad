"""Exploring policies against their definitions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funcrl.core import random
from funcrl.ops import exploration

values = st.lists(st.integers(-3, 3), min_size=1, max_size=6)


@given(values, st.floats(0, 1))
def test_epsilon_greedy_is_its_definition(numbers, epsilon):
    best = [number == max(numbers) for number in numbers]
    expected = [epsilon / len(numbers) + (1 - epsilon) * b / sum(best) for b in best]
    found = exploration.epsilon_greedy(torch.tensor(numbers, dtype=torch.float64), epsilon)
    assert found.tolist() == pytest.approx(expected)


@given(values, st.floats(0.1, 10))
def test_boltzmann_is_its_definition(numbers, temperature):
    weights = [math.exp(number / temperature) for number in numbers]
    found = exploration.boltzmann(torch.tensor(numbers, dtype=torch.float64), temperature)
    assert found.tolist() == pytest.approx([weight / sum(weights) for weight in weights])


def test_a_tiny_temperature_is_greedy_and_not_nan():
    found = exploration.boltzmann(torch.tensor([-1e4, 3.0, 2.0]), 1e-30)
    assert found.tolist() == [0.0, 1.0, 0.0]


def test_actions_of_probability_zero_are_never_drawn():
    probabilities = torch.tensor([0.5, 0.0, 0.5, 0.0]).expand(5000, 4)
    drawn = exploration.sample(random.key(0), probabilities)
    assert torch.bincount(drawn, minlength=4)[[1, 3]].tolist() == [0, 0]
    assert float((drawn == 0).double().mean()) == pytest.approx(0.5, abs=0.03)
