"""Whatever stands for an environment can be pickled and copied, and goes on as the original does."""

import copy
import functools
import multiprocessing
import pickle

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv

from funcrl import envs
from funcrl.core import random, tree
from funcrl.envs.host_vector import HostVector
from tests.envs.test_wrappers import STACKS

WAYS = {"pickle": lambda value: pickle.loads(pickle.dumps(value)), "deepcopy": copy.deepcopy}
FACES = [
    functools.partial(gymnasium.make, "funcrl/CartPole-v1"),
    functools.partial(gymnasium.make, "funcrl/Taxi-v4", max_episode_steps=4),
    functools.partial(gymnasium.make, "funcrl/CartPole-v1", render_mode="rgb_array_list"),
    *(
        functools.partial(gymnasium.make_vec, "funcrl/CartPole-v1", num_envs=2, autoreset_mode=mode)
        for mode in ("SameStep", "NextStep", "Disabled")
    ),
    functools.partial(gymnasium.make_vec, "funcrl/CartPole-v1", num_envs=2, half_length=[0.3, 0.7]),
    functools.partial(envs.TorchVectorEnv, STACKS["all"], 2),
    functools.partial(envs.TorchVectorEnv, STACKS["NormalizeObservation"], 2),
]


def assert_same(ours, expected):
    for a, b in zip(tree.leaves(ours), tree.leaves(expected), strict=True):
        assert type(a) is type(b)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def assert_goes_on_alike(one, other, seed=None, num_steps=9):
    if seed is not None:
        assert_same(one.reset(seed=seed), other.reset(seed=seed))
    many = isinstance(one, gymnasium.vector.VectorEnv)
    actions = torch.as_tensor(np.arange(num_steps)[:, None] % 2) if many else [0, 1] * num_steps
    for _, action in zip(range(num_steps), actions, strict=False):
        row = one.step(action.expand(2) if many else action)
        assert_same(row, other.step(action.expand(2) if many else action))
        if not many and (row[2] or row[3]):
            assert_same(one.reset(), other.reset())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("make", FACES[:1] + FACES[3:4])
def test_compiled_programs_are_made_anew(make, backend, way):
    env = make(backend=backend)
    env.reset(seed=1)
    assert_goes_on_alike(env, WAYS[way](env))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", FACES)
def test_faces_go_on_alike(make, way):
    env = make(backend="eager")
    assert_goes_on_alike(WAYS[way](env), env, seed=3)
    again = WAYS[way](env)
    assert (again.spec, again.metadata) == (env.spec, env.metadata)
    assert (again.observation_space, again.action_space) == (env.observation_space, env.action_space)
    assert_goes_on_alike(again, env)
    assert_same(again.reset(), env.reset())
    assert_same(again.reset(seed=5), env.reset(seed=5))


def test_a_copy_is_a_thing_of_its_own():
    env = gymnasium.make_vec("funcrl/CartPole-v1", num_envs=2, backend="eager")
    first, _ = env.reset(seed=0)
    other = copy.deepcopy(env)
    other.step([0, 0])
    assert torch.equal(env.unwrapped._state.envs.obs, first)
    env.close()
    other.step([0, 0])
    with pytest.raises(ValueError, match="must be open"):
        pickle.loads(pickle.dumps(env)).step([0, 0])


@pytest.mark.parametrize("way", WAYS)
def test_gymnasiums_vector_environments_of_ours_go_on_alike(way):
    make = functools.partial(gymnasium.make, "funcrl/CartPole-v1", backend="eager")
    env = SyncVectorEnv([make] * 2, autoreset_mode="SameStep")
    env.reset(seed=2)
    again = WAYS[way](env)
    for _ in range(12):
        assert all(map(np.array_equal, env.step([1, 1])[:4], again.step([1, 1])[:4]))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*sorted(envs.REGISTRY), *STACKS])
def test_environments_and_their_states(name, way):
    env = STACKS[name] if name in STACKS else envs.make(name)
    again, key = WAYS[way](env), random.key(4)
    assert tree.named_leaves(again).keys() == tree.named_leaves(env).keys()
    assert (again.observation_space, again.max_episode_steps) == (
        env.observation_space,
        env.max_episode_steps,
    )
    state = envs.reset(env, key)
    action = torch.as_tensor(env.action_space.sample())
    row = envs.step(again, WAYS[way](state), action, key)
    assert_same(row, envs.step(env, state, action, key))


@pytest.mark.parametrize("way", WAYS)
def test_host_environments(way):
    host = envs.from_gymnasium("CartPole-v1", max_episode_steps=7)
    again = WAYS[way](host)
    assert (again.name, again.observation_space) == ("CartPole-v1", host.observation_space)
    vector, other = HostVector(host, 2, 1), HostVector(again, 2, 1)
    assert_same(vector.reset([0, 1]), other.reset([0, 1]))
    third = WAYS[way](other)
    for _ in range(15):
        row = vector.step(torch.ones(2, dtype=torch.int64))
        for copied in (other, third):
            assert_same(vars(copied.step(torch.ones(2, dtype=torch.int64))), vars(row))


def episode(env):
    """Run in a process of its own, which gets the environment and nothing else."""
    return [env.step(action)[0].tolist() for action in (0, 1, 1)]


def test_a_process_that_is_spawned():
    env = gymnasium.make("funcrl/CartPole-v1", backend="eager")
    env.reset(seed=0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.map(episode, [env])[0]
    assert there == episode(env)
