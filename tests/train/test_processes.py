"""Sharing lanes out to processes: the same bits as in one, and what happens where one of them does not live."""

import os
import signal

import pytest
import torch

from funcrl import envs
from funcrl.algos import dqn, ppo, q_learning
from funcrl.core import tree
from funcrl.io import Recorder
from funcrl.train import WorkerError, make_plan, train
from tests.probes import Counter

PPO = ppo.Config(num_envs=2, window_length=8, num_epochs=2, num_minibatches=2, hidden=(8,))
DQN = dqn.Config(hidden=(8,), batch_size=4, warmup_steps=40, buffer_size=200)
CASES = {
    "ppo": (ppo, "CartPole-v1", PPO, 96),
    "q_learning": (q_learning, "CliffWalking-v1", q_learning.Config(), 300),
    "dqn": (dqn, "CartPole-v1", DQN, 100),
}


def run(name="ppo", seeds=range(5), **kwargs):
    algorithm, env, config, num_steps = CASES[name]
    kwargs = {"env": env, "config": config, "num_steps": num_steps, "backend": "eager"} | kwargs
    return train(algorithm, kwargs.pop("env"), seeds=seeds, **kwargs)


def same(a, b):
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)


def parts(result):
    return result.states, result.env_states, result.returns, result.episodes, result.metrics, result.steps


@pytest.mark.parametrize("name", CASES)
def test_two_and_three_processes_give_the_bits_of_one(name):
    one = run(name)
    for processes in (2, 3):
        several = run(name, processes=processes)
        assert several.seeds == one.seeds
        assert same(parts(several), parts(one))
        assert several.lost_seeds == ()
        assert several.timed_steps == one.timed_steps
