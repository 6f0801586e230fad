"""Every kind of observation and action trains without a wrapper, on the device and on the host."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from funcrl import envs, nets
from funcrl.algos import REGISTRY
from funcrl.core import random, tree
from funcrl.envs.checking.elements import draw, outside
from funcrl.train import evaluate, train

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
OBSERVATIONS = {
    "discrete": spaces.Discrete(5, start=2),
    "multi_discrete": spaces.MultiDiscrete([[3, 4], [2, 2]]),
    "multi_binary": spaces.MultiBinary(4),
    "scalar": spaces.Box(-1, 1, (), np.float32),
    "matrix": spaces.Box(-1, 1, (3, 2), np.float32),
    "colours_last": spaces.Box(0, 255, (12, 10, 3), np.uint8),
    "colours_first": spaces.Box(0, 255, (3, 12, 10), np.uint8),
    "grey": spaces.Box(0, 255, (10, 10), np.uint8),
    "bytes": spaces.Box(0, 255, (6,), np.uint8),
    "dict": spaces.Dict(
        place=spaces.Discrete(3), picture=spaces.Box(0, 255, (9, 9, 3), np.uint8), speed=VECTOR
    ),
    "tuple": spaces.Tuple((spaces.Discrete(3), VECTOR, spaces.Dict(on=spaces.MultiBinary(2)))),
}
ACTIONS = {
    "discrete": spaces.Discrete(3, start=-1),
    "multi_discrete": spaces.MultiDiscrete([[2, 3], [2, 2]]),
    "multi_binary": spaces.MultiBinary(3),
    "box": spaces.Box(np.array([-2, 0], np.float32), np.array([3, 0.5], np.float32)),
    "number": spaces.Box(-1, 1, (), np.float32),
    "unbounded": spaces.Box(-np.inf, np.inf, (2, 2), np.float32),
    "tuple": spaces.Tuple((spaces.Discrete(3), spaces.Box(-0.1, 0.1, (2,), np.float32))),
    "dict": spaces.Dict(steer=spaces.Box(-0.1, 0.1, (1,), np.float32), honk=spaces.MultiBinary(2)),
}
PAIRS = [(obs, spaces.Discrete(2)) for obs in OBSERVATIONS.values()]
PAIRS += [(VECTOR, action) for action in ACTIONS.values()]
NAMES = [f"see_{name}" for name in OBSERVATIONS] + [f"do_{name}" for name in ACTIONS]

WINDOW = {"num_envs": 2, "window_length": 4, "hidden": (8,), "channels": (4,), "num_epochs": 1}
WINDOW |= {"num_minibatches": 1}
REPLAY = {"window_length": 8, "hidden": (8, 8), "channels": (4,), "buffer_size": 32, "batch_size": 8}
REPLAY |= {"warmup_steps": 8}


class OnTheHost(gymnasium.Env):
    """Shows anything, takes what is in its space, and ends after three steps."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space, self._time = observation_space, action_space, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self._time = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action) if np.isscalar(action) else action)
        self._time += 1
        return self.observation_space.sample(), 1.0, self._time == 3, False, {}


class OnTheDevice:
    """The same on the device."""

    max_episode_steps = 10

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def initial(self, key):
        return torch.zeros((), device=key.device)

    def transition(self, state, action, key):
        return state + 1

    def observation(self, state, key):
        like = nets.inputs.example(self.observation_space)
        return tree.map(lambda x, example: x.to(example.dtype), draw(key, self.observation_space), like)

    def reward(self, state, action, next_state, key):
        return torch.ones((), device=state.device)

    def terminal(self, state, key):
        return state >= 3


def learn(algorithm, env, settings, num_steps=16):
    config = REGISTRY[algorithm].Config(**settings)
    return train(algorithm, env, config=config, seeds=[0, 1], num_steps=num_steps, backend="eager")


