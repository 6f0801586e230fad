"""Training on environments whose numbers differ between lanes, on wrapped ones, and on host ones."""

import functools

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from funcrl import envs
from funcrl.algos import ppo
from funcrl.core import jit, random, tree
from funcrl.train import Run, evaluate, make_plan, train
from tests.probes import LINE, TWO, Counter

SMALL = ppo.Config(num_envs=2, window_length=16, num_epochs=1, num_minibatches=2, hidden=(8,))
NARROW = {"angle_threshold": 0.06}  # for short episodes
BACKENDS = ["eager", "aot_eager"]


def run(env, seeds=(0, 5, 7), iterations=3, backend="eager", **kwargs):
    return train("ppo", env, config=SMALL, seeds=seeds, num_steps=32 * iterations, backend=backend, **kwargs)


def same(a, b, **tolerance):
    return torch.allclose(a.nan_to_num(), b.nan_to_num(), **({"atol": 1e-4} | tolerance))


def test_a_sweep_over_pole_lengths_is_a_sweep_like_any_other():
    lengths = [0.05, 0.5, 2.0]
    together = run(envs.make("CartPole-v1", **NARROW, half_length=lengths))
    for lane, seed, length in ((0, 0, lengths[0]), (2, 7, lengths[2])):
        alone = run(envs.make("CartPole-v1", **NARROW, half_length=length), seeds=[seed])
        assert same(alone.returns[0], together.returns[lane])
        assert torch.equal(alone.episodes[0], together.episodes[lane])
    finals = together.final_returns()
    assert finals[0] < finals[2]


def test_groups_of_lanes_keep_their_own_numbers_and_share_one_program():
    env = envs.ScaleReward(envs.make("CartPole-v1", half_length=[0.05, 0.1, 0.5, 2.0, 5.0]), scale=0.1)
    seeds = range(5)
    together = run(env, seeds, iterations=2)
    before = jit.stats().num_graphs
    grouped = run(env, seeds, iterations=2, lanes_per_group=2)
    assert jit.stats().num_graphs - before == 4
    assert same(grouped.returns, together.returns)


def test_evaluation_gives_each_agent_its_own_environment():
    env = envs.make("CartPole-v1", **NARROW, half_length=[0.05, 0.5, 5.0])
    states = run(env, iterations=1).states
    together = evaluate("ppo", env, states, num_episodes=3, backend="eager")
    for lane, length in enumerate([0.05, 0.5, 5.0]):
        one = tree.index(states, slice(lane, lane + 1))
        there = envs.make("CartPole-v1", **NARROW, half_length=length)
        alone = evaluate("ppo", there, one, num_episodes=3, backend="eager")
        assert torch.equal(alone[0], together[lane])


def test_a_threshold_that_bounds_the_space_may_differ_too():
    env = envs.NormalizeObservation(envs.make("CartPole-v1", x_threshold=[1.0, 2.0, 3.0]))
    assert run(env, iterations=2).returns.shape == (3, 2)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            envs.make("CartPole-v1", half_length=[1.0, 2.0]),
            r"env\.half_length must be one number or hold one",
        ),
        (
            envs.FrameStack(envs.make("CartPole-v1", gravity=[1.0, 2.0, -3.0]), 2),
            "CartPole: gravity must lie in",
        ),
    ],
)
def test_numbers_of_environments_are_checked(env, message):
    with pytest.raises(ValueError, match=message):
        run(env)


def test_a_policy_that_learnt_with_moments_is_evaluated_with_them():
    """The observation is 100 or 101: alone too far from zero for the agent to tell them apart."""
    env = envs.NormalizeObservation(Far())
    result = train(ppo, env, config=QUICK, seeds=[0, 1], num_steps=1536, backend="aot_eager")
    known = evaluate(ppo, env, result.states, num_episodes=20, env_states=result.env_states, backend="eager")
    assert known.mean() > 0.95
    count = result.env_states.inner.moments.count
    assert count.shape == (2, 8)
    assert (count == 8 + 1536).all()
    with pytest.raises(ValueError, match="evaluate: env_states must be environments of 2 lanes"):
        evaluate(ppo, env, result.states, env_states=tree.index(result.env_states, [0]), backend="eager")


QUICK = ppo.Config(num_envs=8, window_length=16, num_minibatches=2, hidden=(16,), learning_rate=1e-2)


