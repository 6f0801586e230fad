"""What policies remember within episodes: carried through windows, thrown away where an episode ends."""

import types

import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv

from funcrl import envs
from funcrl.algos import a2c, ppo
from funcrl.core import random, tree
from funcrl.core.lanes import Lanes
from funcrl.envs.host_vector import HostVector
from funcrl.train import Run, evaluate, film, train
from funcrl.train.acting import Policy
from funcrl.train.collect import Collector
from funcrl.train.host_collect import HostCollector
from tests.probes import Counter
from tests.train.test_worlds import WAYS

GRU = ppo.Config(
    num_envs=2,
    window_length=8,
    num_epochs=1,
    num_minibatches=2,
    hidden=(8,),
    recurrent_cell="gru",
    recurrent_size=6,
    sequence_length=4,
)
LSTM = a2c.Config(
    num_envs=2, window_length=4, hidden=(8,), recurrent_cell="lstm", recurrent_size=6, sequence_length=4
)
BLIND = envs.make("PositionOnlyCartPole-v0", max_episode_steps=9)
SHORT = envs.from_gymnasium("CartPole-v1", max_episode_steps=9)


def same(a, b):
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)


def counting():
    """Remembers how many observations of the episode it has seen, from 1 on, and tells."""

    def act(agent, obs, key, carry):
        return torch.zeros_like(obs[..., 0], dtype=torch.int64), {"told": carry[0] + 0 * obs[..., 0]}

    begin = lambda agent: (torch.zeros((), device=agent.device),)
    return Policy(act, begin, lambda agent, obs, carry, key: (carry[0] + 1,))


@pytest.mark.parametrize("way", ["device", *WAYS])
@pytest.mark.parametrize("length", [5, 3])
def test_a_policy_has_seen_what_was_since_its_episode_began_and_nothing_else(way, length):
    """`Counter` ends after three steps and shows how many it has made, so both must always agree."""
    key, count = random.key(0).expand(2, 2).clone(), torch.zeros(2, dtype=torch.int32)
    agent, policy = torch.zeros(2), counting()
    if way == "device":
        states = torch.vmap(lambda k: envs.reset_all(Counter(end=3), random.split(k, 2)))(key)
        states, carry = tree.map(torch.clone, (states, (torch.zeros(2, 2),)))
        collect = Collector(
            policy, Lanes(Counter(end=3)), [], agent, states, carry, key, count, length, "eager"
        )
    else:
        collect = HostCollector(policy, HostVector(WAYS[way](), 2, 2), agent, key, count, length, "eager")
        collect.reset([0, 1])
    for _ in range(4):
        rows = collect().transition
        assert torch.equal(rows.extras["told"], rows.obs[..., 0] + 1)
        assert torch.equal(rows.extras["carry"][0], rows.obs[..., 0])
        count += 1
    if way != "device":
        collect.env.close()


@pytest.mark.parametrize(("algorithm", "config"), [(ppo, GRU), (a2c, LSTM)])
@pytest.mark.parametrize("env", [BLIND, SHORT], ids=["device", "host"])
def test_lanes_do_not_know_of_each_other(algorithm, config, env):
    given = {"config": config, "num_steps": 32, "backend": "eager"}
    together = train(algorithm, env, seeds=[3, 4, 5], **given)
    for lane, seed in ((0, 3), (2, 5)):
        alone = train(algorithm, env, seeds=[seed], **given)
        assert torch.allclose(alone.returns[0], together.returns[lane], atol=1e-4, equal_nan=True)
    # Nothing would be compared if no episode ended.
    assert together.returns[:, -1].isfinite().all()
    grouped = train(algorithm, env, seeds=[3, 4, 5], lanes_per_group=2, **given)
    assert torch.allclose(grouped.returns, together.returns, atol=1e-4, equal_nan=True)


def test_a_run_that_goes_on_remembers():
    one, other = (Run(ppo, BLIND, GRU, [0, 1], backend="eager") for _ in "ab")
    for _ in range(3):
        one.iterate()
    carry = one.carry
    assert carry.remembered[0].shape == (2, 2, 6)
    assert carry.remembered[0].any()
    other.restore(carry)
    one.iterate()
    other.iterate()
    assert same(one.carry, other.carry)
    forgetful = tree.replace(carry, remembered=tree.map(torch.zeros_like, carry.remembered))
    other.restore(forgetful)
    other.iterate()
    assert not same(one.carry.agent.params, other.carry.agent.params)


