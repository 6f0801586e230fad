"""Processes: where they come from, and what is refused."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from funcrl import envs
from funcrl.algos.planning import Mdp
from funcrl.core import jit, random, tree
from funcrl.envs.tabular import Outcomes

TWO = np.array([[[0.5, 0.5], [0.0, 1.0]], [[1.0, 0.0], [0.25, 0.75]]])
PAID = np.array([[1.0, 2.0], [3.0, 4.0]])


def same(a, b, tolerance=1e-12):
    for name, leaf in tree.named_leaves(a).items():
        np.testing.assert_allclose(leaf, tree.named_leaves(b)[name], atol=tolerance, rtol=0, err_msg=name)


def test_everything_is_float64_and_sizes_are_read_off():
    mdp = Mdp.from_tensors(TWO.astype(np.float32), PAID.tolist())
    assert all(leaf.dtype == torch.float64 for leaf in tree.leaves(mdp))
    assert (mdp.num_states, mdp.num_actions, mdp.num_lanes) == (2, 2, None)
    assert mdp.observation_space == mdp.action_space == spaces.Discrete(2)
    assert mdp.initial.tolist() == [0.5, 0.5]
    assert not mdp.terminated.any()


def test_three_ways_to_say_where_it_ends():
    by_state = Mdp.from_tensors(TWO, PAID, [False, True])
    np.testing.assert_allclose(by_state.terminated, TWO * [0, 1])
    np.testing.assert_allclose(by_state.continuing, TWO * [1, 0])
    by_outcome = Mdp.from_tensors(TWO, PAID, np.broadcast_to([False, True], (2, 2, 2)))
    same(by_state, by_outcome)
    halves = Mdp.from_tensors(TWO, PAID, np.full((2, 2, 2), 0.5))
    np.testing.assert_allclose(halves.terminated, TWO / 2)


def test_rewards_of_outcomes_are_averaged_by_their_probability():
    triple = np.arange(8.0).reshape(2, 2, 2)
    mdp = Mdp.from_tensors(TWO, triple)
    assert mdp.reward.tolist() == [[0.5, 3.0], [4.0, 0.25 * 6 + 0.75 * 7]]


def test_thirds_in_float32_become_thirds():
    third = torch.full((3, 1, 3), 1 / 3)
    assert (Mdp.from_tensors(third, torch.zeros(3, 1)).transition == 1 / 3).all()


def test_lanes_may_share_a_table_or_have_their_own():
    both = Mdp.from_tensors(np.stack([TWO, TWO[::-1]]), PAID, [False, True], np.array([[1.0, 0], [0, 1]]))
    assert both.num_lanes == 2
    for lane, transition in enumerate([TWO, TWO[::-1]]):
        alone = Mdp.from_tensors(transition.copy(), PAID, [False, True], np.eye(2)[lane])
        same(tree.index(both, lane), alone)
    own = Mdp.from_tensors(np.stack([TWO, TWO]), np.stack([PAID, 2 * PAID]))
    assert own.reward.tolist() == [PAID.tolist(), (2 * PAID).tolist()]
    ends = Mdp.from_tensors(np.stack([TWO] * 3), PAID, torch.eye(3, 2) > 0)
    np.testing.assert_allclose(ends.terminated, TWO * np.eye(3, 2)[:, None, None, :])


TABLES = [
    "CliffWalking-v1",
    "CliffWalkingSlippery-v1",
    "FrozenLake-v1",
    "FrozenLake8x8-v1",
    "Taxi-v4",
]


@pytest.mark.parametrize("name", TABLES)
def test_our_tables_are_gymnasiums_to_float64(name):
    same(Mdp.from_env(envs.make(name)), Mdp.from_gymnasium(gymnasium.make(name)), 1e-15)


def test_settings_reach_the_tables_in_float64():
    reference = gymnasium.make("Taxi-v4", is_rainy=True)
    same(Mdp.from_env(envs.make("Taxi-v4", is_rainy=True)), Mdp.from_gymnasium(reference), 1e-15)
    mdp = Mdp.from_env(envs.make("Corridor-v0", slip=0.1, length=4))
    assert mdp.transition[1].tolist() == [[0.9, 0, 0.1, 0], [0.1, 0, 0.9, 0]]
    assert mdp.terminated[2, 1].tolist() == [0, 0, 0, 0.9]
    assert mdp.reward[1].tolist() == [-0.1, -0.1]
    assert mdp.initial.tolist() == [1, 0, 0, 0]
    lake = Mdp.from_env(envs.make("FrozenLake-v1", success_rate=0.7, goal_reward=0.3))
    np.testing.assert_allclose(lake.transition[14, 2, 15], 0.7, atol=1e-16)
    np.testing.assert_allclose(lake.reward[14, 2], 0.7 * 0.3, atol=1e-16)
    fickle = Mdp.from_env(envs.make("Taxi-v4", fickle_passenger=True))
    np.testing.assert_allclose(fickle.initial[500:].sum(), 0.3, atol=1e-15)


def test_a_float_with_several_numbers_gives_a_process_for_each():
    both = Mdp.from_env(envs.make("CliffWalking-v1", cliff_reward=[-100.0, -0.3]))
    assert both.num_lanes == 2
    for lane, reward in enumerate([-100.0, -0.3]):
        same(tree.index(both, lane), Mdp.from_env(envs.make("CliffWalking-v1", cliff_reward=reward)), 0)


class Coin:
    """An environment of somebody's own, which knows float32 only."""

    num_states, action_space = 2, spaces.Discrete(1)

    def initial_distribution(self):
        return torch.tensor([1.0, 0.0])

    def outcomes(self, position, action):
        third = torch.full((3,), 1 / 3)
        follows = torch.tensor([0, 1, 1])
        return envs.tabular.Outcomes(third, follows, follows * 3.0, torch.tensor([False, False, True]))