@tree.struct
class Far:
    """One step; 100 asks for action 0, 101 for action 1."""

    max_episode_steps: int | None = tree.static(default=10)
    observation_space = gymnasium.spaces.Box(0.0, 200.0, (1,), np.float32)
    action_space = TWO

    def initial(self, key):
        shown = torch.where(random.bernoulli(key, 0.5), 101.0, 100.0)
        return torch.stack([shown, torch.full_like(shown, -1.0)])

    def transition(self, state, action, key):
        return torch.stack([state[0], torch.where(state[0] == 100.0 + action, 1.0, 0.0)])

    def observation(self, state, key):
        return state[:1]

    def reward(self, state, action, next_state, key):
        return next_state[1]

    def terminal(self, state, key):
        return state[1] >= 0.0


# Host environments.


class HostCounter(gymnasium.Env):
    """`Counter` on the host: pays 1 a step, ends at the third, cut off at the tenth."""

    observation_space, action_space = LINE, TWO

    def __init__(self, end=3):
        self.end = end

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        self.count += 1
        row = np.array([self.count], dtype=np.float32)
        return row, 1.0, self.count >= self.end, self.count >= 10, {}


def native(mode):
    return envs.from_gymnasium(
        lambda num_envs: SyncVectorEnv([HostCounter] * num_envs, autoreset_mode=mode), vectorization="native"
    )


WAYS = {
    "device": lambda: Counter(end=3),
    "sync": lambda: envs.from_gymnasium(HostCounter),
    "async": lambda: envs.from_gymnasium(HostCounter, vectorization="async"),
    **{f"native {mode.name}": (lambda mode=mode: native(mode)) for mode in AutoresetMode},
}


@functools.cache
def windows_of(way):
    """Return the third window of two lanes."""
    lanes = Run(ppo, WAYS[way](), SMALL, [0, 1], backend="eager")
    for _ in range(3):
        lanes.iterate()
    window = tree.map(torch.clone, lanes.collector.window)
    lanes.close()
    return tree.replace(window, transition=tree.replace(window.transition, action=(), extras={}))


@pytest.mark.parametrize("way", [way for way in WAYS if way != "device"])
def test_the_host_gives_the_windows_that_the_device_gives(way):
    """Rows, ends, true next observations and returns of episodes, whatever resets itself when."""
    device, host = windows_of("device"), windows_of(way)
    # A row more at the end of a window begins the next one elsewhere in an episode.
    if "NEXT_STEP" not in way:
        for a, b in zip(tree.leaves(device), tree.leaves(host), strict=True):
            assert torch.equal(a, b)
    rows = host.transition
    assert torch.equal(rows.next_obs, rows.obs + 1)
    assert torch.equal(rows.terminated, rows.next_obs[..., 0] == 3)
    assert torch.equal(host.episode_return, rows.next_obs[..., 0])


@pytest.mark.parametrize(("backend", "vectorization"), [("eager", "sync"), ("aot_eager", "native")])
def test_lanes_of_host_environments_do_not_know_of_each_other(backend, vectorization):
    env = envs.from_gymnasium("CartPole-v1", vectorization=vectorization)
    together = run(env, backend=backend)
    assert together.placement == "host"
    for lane, seed in ((0, 0), (2, 7)):
        alone = run(env, seeds=[seed])
        assert same(alone.returns[0], together.returns[lane])
        assert torch.equal(alone.episodes[0], together.episodes[lane])
    grouped = run(env, lanes_per_group=2)
    assert same(grouped.returns, together.returns)


@pytest.mark.parametrize("backend", BACKENDS)
def test_host_training_compiles_three_programs_and_no_more(backend):
    lanes = Run("ppo", "gymnasium:CartPole-v1", SMALL, [0, 1], backend=backend)
    for _ in range(4):
        lanes.iterate()
    assert lanes.num_graphs == 3
    carry = lanes.carry
    lanes.restore(carry)
    lanes.iterate()
    assert lanes.num_graphs == 3
    assert int(lanes.carry.iteration[0]) == 5
    lanes.close()


