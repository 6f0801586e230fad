"""What all bandit algorithms promise, beside the contracts of every algorithm."""

import dataclasses
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from funcrl import envs
from funcrl.algos import bandits
from funcrl.core import jit, random, tree
from funcrl.envs.bernoulli_bandit import BernoulliBandit
from funcrl.envs.gaussian_bandit import GaussianBandit
from tests.algos.bandits import table
from tests.algos.bandits.table import CASES

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
KEY = random.key(5)
HISTORY = [(0, 1.0), (2, 0.0), (1, 0.5)]


def float_fields(config):
    return [field.name for field in dataclasses.fields(config) if not field.metadata.get("static", False)]


def close(a, b):
    return all(
        torch.allclose(x, y, rtol=1e-5, atol=1e-6, equal_nan=True)
        for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True)
    )


def test_all_algorithms_are_in_the_table():
    modules = [getattr(bandits, name) for name in bandits.__all__]
    context_free = {module.__name__.rpartition(".")[2] for module in modules if hasattr(module, "arms")}
    assert {case.name for case in CASES} == context_free


@cases
def test_actions_have_the_shape_of_the_observations(case):
    state = case.after(HISTORY)
    for shape in ((), (1,), (4,), (2, 3)):
        obs = torch.zeros(shape, dtype=torch.int64)
        action, extras = case.algorithm.act(state, obs, KEY)
        assert (action.shape, action.dtype, extras) == (obs.shape, torch.int64, {})
        greedy = case.algorithm.greedy(state, obs)
        assert (greedy.shape, greedy.dtype) == (obs.shape, torch.int64)
        assert len(set(greedy.flatten().tolist())) == 1


@cases
def test_an_untried_bandit_tries_every_arm(case):
    """Behaviour breaks ties at random, and each observation has a draw of its own."""
    action, _ = case.algorithm.act(case.init(), torch.zeros(300), KEY)
    counts = np.bincount(action.numpy(), minlength=3)
    assert counts.min() > 60


@cases
def test_one_arm_is_enough(case):
    env = BernoulliBandit(means=(0.5,))
    state = case.after([(0, 1.0), (0, 0.0)], env=env)
    assert int(case.algorithm.act(state, torch.zeros(()), KEY)[0]) == 0
    assert all(value.isfinite() for value in state.metrics.values())


@cases
def test_metrics_are_nan_before_and_finite_after(case):
    names = list(case.algorithm.METRICS)
    assert list(case.init().metrics) == names
    assert all(value.isnan() for value in case.init().metrics.values())
    state = case.init()
    for pull in HISTORY:
        state = case.algorithm.update(state, table.transition(*pull))
        assert list(state.metrics) == names
        assert all(value.isfinite() and value.shape == () for value in state.metrics.values())