def test_an_own_environment_needs_four_names():
    mdp = Mdp.from_env(Coin())
    np.testing.assert_allclose(mdp.transition[0, 0], [1 / 3, 2 / 3], atol=1e-15)
    np.testing.assert_allclose(mdp.terminated[0, 0], [0, 1 / 3], atol=1e-15)
    np.testing.assert_allclose(mdp.reward, [[2], [2]], atol=1e-6)
    with pytest.raises(TypeError, match="without num_states, outcomes, initial_distribution"):
        Mdp.from_env(envs.make("CartPole-v1"))
    with pytest.raises(TypeError, match="a class"):
        Mdp.from_env(Coin)


def fake(table, **more):
    return SimpleNamespace(P=table, **more)


def test_gymnasiums_tables_may_hold_one_state_ended_and_not():
    rows = [(0.25, 1, 4.0, True), (0.5, 1, 2.0, False), (0.25, 0, 0.0, False)]
    env = fake({0: {0: rows}, 1: {0: [(1.0, 1, 0.0, True)]}}, initial_state_distrib=[0.0, 1.0])
    mdp = Mdp.from_gymnasium(env)
    assert mdp.transition[0, 0].tolist() == [0.25, 0.75]
    assert mdp.terminated[0, 0].tolist() == [0, 0.25]
    assert mdp.reward.tolist() == [[2.0], [0.0]]
    assert mdp.initial.tolist() == [0, 1]
    assert Mdp.from_gymnasium(fake(env.P)).initial.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ({0: {0: [(1.0, 2, 0.0, False)]}, 1: {0: []}}, r"P\[0\]\[0\] must lead to states from 0 to 1, got 2"),
        ({0: {0: [(1.0, 0, 0.0, False)]}, 2: {0: []}}, r"P must have the keys 0 to 1, got \[0, 2\]"),
        ({0: {0: [(1.0, 0, 0.0, False)]}, 1: {}}, r"P\[1\] must have the keys 0 to 0"),
        ({0: {0: [(0.9, 0, 0.0, False)]}}, r"transition\[0, 0\] must sum to one, got 0.9"),
        ({}, "must hold outcomes"),
    ],
)
def test_tables_with_gaps_are_refused(table, error):
    with pytest.raises(ValueError, match=error):
        Mdp.from_gymnasium(fake(table))