@pytest.mark.parametrize(("obs", "action"), PAIRS, ids=NAMES)
def test_on_the_host(obs, action):
    env = envs.from_gymnasium(lambda: OnTheHost(obs, action), vectorization="sync")
    result = learn("ppo", env, WINDOW)
    assert all(x.isfinite().all() for x in tree.leaves(result.states.params))


@pytest.mark.parametrize(("obs", "action"), PAIRS, ids=NAMES)
def test_on_the_device_and_evaluated(obs, action):
    env = OnTheDevice(obs, action)
    result = learn("ppo", env, WINDOW)
    assert all(x.isfinite().all() for x in tree.leaves(result.states.params))
    # Three steps are rewarded, whatever is done.
    returns = evaluate("ppo", env, result.states, num_episodes=2, backend="eager")
    assert returns.tolist() == [[3.0] * 2] * 2


@pytest.mark.parametrize("algorithm", ["dqn", "rainbow", "pqn", "linucb", "neural_thompson"])
@pytest.mark.parametrize("kind", ["discrete", "multi_binary", "colours_last", "tuple"])
def test_learners_of_values_see_everything_too(algorithm, kind):
    settings = {"pqn": WINDOW, "linucb": {}, "neural_thompson": {"hidden": (8,), "channels": (4,)}}
    env = OnTheDevice(OBSERVATIONS[kind], spaces.Discrete(2))
    result = learn(algorithm, env, settings.get(algorithm, REPLAY))
    assert all(x.isfinite().all() for x in tree.leaves(result.states) if x.is_floating_point() and x.ndim > 1)


@pytest.mark.parametrize("name", sorted(envs.REGISTRY))
def test_ppo_trains_on_every_environment_of_the_list(name):
    learn("ppo", envs.make(name), WINDOW | {"channels": (2,)}, num_steps=8)


def test_gymnasiums_own_environments_train_without_a_wrapper():
    for name in ("Taxi-v4", "Blackjack-v1", "MountainCarContinuous-v0"):
        learn("ppo", envs.from_gymnasium(name, vectorization="sync"), WINDOW, num_steps=8)


def test_actions_beyond_the_bounds_are_clipped_before_the_host_sees_them():
    seen = []

    class Watching(OnTheHost):
        def step(self, action):
            seen.append(action)
            return super().step(action)

    box = spaces.Box(-0.01, 0.02, (2,), np.float32)
    pair = spaces.Dict(here=box, there=spaces.Discrete(2))
    env = envs.from_gymnasium(lambda: Watching(VECTOR, pair), vectorization="sync")
    vector = envs.HostVector(env, 1, 3)
    vector.reset([0])
    far = torch.tensor([[-5.0, 5.0], [0.0, 0.01], [5.0, -5.0]])
    vector.step({"here": far, "there": torch.tensor([0, 1, 0])})
    shown = np.stack([action["here"] for action in seen])
    assert np.allclose(shown, [[-0.01, 0.02], [0.0, 0.01], [0.02, -0.01]])
    assert [int(action["there"]) for action in seen] == [0, 1, 0]


def test_random_actions_of_several_parts_lie_in_the_space():
    for space in (ACTIONS["tuple"], ACTIONS["dict"]):
        for i in range(20):
            assert not outside(space, draw(random.key(i), space))


def test_gymnasiums_face_refuses_actions_of_several_parts():
    class Env(OnTheDevice):
        def __init__(self):
            super().__init__(VECTOR, ACTIONS["tuple"])

    with pytest.raises(ValueError, match=r"make_vec: actions must be one array, got Tuple.*envs\.step_all"):
        envs.TorchVectorEnv(Env(), 2, backend="eager")


def test_what_no_network_takes_is_named():
    env = OnTheDevice(spaces.Dict(word=spaces.Text(3)), spaces.Discrete(2))
    with pytest.raises(ValueError, match=r"ppo.init: env.observation_space\['word'\] must be one of Box"):
        REGISTRY["ppo"].init(random.key(0), REGISTRY["ppo"].Config(), env)
