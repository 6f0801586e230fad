"""Random-action stepping of many environments, beside Gymnasium's own numpy vector environment.

    pytest benchmarks/test_environments.py --benchmark-columns=median,iqr

Three ways: single calls of `gymnasium.make_vec("funcrl/...")`, which check the actions and hand out
copies; compiled chunks, as training steps (`train.collect.Collector`: the actions and all other
random numbers are drawn too, and every row is kept); and Gymnasium, which is given its actions.
Compile time is in no figure; `compile_times.py` measures it.
"""

import gymnasium
import pytest
import torch

from funcrl import envs
from funcrl.core import random, tree
from funcrl.core.lanes import Lanes
from funcrl.train.acting import Policy
from funcrl.train.collect import Collector

SIZES = [16, 256, 4096, 65536]
NAMES = ["CartPole-v1", "Pendulum-v1"]
CHUNK = 16


def random_actions(space, key, num_envs):
    if isinstance(space, gymnasium.spaces.Discrete):
        return (random.uniform(key, (num_envs,)) * int(space.n)).long()
    low, high = float(space.low.min()), float(space.high.max())
    return random.uniform(key, (num_envs, *space.shape), low, high)


@pytest.mark.benchmark(group="environment steps")
@pytest.mark.parametrize("num_envs", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_single_calls(measure, device, name, num_envs):
    env = gymnasium.make_vec(f"funcrl/{name}", num_envs=num_envs, device=device)
    env.reset(seed=0)
    actions = random_actions(env.single_action_space, random.key(0, device), num_envs)
    measure(lambda: env.step(actions), rounds=100, steps=num_envs)


@pytest.mark.benchmark(group="environment steps")
@pytest.mark.parametrize("num_envs", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_compiled_chunks(measure, device, name, num_envs):
    env = envs.make(name)
    key = random.key(0, device).unsqueeze(0)
    count = torch.zeros(1, dtype=torch.int32, device=device)
    states = envs.reset_all(env, random.split(random.key(1, device), num_envs))
    states = tree.map(lambda x: x.unsqueeze(0).clone(memory_format=torch.contiguous_format), states)
    policy = Policy(lambda agent, obs, key, carry: (random_actions(env.action_space, key, obs.shape[0]), {}))
    agent = torch.zeros(1, device=device)
    collect = Collector(policy, Lanes(env), [], agent, states, (), key, count, CHUNK, "inductor")

    def chunk():
        collect()
        count.add_(1)

    measure(chunk, rounds=20 if num_envs > 10_000 else 100, steps=num_envs * CHUNK)


@pytest.mark.benchmark(group="environment steps")
@pytest.mark.parametrize("num_envs", SIZES)
def test_gymnasium(measure, num_envs):
    env = gymnasium.make_vec("CartPole-v1", num_envs=num_envs, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = env.action_space.sample()
    measure(lambda: env.step(actions), rounds=100, steps=num_envs)