def test_an_environment_without_a_table_is_refused():
    with pytest.raises(TypeError, match=r"Mdp.from_gymnasium: env must have its table"):
        Mdp.from_gymnasium(gymnasium.make("CartPole-v1"))
    with pytest.raises(TypeError, match="got 'CliffWalking-v1'"):
        Mdp.from_gymnasium("CliffWalking-v1")


def changed(table, where, value):
    table = np.array(table, dtype=float)
    table[where] = value
    return table


LANES = np.stack([TWO, TWO])
BAD = [
    ((changed(TWO, (1, 0, 1), 0.5), PAID), r"transition\[1, 0\] must sum to one, got 1.5. This is the row of state 1 and action 0."),
    ((changed(TWO, (0, 0), [1.5, -0.5]), PAID), r"transition\[0, 0, 1\] must be a probability, not negative, got -0.5. This is the row of state 0 and action 0."),
    ((changed(LANES, (1, 1, 0, 0), 0.9), PAID), r"transition\[1, 1, 0\] must sum to one, got 0.9. .* state 1 and action 0 of lane 1."),
    ((changed(TWO, (1, 1, 0), np.nan), PAID), r"transition\[1, 1, 0\] must be finite, got nan"),
    ((TWO, changed(PAID, (0, 1), np.inf)), r"reward\[0, 1\] must be finite, got inf"),
    ((TWO[:, :, :1], PAID), r"transition must have the shape \[S, A, S\], or \[L, S, A, S\], got \[2, 2, 1\]"),
    ((TWO[0], PAID), r"transition must have the shape"),
    ((np.zeros((0, 2, 0)), PAID), "transition must have at least one state"),
    ((np.zeros((2, 0, 2)), PAID), "transition must have at least one state and one action"),
    ((np.zeros((0, 2, 2, 2)), PAID), "transition must have at least .*one lane"),
    ((TWO, PAID[:, :1]), r"reward must have the shape \[2, 2\] or \[2, 2, 2\], got \[2, 1\]"),
    ((LANES, np.zeros((3, 2, 2))), r"reward must have the shape \[2, 2, 2\] or \[2, 2, 2, 2\]"),
    ((TWO, PAID, [True]), r"terminated must have the shape \[2, 2, 2\] or \[2\]"),
    ((TWO, PAID, [0.0, 1.0]), "terminated must be boolean where its shape is"),
    ((TWO, PAID, np.full((2, 2, 2), 1.5)), r"terminated\[0, 0, 0\] must lie in \[0, 1\], got 1.5"),
    ((TWO, PAID, np.full((2, 2, 2), -0.5)), r"terminated\[0, 0, 0\] must lie in \[0, 1\], got -0.5"),
    ((TWO, PAID, None, [0.5, 0.6]), "initial must sum to one, got 1.1"),
    ((TWO, PAID, None, [1.5, -0.5]), r"initial\[1\] must be a probability"),
    ((TWO, PAID, None, [1.0]), "initial must have the shape"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "error"), BAD)
def test_what_cannot_be_is_refused_by_name(arguments, error):
    with pytest.raises(ValueError, match="Mdp.from_tensors: " + error):
        Mdp.from_tensors(*arguments)


def test_what_is_no_table_is_refused():
    with pytest.raises(TypeError, match="transition must be a table of numbers"):
        Mdp.from_tensors([[[1.0], [1.0, 2.0]]], PAID)
    with pytest.raises(TypeError, match="reward must be a table of numbers"):
        Mdp.from_tensors(TWO, "much")


