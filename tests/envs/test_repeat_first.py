"""RepeatFirst against a naive walk, and what can be had in it; CartPole of which only positions are seen."""

import numpy as np
import pytest
import torch

from funcrl import envs
from funcrl.core import random, tree
from funcrl.envs.checking import check_env
from funcrl.envs.repeat_first import RepeatFirst, Symbols
from tests.envs import own
from tests.envs.classic import assert_stays_on_its_device


def actions(num_steps, num_envs, num=3, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, num, (num_steps, num_envs)))


def test_every_step_pays_for_the_symbol_of_the_first():
    env = RepeatFirst(num_symbols=3, length=7, right_reward=2.0, wrong_reward=-0.5)
    taken = actions(140, 20)
    _, rows = own.rollout(env, taken)
    seen = set()
    for lane in range(20):
        for t in range(140):
            *symbols, begins = rows.obs[t, lane].tolist()
            assert sorted(symbols) == [0.0, 0.0, 1.0]
            assert bool(begins) == (t % 7 == 0)
            if begins:
                first = symbols.index(1.0)
            seen.add((first, symbols.index(1.0), bool(begins)))
            assert float(rows.reward[t, lane]) == (2.0 if int(taken[t, lane]) == first else -0.5)
            assert bool(rows.terminated[t, lane]) == (t % 7 == 6)
            assert not rows.truncated[t, lane]
    # Each as the first, and after each of them every other.
    assert len(seen) == 3 + 9


def test_symbols_are_drawn_independently_and_equally_often():
    env = RepeatFirst(num_symbols=4, length=2)
    before, _ = own.rollout(env, actions(2, 4000, 4))
    pairs = (4 * before.inner.first[1] + before.inner.now[1]).bincount(minlength=16) / 4000
    assert (pairs - 1 / 16).abs().max() < 0.02


def test_with_a_memory_all_is_to_be_had_and_without_one_the_first():
    env = RepeatFirst(num_symbols=4, length=8)
    states, _ = own.rollout(env, actions(8, 3000, 4))
    _, rows = own.rollout(env, states.inner.first)
    assert (rows.episode_return[-1] == 8.0).all()
    _, rows = own.rollout(env, states.inner.now)
    assert abs(float(rows.episode_return[-1].mean()) - (1 + 7 / 4)) < 0.1


def test_numbers_may_differ_between_lanes_and_it_traces():
    others = {"right_reward": 2.0, "wrong_reward": -3.0}
    own.assert_every_number_can_differ_between_lanes(RepeatFirst(length=5), actions(30, 30), others)
    own.assert_compiled_equals_eager(RepeatFirst(length=3), actions(20, 20))
    assert_stays_on_its_device(RepeatFirst(), 1)
    check_env(RepeatFirst(length=4), num_steps=50)


def test_pictures():
    numbers = [(0, 0, 0), (0, 2, 3), (1, 2, 3), (1, 2, 20)]
    own.assert_pictures(RepeatFirst(), [Symbols(*map(torch.tensor, row)) for row in numbers])


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"length": 0}, ValueError),
        ({"length": 101}, ValueError),
        ({"num_symbols": 1}, ValueError),
        ({"right_reward": float("nan")}, ValueError),
    ],
)
def test_what_cannot_be_is_refused(params, error):
    with pytest.raises(error, match="RepeatFirst: "):
        RepeatFirst(**params)


def test_cartpole_that_shows_positions_is_cartpole_in_all_else():
    whole, part = envs.make("CartPole-v1"), envs.make("PositionOnlyCartPole-v0")
    taken = actions(60, 30, 2)
    before, rows = own.rollout(whole, taken)
    blind, seen = own.rollout(part, taken)
    assert torch.equal(seen.obs, rows.obs[..., [0, 2]])
    assert torch.equal(seen.next_obs, rows.next_obs[..., [0, 2]])
    assert torch.equal(blind.inner, before.inner)
    for name in ("reward", "terminated", "truncated", "episode_return"):
        assert torch.equal(getattr(seen, name), getattr(rows, name))
    assert rows.terminated.any()
    narrow = envs.make("PositionOnlyCartPole-v0", x_threshold=1.0, angle_threshold=0.1)
    assert narrow.observation_space.high.tolist() == pytest.approx([2.0, 0.2])
    state = part.initial(random.key(0))
    assert np.array_equal(part.render(state), whole.render(state))
    assert tree.replace(part, force=2.0).observation(state, random.key(0)).shape == (2,)