def test_an_episode_that_is_evaluated_is_remembered_from_its_beginning():
    """Without a memory no policy can go ahead twice and then turn where the first cell has said."""
    env = envs.make("TMaze-v0", length=2, max_episode_steps=20)
    config = tree.replace(GRU, num_envs=64, learning_rate=3e-2, gamma=0.9, num_epochs=8, num_minibatches=1)
    config = tree.replace(config, recurrent_size=16, hidden=(16,))
    # Few windows and large updates: they need not be recorded to be fast.
    given = {"seeds": [0, 1], "num_steps": 64 * 8 * 8, "backend": "eager"}
    result = train(ppo, env, config=config, **given)
    earned = evaluate(ppo, env, result.states, num_episodes=20, backend="eager")
    assert torch.equal(earned, torch.full((2, 20), 4.0))
    blank = tree.replace(config, recurrent_cell="none")
    without = train(ppo, env, config=blank, **given)
    assert evaluate(ppo, env, without.states, num_episodes=200, backend="eager").mean() < 2.5


class HostPositions(CartPoleEnv):
    """The same on the host, as far as it shows; draws what needs no screen."""

    def __init__(self, render_mode=None):
        super().__init__(render_mode=render_mode)
        self.observation_space = BLIND.observation_space

    def reset(self, **given):
        obs, info = super().reset(**given)
        return obs[::2], info

    def step(self, action):
        obs, *rest = super().step(action)
        return (obs[::2], *rest)

    def render(self):
        return np.zeros((4, 6, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def trained():
    return train(ppo, BLIND, config=GRU, seeds=[3, 4], num_steps=64, backend="eager").states


@pytest.mark.parametrize("where", ["device", "host"])
@pytest.mark.parametrize("greedy", [True, False])
def test_a_film_is_the_episode_that_counts(where, greedy, trained):
    states = trained
    env = BLIND
    if where == "host":
        env = envs.from_gymnasium(HostPositions)
    given = {"num_episodes": 3, "seed": 4, "greedy": greedy, "backend": "eager", "max_steps": 30}
    counted = evaluate(ppo, env, states, **given)
    for lane in range(2):
        moments = list(film(ppo, env, states, lane=lane, **given).moments)
        assert moments[-1].episode_return == float(counted[lane, 0])
    assert same(evaluate(ppo, env, states, **given), counted)


def test_agents_that_remember_are_told_from_those_that_do_not():
    states = train(ppo, BLIND, config=GRU, seeds=[3], num_steps=16, backend="eager").states
    with pytest.raises(ValueError, match="states must be agents for observations"):
        evaluate(ppo, "CartPole-v1", states, backend="eager")
    with pytest.raises(ValueError, match="evaluate: states must be agents for observations"):
        evaluate(ppo, "gymnasium:CartPole-v1", states, backend="eager")
    plain = tree.replace(GRU, recurrent_cell="none")
    with pytest.raises(ValueError, match="train: start must have learnt in tensors of the same shapes"):
        train(ppo, BLIND, config=plain, seeds=[3], num_steps=16, backend="eager", start=states)


def test_algorithms_of_ones_own_are_told_what_is_missing():
    names = ("LOOP", "METRICS", "LEARNT", "Config", "State", "init", "act", "greedy", "prepare", "update")
    whole = {name: getattr(ppo, name) for name in (*names, "initial_carry", "remember")}
    forgetful = lambda state, obs, key: ppo.act(state, obs, key)
    telling = lambda state, obs, key, carry: (ppo.act(state, obs, key, carry)[0], {"carry": obs})
    given = {"config": GRU, "seeds": [0], "num_steps": 16, "backend": "eager"}

    def own(without=(), **changes):
        module = types.ModuleType("mine")
        vars(module).update({k: v for k, v in (whole | changes).items() if k not in without})
        return module

    assert train(own(), BLIND, **given).nonfinite_seeds == []
    with pytest.raises(TypeError, match="algorithm must have remember where it has initial_carry"):
        train(own(without=["remember"]), BLIND, **given)
    with pytest.raises(
        TypeError, match="train: act must have an argument carry in an algorithm that remembers"
    ):
        train(own(act=forgetful), BLIND, **given)
    with pytest.raises(ValueError, match="act: extras of an agent that remembers must not be called carry"):
        train(own(act=telling), BLIND, **given)