def test_random_processes_are_what_they_should_be():
    mdp = Mdp.random(random.key(1), 30, 20, branching=3, termination=0.25)
    assert ((mdp.transition > 0).sum(-1) == 3).all()
    np.testing.assert_allclose(mdp.transition.sum(-1), 1, atol=1e-14)
    np.testing.assert_allclose(mdp.terminated, 0.25 * mdp.transition)
    np.testing.assert_allclose(mdp.initial, 1 / 30)
    share = mdp.transition[mdp.transition > 0]
    # Uniform on the simplex of three: each share has the mean 1/3 and the variance 1/18.
    assert abs(float(share.var()) - 1 / 18) < 0.005
    assert abs(float(mdp.reward.mean())) < 0.15
    assert abs(float(mdp.reward.std()) - 1) < 0.1
    # No state is preferred, and pairs do not follow each other.
    counts = (mdp.transition > 0).sum((0, 1))
    assert counts.min() > 30
    assert counts.max() < 95
    assert (Mdp.random(random.key(1), 4, 2).transition > 0).all()


def test_random_processes_map_and_compile():
    keys = random.split(random.key(2), 3)
    make = torch.vmap(lambda k, t: Mdp.random(k, 5, 2, branching=2, termination=t))
    ends = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    together, compiled = make(keys, ends), jit.jit(make, backend="aot_eager")(keys, ends)
    for lane in range(3):
        alone = Mdp.random(keys[lane], 5, 2, branching=2, termination=float(ends[lane]))
        same(tree.index(together, lane), alone)
        same(tree.index(compiled, lane), alone)
    assert not torch.equal(together.reward[0], together.reward[1])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"num_states": 0}, "num_states must be at least 1"),
        ({"num_actions": 0}, "num_actions must be at least 1"),
        ({"branching": 4}, r"branching must lie in \[1, 3\], got 4"),
        ({"termination": 1.5}, r"termination must lie in \[0, 1\]"),
    ],
)
def test_random_processes_that_cannot_be(arguments, error):
    with pytest.raises(ValueError, match=error):
        Mdp.random(random.key(0), **({"num_states": 3, "num_actions": 2} | arguments))


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ([[[(1.0, 0, 0.0)]]], "must list \\(probability, next state, reward, terminated\\)"),
        ([[[(1.0, 0.5, 0.0, True)]]], "lead to states from 0 to 0, got 0.5"),
        ([[[("a", 0, 0.0, True)]]], "must list"),
        ({0: None}, "hold a table of actions for each state"),
        ([[[(-0.5, 0, 5.0, True), (1.5, 0, 1.0, True)]]], "hold no negative probability, got -0.5"),
    ],
)
def test_tables_that_are_not_gymnasiums_are_refused(table, error):
    env = SimpleNamespace(P=table)
    with pytest.raises((ValueError, TypeError), match=f"Mdp.from_gymnasium: env.unwrapped.P.*{error}"):
        Mdp.from_gymnasium(env)


@pytest.mark.parametrize("position", [-1, 7])
def test_outcomes_that_lead_nowhere_are_refused(position):
    class Nowhere:
        num_states = 2
        action_space = spaces.Discrete(1)

        def initial_distribution(self):
            return torch.tensor([1.0, 0.0])

        def outcomes(self, state, action):
            one = torch.ones(1)
            return Outcomes(one, torch.full((1,), position), one, one > 0)

    with pytest.raises(ValueError, match=r"Mdp.from_env: env.outcomes must .* positions from 0 to 1"):
        Mdp.from_env(Nowhere())


@pytest.mark.parametrize("transition", [None, torch.full((1, 1, 1), 1 + 2j), 3.0])
def test_what_is_no_number_or_no_table_is_refused(transition):
    with pytest.raises((TypeError, ValueError), match=r"Mdp.from_tensors: transition"):
        Mdp.from_tensors(transition, [[0.0]])
