"""Averages of arms against Python's own."""

import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funcrl.ops import averages

pulls = st.lists(st.tuples(st.integers(0, 2), st.floats(-10, 10)), min_size=1, max_size=20)


@given(pulls)
def test_counts_and_means_are_those_of_the_rewards(history):
    arms = averages.averages(3)
    for arm, reward in history:
        arms = averages.update_average(arms, torch.tensor(arm), torch.tensor(reward))
    for arm in range(3):
        rewards = [reward for pulled, reward in history if pulled == arm]
        assert float(arms.count[arm]) == len(rewards)
        expected = statistics.fmean(rewards) if rewards else 0.0
        assert float(arms.mean[arm]) == pytest.approx(expected, abs=1e-5)


@given(pulls)
def test_greedy_share_is_that_of_the_first_best_arm(history):
    arms = averages.averages(3)
    for arm, reward in history:
        arms = averages.update_average(arms, torch.tensor(arm), torch.tensor(round(reward)))
    best = int(arms.mean.argmax())
    expected = sum(arm == best for arm, _ in history) / len(history)
    assert float(averages.greedy_share(arms)) == pytest.approx(expected)


def test_an_average_by_hand_and_lane_by_lane():
    lanes = torch.vmap(lambda _: averages.averages(2))(torch.zeros(3))
    for reward in (1.0, 4.0):
        rewards = torch.tensor([reward, 10 * reward, 0.0])
        lanes = torch.vmap(averages.update_average)(lanes, torch.tensor([0, 1, 1]), rewards)
    assert lanes.count.tolist() == [[2, 0], [0, 2], [0, 2]]
    assert lanes.mean.tolist() == [[2.5, 0], [0, 25], [0, 0]]


def test_is_arm_takes_several():
    assert averages.is_arm(torch.tensor([1, 0]), 2).tolist() == [[False, True], [True, False]]