@cases
def test_lanes_are_what_they_are_alone_also_two_deep(case):
    histories = [[(0, 1.0), (1, 0.0)], [(2, 0.5), (2, 1.0)], [(1, 0.0), (0, 0.0)], [(2, 1.0), (1, 1.0)]]
    states = tree.stack([case.after(history[:1]) for history in histories])
    batches = tree.stack([table.transition(*history[1]) for history in histories])
    fold = lambda value: tree.map(lambda leaf: leaf.reshape(2, 2, *leaf.shape[1:]), value)
    keys = random.split(KEY, 4)
    obs = torch.zeros(4, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        once = torch.vmap(case.algorithm.update)(states, batches)
        twice = torch.vmap(torch.vmap(case.algorithm.update))(fold(states), fold(batches))
        action, _ = torch.vmap(case.algorithm.act)(once, obs, keys)
        nested, _ = torch.vmap(torch.vmap(case.algorithm.act))(twice, fold(obs), fold(keys))
        torch.vmap(case.algorithm.greedy)(once, obs)
    assert close(fold(once), twice)
    assert torch.equal(fold(action), nested)
    for lane, history in enumerate(histories):
        alone = case.after(history)
        assert close(tree.index(once, lane), alone)
        assert int(case.algorithm.act(alone, obs[0], keys[lane])[0]) == int(action[lane])


@cases
def test_every_float_can_be_swept(case):
    for name in float_fields(case.config):
        value = float(getattr(case.config, name))
        values = torch.tensor([value, 0.7 * value])

        def lane(x, name=name):
            state = case.after(HISTORY, tree.replace(case.config, **{name: x}))
            action, _ = case.algorithm.act(state, torch.zeros(50), KEY)
            return state, action

        together = torch.vmap(lane)(values)
        assert torch.equal(getattr(together[0].config, name), values)
        for i in range(2):
            assert close(tree.index(together, i), lane(values[i])), name


@pytest.mark.parametrize(
    ("case", "backend"),
    [pytest.param(case, "aot_eager", id=case.name) for case in CASES]
    + [
        pytest.param(case, "inductor", marks=pytest.mark.compiled, id=f"{case.name} compiled")
        for case in CASES
        if case.name in ("ucb", "thompson_beta")
    ],
)
def test_compiled_is_eager_and_compiled_once(case, backend):
    def step(state, obs, key):
        action, _ = case.algorithm.act(state, obs, key)
        reward = (action == 1).to(torch.float32)
        batch = tree.replace(table.transition(0, 0.0), action=action, reward=reward)
        return case.algorithm.update(state, batch)

    lanes = torch.vmap(step)
    program = jit.jit(lanes, backend=backend)
    eager = compiled = tree.stack([case.after(HISTORY[:1]) for _ in range(4)])
    for t in range(4):
        arguments = torch.zeros(4, dtype=torch.int64), random.split(random.key(t), 4)
        eager, compiled = lanes(eager, *arguments), program(compiled, *arguments)
        assert close(eager, compiled)
    assert program.num_graphs == 1


@cases
def test_floats_are_tensors_inside_a_state(case):
    config = case.init().config
    for name in float_fields(config):
        value = getattr(config, name)
        assert (value.shape, value.dtype) == ((), torch.float32)


@cases
def test_nothing_is_made_on_another_device(case):
    """On the meta device, where the CPU's tensors would not mix with its own."""
    meta = lambda value: tree.map(lambda leaf: leaf.to("meta"), value)
    state = meta(case.after(HISTORY))
    updated = case.algorithm.update(state, meta(table.transition(0, 1.0)))
    action, _ = case.algorithm.act(updated, torch.zeros(2, device="meta"), KEY.to("meta"))
    greedy = case.algorithm.greedy(updated, torch.zeros(2, device="meta"))
    begun = case.algorithm.init(KEY.to("meta"), case.config, case.env)
    assert {x.device.type for x in tree.leaves((updated, action, greedy, begun))} == {"meta"}


@cases
def test_several_pulls_at_once_are_refused(case):
    batch = tree.stack([table.transition(0, 1.0)] * 2)
    with pytest.raises(ValueError, match=rf"{case.name}\.update: batch\.action must be one number"):
        case.algorithm.update(case.init(), batch)
    one = table.transition(0, 1.0)
    with pytest.raises(ValueError, match=rf"{case.name}\.update: batch\.reward must be one number"):
        case.algorithm.update(case.init(), tree.replace(one, reward=torch.ones(1)))


def world(actions):
    return SimpleNamespace(observation_space=spaces.Discrete(1), action_space=actions)


def no_arms():
    space = spaces.Discrete(1)
    space.n = np.int64(0)
    return space


@cases
@pytest.mark.parametrize(
    ("env", "words"),
    [
        (envs.make("Pendulum-v1"), r"env\.action_space must be Discrete \(counted from 0\)"),
        (world(spaces.Discrete(3, start=1)), r"env\.action_space must be Discrete \(counted from 0\)"),
        (world(no_arms()), r"env\.action_space must have at least one arm"),
        (envs.make("CartPole-v1"), r"env\.observation_space must be Discrete\(1\)"),
        (envs.make("CliffWalking-v1"), r"env\.observation_space must be Discrete\(1\)"),
    ],
    ids=["continuous", "from one", "no arms", "vectors", "states"],
)
def test_what_is_no_bandit_is_refused(case, env, words):
    with pytest.raises(ValueError, match=rf"^{case.name}\.init: {words}"):
        case.init(env=env)


@pytest.mark.parametrize("limits", [(-math.inf, math.inf), (0.0, 2.0), (-1.0, 1.0), (0.0, math.nan)])
def test_thompson_beta_refuses_rewards_that_are_no_probabilities(limits):
    env = world(spaces.Discrete(2))
    env.reward_range = limits
    with pytest.raises(ValueError, match=r"env\.reward_range must lie in \[0, 1\].*thompson_gaussian"):
        bandits.thompson_beta.init(KEY, bandits.thompson_beta.Config(), env)
    with pytest.raises(ValueError, match="reward_range"):
        bandits.thompson_beta.init(KEY, bandits.thompson_beta.Config(), GaussianBandit())


def test_thompson_beta_takes_an_environment_that_does_not_tell_its_rewards():
    state = bandits.thompson_beta.init(KEY, bandits.thompson_beta.Config(), world(spaces.Discrete(2)))
    assert state.successes.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("epsilon_greedy", {"epsilon": 1.1}),
        ("decaying_epsilon", {"c": -1.0}),
        ("decaying_epsilon", {"d": 0.0}),
        ("decaying_epsilon", {"d": 1.5}),
        ("optimistic", {"step_size": 2.0}),
        ("optimistic", {"epsilon": -0.1}),
        ("optimistic", {"initial_value": math.nan}),
        ("optimistic", {"initial_value": math.inf}),
        ("ucb", {"exponent": -1.0}),
        ("ucb", {"width": -1.0}),
        ("thompson_beta", {"prior_successes": 0.0}),
        ("thompson_beta", {"prior_failures": math.inf}),
        ("thompson_gaussian", {"noise_std": 0.0}),
        ("thompson_gaussian", {"prior_std": math.inf}),
        ("thompson_gaussian", {"prior_mean": math.nan}),
        ("gradient_bandit", {"step_size": -0.1}),
        ("boltzmann", {"temperature": 0.0}),
    ],
)
def test_impossible_settings_are_refused(name, params):
    ((field, value),) = params.items()
    unbounded = field in ("initial_value", "prior_mean")
    hold = "be finite" if unbounded else "lie in"
    with pytest.raises(ValueError, match=rf"^{name}\.Config: {field} must {hold}.*, got {value}"):
        getattr(bandits, name).Config(**params)
