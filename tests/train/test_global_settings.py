"""What a user has set in torch for the whole process changes no result, by no bit."""

import contextlib

import gymnasium
import pytest
import torch

from funcrl import envs
from funcrl.algos import REGISTRY
from funcrl.core import tree
from funcrl.train import evaluate, solve, train

REPLAY = {"buffer_size": 64, "warmup_steps": 16, "batch_size": 8}
LEARNERS = {
    "ppo": ("CartPole-v1", {"num_envs": 2, "window_length": 4, "num_epochs": 2, "hidden": (8,)}, 8),
    "dqn": ("Acrobot-v1", REPLAY | {"hidden": (8,), "exploration": "boltzmann"}, 32),
    "rainbow": ("CartPole-v1", REPLAY | {"hidden": (8, 8)}, 32),
    "qr_dqn": ("MountainCar-v0", REPLAY | {"hidden": (8,)}, 32),
    "pqn": (
        "CartPole-v1",
        {"num_envs": 2, "window_length": 4, "num_epochs": 2, "num_minibatches": 2, "hidden": (8,)},
        8,
    ),
    "q_learning": ("Taxi-v3", {}, 32),
    "n_step_sarsa": ("FrozenLake-v1", {}, 32),
    "thompson_beta": ("BernoulliBandit-v0", {}, 32),
    "gradient_bandit": ("GaussianBandit-v0", {}, 32),
    "linucb": ("DigitsBandit-v0", {}, 8),
}


def learn(name, backend="eager"):
    env, settings, num_steps = LEARNERS[name]
    config = REGISTRY[name].Config(**settings)
    result = train(name, env, config=config, seeds=[0, 1], num_steps=num_steps, backend=backend)
    return result.states, result.returns, result.metrics


def on_the_host(_):
    config = REGISTRY["ppo"].Config(num_envs=2, window_length=8, num_epochs=1, hidden=(8,))
    env = envs.from_gymnasium("CartPole-v1")
    result = train("ppo", env, config=config, seeds=[0], num_steps=32, backend="eager")
    return result.states, result.returns


def judge(_):
    agents, *_ = learn("ppo")
    return evaluate("ppo", "CartPole-v1", agents, num_episodes=2, max_steps=20, backend="eager")


def plan(_):
    solution = solve("value_iteration", "FrozenLake-v1", max_sweeps=5, backend="eager")
    return solution.values, solution.policy


def step(name):
    env = gymnasium.make_vec(f"funcrl/{name}", num_envs=3, backend="eager")
    rows = [env.reset(seed=0)[0]]
    number = 0.37 if name == "Pendulum-v1" else 1
    actions = [[number]] * 3 if name == "Pendulum-v1" else [number] * 3
    for _ in range(3):
        obs, reward, terminated, truncated, infos = env.step(actions)
        rows.append((obs, reward, terminated, truncated, infos["episode_return"]))
    return rows


CASES = {
    **{name: (learn, name) for name in LEARNERS},
    "host": (on_the_host, None),
    "evaluate": (judge, None),
    "solve": (plan, None),
    **{name: (step, name) for name in ("CartPole-v1", "Pendulum-v1", "Blackjack-v1")},
}


@contextlib.contextmanager
def setting(change, restore):
    change()
    try:
        yield
    finally:
        restore()


def default_dtype(dtype):
    before = torch.get_default_dtype()
    return setting(lambda: torch.set_default_dtype(dtype), lambda: torch.set_default_dtype(before))


def default_device():
    return setting(lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None))


def deterministic():
    switch = torch.use_deterministic_algorithms
    return setting(lambda: switch(True), lambda: switch(False))


def matmul_precision():
    before = torch.get_float32_matmul_precision()
    switch = torch.set_float32_matmul_precision
    return setting(lambda: switch("high"), lambda: switch(before))


@contextlib.contextmanager
def together(*settings):
    with contextlib.ExitStack() as stack:
        for one in settings:
            stack.enter_context(one())
        yield


# Those that do not get into each other's way hold at once.
SETTINGS = {
    "float64": lambda: together(lambda: default_dtype(torch.float64), deterministic),
    "float16": lambda: together(lambda: default_dtype(torch.float16), matmul_precision, torch.inference_mode),
    "meta": lambda: together(default_device, torch.no_grad),
}

found_before = {}


def without(function, *arguments):
    """What a function gives without any setting; computed once."""
    if (function, arguments) not in found_before:
        found_before[function, arguments] = function(*arguments)
    return found_before[function, arguments]


def assert_same_bits(found, expected):
    found, expected = tree.named_leaves(found), tree.named_leaves(expected)
    assert list(found) == list(expected)
    for path, value in found.items():
        kinds = [(x.dtype, x.device, x.shape) for x in (value, expected[path])]
        assert kinds[0] == kinds[1], path
        assert torch.equal(value.nan_to_num(nan=-7.0), expected[path].nan_to_num(nan=-7.0)), path


@pytest.mark.parametrize("wanted", SETTINGS)
@pytest.mark.parametrize("name", CASES)
def test_a_global_setting_changes_no_bit(name, wanted):
    function, argument = CASES[name]
    expected = without(function, argument)
    with SETTINGS[wanted]():
        found = function(argument)
    assert_same_bits(found, expected)


@pytest.mark.parametrize("wanted", SETTINGS)
def test_nor_one_of_a_traced_program(wanted):
    expected = without(learn, "ppo", "aot_eager")
    with SETTINGS[wanted]():
        found = learn("ppo", "aot_eager")
    assert_same_bits(found, expected)