def test_what_runs_on_the_host_goes_on_with_the_agents_of_before_and_new_episodes():
    one, other = (Run("ppo", "gymnasium:CartPole-v1", SMALL, [0, 1], backend="eager") for _ in "ab")
    one.iterate()
    carry = one.carry
    other.restore(carry)
    assert same(tree.leaves(other.carry.agent)[0], tree.leaves(carry.agent)[0])
    seen = other.collector._next
    assert not torch.equal(seen, one.collector.env.reset([0, 1]))
    other.iterate()
    assert int(other.carry.iteration[0]) == 2
    one.close()
    other.close()


def test_host_agents_are_evaluated_on_the_host():
    states = run(Counter(), iterations=1).states
    returns = evaluate(
        "ppo", envs.from_gymnasium(HostCounter, end=7), states, num_episodes=4, max_steps=20, backend="eager"
    )
    assert returns.tolist() == [[7.0] * 4] * 3


def test_a_name_means_the_device_first_and_gymnasium_next():
    placements = {
        name: make_plan("ppo", name, seeds=[0]).placement
        for name in ("CartPole-v1", "funcrl/CartPole-v1", "gymnasium:CartPole-v1", "Acrobot-v1")
    }
    assert placements == {
        "CartPole-v1": "device",
        "funcrl/CartPole-v1": "device",
        "gymnasium:CartPole-v1": "host",
        "Acrobot-v1": "device",
    }
    with pytest.raises(TypeError, match=r"Write envs\.from_gymnasium"):
        run(gymnasium.make("CartPole-v1"))


class Crashing(HostCounter):
    def step(self, action):
        if self.count == 2:
            raise RuntimeError("out of fuel")
        return super().step(action)


def test_a_host_environment_that_raises_ends_training_with_its_name():
    with pytest.raises(envs.HostError, match=r"Crashing\.step: .* RuntimeError: out of fuel"):
        run(envs.from_gymnasium(Crashing))


class Unstable(HostCounter):
    """The same that pays NaN from its fourth episode on."""

    episodes = 0

    def reset(self, **kwargs):
        self.episodes += 1
        return super().reset(**kwargs)

    def step(self, action):
        row, reward, *rest = super().step(action)
        return row, float("nan") if self.episodes > 3 else -reward, *rest


def test_a_return_that_is_nan_is_not_taken_for_nothing():
    assert run(envs.from_gymnasium(Unstable)).final_returns().isnan().all()


def test_one_environment_must_not_serve_all_lanes():
    one = HostCounter()
    with pytest.raises(ValueError, match="environments must be 6 different ones, got 1"):
        run(envs.from_gymnasium(lambda: one))
    too_few = lambda num_envs: gymnasium.make_vec("CartPole-v1", num_envs=1)
    with pytest.raises(ValueError, match="the vector environment must hold 2 environments, got 1"):
        run(envs.from_gymnasium(too_few, vectorization="native"))


class Pixels(HostCounter):
    observation_space = gymnasium.spaces.Box(0, 255, (2, 2), np.uint8)

    def reset(self, **kwargs):
        return np.zeros((2, 2), dtype=np.uint8), super().reset(**kwargs)[1]

    def step(self, action):
        row, *rest = super().step(action)
        return np.full((2, 2), int(row[0]), dtype=np.uint8), *rest


def test_whole_numbers_are_observed_too():
    result = run(envs.from_gymnasium(Pixels))
    assert result.metrics["value_loss"].isfinite().all()


def test_evaluation_says_what_is_missing_or_of_another_environment():
    env = envs.NormalizeObservation(envs.make("CartPole-v1"))
    result = run(env, iterations=1)
    with pytest.raises(
        ValueError, match="evaluate: env_states must be given for an environment that normalises"
    ):
        evaluate("ppo", env, result.states, backend="eager")
    with pytest.raises(ValueError, match="evaluate: env_states must be of the environment that is evaluated"):
        evaluate("ppo", "CartPole-v1", result.states, env_states=result.env_states, backend="eager")
    with pytest.raises(ValueError, match="evaluate: states must be agents for observations in Box"):
        evaluate("ppo", "MountainCar-v0", result.states, backend="eager")


class Branching(Far):
    def transition(self, state, action, key):
        return state + 1 if action == 0 else state


def test_an_error_in_an_environment_of_ones_own_points_to_the_check():
    with pytest.raises(RuntimeError) as caught:
        run(Branching())
    assert "check_env" in caught.value.__notes__[0]
    with pytest.raises(TypeError, match="train: max_episode_steps must be an integer"):
        run(Far(max_episode_steps="long"))
