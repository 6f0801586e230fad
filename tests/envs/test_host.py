"""Host environments: what the bridge shows, whatever vector environment is beneath."""

import os
import signal

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from funcrl import envs
from funcrl.core import tree
from funcrl.envs.host_vector import HostVector, environment_seeds

# Gymnasium warns of what the bridge then reports.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Countdown(gymnasium.Env):
    """Counts up from its seed's last digit; ends at 5, or is cut off at the fourth step."""

    observation_space = spaces.Box(0, 100, (1,), np.float64)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number, self.time = float(self.np_random.integers(3)), 0
        return self._obs(), {}

    def step(self, action):
        self.number, self.time = self.number + action, self.time + 1
        return self._obs(), self.number * 10, self.number >= 5, self.time >= 4, {}

    def _obs(self):
        return np.array([self.number])


class Several(Countdown):
    """The same, seen through a Dict, a Tuple and an integer."""

    observation_space = spaces.Dict(
        {
            "pair": spaces.Tuple([spaces.Box(0, 100, (1,), np.float32), spaces.Discrete(100)]),
            "flags": spaces.MultiBinary(2),
        }
    )

    def _obs(self):
        number = int(self.number)
        return {
            "pair": (np.array([self.number], dtype=np.float32), number),
            "flags": np.array([number > 2, number > 4], dtype=np.int8),
        }


class Fragile(Countdown):
    def step(self, action):
        if self.time == 2:
            raise ZeroDivisionError("wheel came off")
        return super().step(action)


def native(mode, make=Countdown):
    return envs.from_gymnasium(
        lambda num_envs: SyncVectorEnv([make] * num_envs, autoreset_mode=mode), vectorization="native"
    )


WAYS = {
    "sync": lambda make: envs.from_gymnasium(make),
    "async": lambda make: envs.from_gymnasium(make, vectorization="async"),
    "native same step": lambda make: native(AutoresetMode.SAME_STEP, make),
    "native next step": lambda make: native(AutoresetMode.NEXT_STEP, make),
    "native disabled": lambda make: native(AutoresetMode.DISABLED, make),
}


def episodes(way, make=Countdown, steps=60):
    """Each environment's valid rows in order, with what it saw before each."""
    vector = HostVector(WAYS[way](make), 2, 3)
    obs = vector.reset([7, 8])
    rows = [[] for _ in range(6)]
    for t in range(steps):
        actions = torch.arange(6) % 3 + (t % 2) * (torch.arange(6) == 0)
        step = vector.step(actions)
        for e in range(6):
            if step.valid[e]:
                rows[e].append(
                    (
                        tree.index(obs, e),
                        int(actions[e]),
                        float(step.reward[e]),
                        bool(step.terminated[e]),
                        bool(step.truncated[e]),
                        tree.index(step.next_obs, e),
                    )
                )
        obs = step.obs
    vector.close()
    return rows


@pytest.mark.parametrize("way", WAYS)
def test_rows_join_up_and_never_two_episodes(way):
    """Against the rules of the environment itself."""
    for rows in episodes(way):
        time = 0
        assert len(rows) >= 40
        for before, row in zip([None, *rows], rows, strict=False):
            obs, action, reward, terminated, truncated, next_obs = row
            time += 1
            assert float(next_obs) == float(obs) + action
            assert reward == float(next_obs) * 10
            assert terminated == (float(next_obs) >= 5)
            assert truncated == (time >= 4)
            if before is not None and not (before[3] or before[4]):
                assert float(obs) == float(before[5])
            elif before is not None:
                assert float(obs) < 3
            if terminated or truncated:
                time = 0


def test_ways_agree_on_everything_but_their_seeds():
    def same(a, b):
        rows_a, rows_b = episodes(a), episodes(b)
        for ours, theirs in zip(rows_a, rows_b, strict=True):
            for x, y in zip(ours, theirs, strict=False):
                assert all(
                    torch.equal(torch.as_tensor(p), torch.as_tensor(q)) for p, q in zip(x, y, strict=True)
                )

    same("sync", "async")
    same("native same step", "native disabled")


@pytest.mark.parametrize("way", WAYS)
def test_dicts_tuples_and_integers(way):
    for rows in episodes(way, Several, steps=12):
        for obs, action, _, terminated, _, next_obs in rows:
            assert int(next_obs["pair"][1]) == int(obs["pair"][1]) + action
            assert float(next_obs["pair"][0]) == float(next_obs["pair"][1])
            assert bool(next_obs["flags"][1]) == terminated
            assert next_obs["pair"][1].dtype == torch.int64


def test_64_bit_observations_are_narrowed():
    env = envs.from_gymnasium(Countdown)
    assert env.observation_space == spaces.Box(0, 100, (1,), np.float32)
    assert HostVector(env, 1, 2).reset([0]).dtype == torch.float32


def test_a_lane_and_an_environment_get_the_same_seed_whatever_stands_beside_them():
    assert environment_seeds(8, 5)[:3] == environment_seeds(8, 3)
    assert len(set(environment_seeds(0, 500)) | set(environment_seeds(1, 500))) == 1000
    env = envs.from_gymnasium("CartPole-v1")
    together, alone = HostVector(env, 2, 3).reset([7, 8]), HostVector(env, 1, 3).reset([8])
    assert torch.equal(together[3:], alone)


def test_lanes_that_are_not_wanted_stay_where_they_are():
    vector = HostVector(native(AutoresetMode.NEXT_STEP), 2, 1)
    obs = vector.reset([0, 1])
    step = vector.step(torch.tensor([1, 1]), [True, False])
    assert step.valid.tolist() == [True, False]
    assert float(step.obs[0]) == float(obs[0]) + 1
    assert float(step.obs[1]) == float(obs[1])
    assert float(vector.step(torch.tensor([1, 1])).obs[1]) == float(obs[1]) + 1


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_an_environment_that_raises_is_named(vectorization):
    vector = HostVector(envs.from_gymnasium(Fragile, vectorization=vectorization), 1, 2)
    vector.reset([0])
    for _ in range(2):
        vector.step(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(envs.HostError, match=r"Fragile\.step: .* raised ZeroDivisionError: wheel came off"):
        vector.step(torch.zeros(2, dtype=torch.int64))


def test_a_worker_that_dies_is_reported_and_not_waited_for():
    vector = HostVector(envs.from_gymnasium(Countdown, vectorization="async"), 1, 2)
    vector.reset([0])
    os.kill(vector._vectors[0].processes[1].pid, signal.SIGKILL)
    with pytest.raises(envs.HostError, match=r"Countdown\.step: every worker process must stay alive"):
        vector.step(torch.zeros(2, dtype=torch.int64))
    vector.close()


class Exits(Countdown):
    """A Countdown whose process ends in a step."""

    def step(self, action):
        os._exit(3)


def test_a_worker_that_ends_in_a_step_is_reported_too():
    vector = HostVector(envs.from_gymnasium(Exits, vectorization="async"), 1, 2)
    vector.reset([0])
    with pytest.raises(envs.HostError, match=r"Exits\.step: every worker process must stay alive"):
        vector.step(torch.zeros(2, dtype=torch.int64))
    assert not any(process.is_alive() for process in vector._vectors[0].processes)
    vector.close()


class Returns(Countdown):
    """A Countdown that returns something else in its second step, or at its beginning."""

    changes, first = {}, None

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        return (obs, info) if self.first is None else self.first

    def step(self, action):
        names = ("obs", "reward", "terminated", "truncated", "info")
        result = dict(zip(names, super().step(action), strict=True))
        if self.time == 2:
            result |= self.changes
        return tuple(value for value in result.values() if value is not Ellipsis)


def returning(changes, space=None, first=None):
    body = {"changes": changes, "first": first}
    return type("Odd", (Returns,), body if space is None else body | {"observation_space": space})


SECOND = r"of environment 0 of lane 0 in step 2 of its episode must"
WRONG = {
    "no reward": ({"reward": None}, rf"reward {SECOND} be one number, got None\. Return a float\."),
    "a row of rewards": (
        {"reward": np.zeros(2)},
        rf"reward {SECOND} be one number, got an array of shape \(2,\)",
    ),
    "a reward in a row": (
        {"reward": np.ones(1)},
        rf"reward {SECOND} be one number, got an array of shape \(1,\)",
    ),
    "a reward in a list": ({"reward": [1.0]}, rf"reward {SECOND} be one number, got \[1\.0\]"),
    "a word": ({"reward": "1"}, rf"reward {SECOND} be one number, got '1'"),
    "a tensor": ({"reward": torch.ones(2)}, rf"reward {SECOND} be one number, got an array of shape \(2,\)"),
    "no flag": ({"terminated": None}, rf"terminated {SECOND} be True or False, got None"),
    "a word for a flag": ({"truncated": "no"}, rf"truncated {SECOND} be True or False, got 'no'"),
    "a number for a flag": ({"truncated": 0.5}, rf"truncated {SECOND} be True or False, got 0\.5"),
    "a row of flags": (
        {"terminated": np.ones(2, bool)},
        rf"terminated {SECOND} be True or False, got an array",
    ),
    "no observation": (
        {"obs": None},
        rf"obs {SECOND} hold numbers of shape \(1,\), got None\. Its space is Box",
    ),
    "another shape": (
        {"obs": np.zeros(2)},
        rf"obs {SECOND} hold numbers of shape \(1,\), got an array of shape",
    ),
    "ragged": ({"obs": [[1.0], [1.0, 2.0]]}, rf"obs {SECOND} hold numbers of shape \(1,\), got \[\[1\.0\]"),
    "no info": ({"info": None}, rf"info {SECOND} be a dict, got None"),
    "four values": ({"truncated": Ellipsis}, rf"what it returns {SECOND} be \(obs, reward, .* got 4 values"),
}


@pytest.mark.parametrize(
    ("name", "vectorization"),
    [(name, "sync") for name in WRONG] + [(name, "async") for name in ("no reward", "no flag")],
)
def test_what_an_environment_must_not_return_is_named_with_its_step(name, vectorization):
    changes, message = WRONG[name]
    vector = HostVector(envs.from_gymnasium(returning(changes), vectorization=vectorization), 1, 1)
    vector.reset([0])
    vector.step(torch.zeros(1, dtype=torch.int64))
    with pytest.raises(envs.HostError, match=rf"^Odd\.step: {message}"):
        vector.step(torch.zeros(1, dtype=torch.int64))
    vector.close()


def test_the_environment_among_several_lanes_is_the_one_at_fault():
    made = []

    def make():
        made.append(Countdown() if len(made) != 1 + 3 else returning({"reward": None})())
        return made[-1]

    vector = HostVector(envs.from_gymnasium(make), 2, 2)
    vector.reset([0, 1])
    vector.step(torch.zeros(4, dtype=torch.int64))
    with pytest.raises(envs.HostError, match="of environment 1 of lane 1 in step 2"):
        vector.step(torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize(
    ("space", "obs", "message"),
    [
        (spaces.Discrete(5), 1.5, r"obs .* hold integers of shape \(\), got 1\.5"),
        (
            Several.observation_space,
            {"flags": np.zeros(2)},
            r"obs .* have the keys 'flags', 'pair', got \{'flags'",
        ),
        (
            Several.observation_space,
            {"pair": (np.zeros(1), None), "flags": np.zeros(2, np.int8)},
            r"obs\['pair'\]\[1\] of environment 0 of lane 0 must hold integers of shape \(\), got None",
        ),
    ],
)
def test_a_first_observation_that_is_none_of_the_spaces_is_refused(space, obs, message):
    vector = HostVector(envs.from_gymnasium(returning({}, space, (obs, {}))), 1, 1)
    with pytest.raises(envs.HostError, match=rf"^Odd\.reset: {message}"):
        vector.reset([0])


def test_a_reset_that_returns_the_observation_alone_is_refused():
    vector = HostVector(envs.from_gymnasium(returning({}, first=np.zeros(1))), 1, 1)
    with pytest.raises(
        envs.HostError, match=r"^Odd\.reset: what it returns .* must be \(obs, info\), got an array"
    ):
        vector.reset([0])


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (3, 3.0),
        (True, 1.0),
        (np.float32(2.5), 2.5),
        (np.array(2.5), 2.5),
        (torch.tensor(2.5), 2.5),
    ],
)
def test_whatever_is_one_number_is_a_reward(reward, expected):
    changes = {"reward": reward, "terminated": np.bool_(False), "truncated": np.array(1)}
    vector = HostVector(envs.from_gymnasium(returning(changes)), 1, 1)
    vector.reset([0])
    vector.step(torch.zeros(1, dtype=torch.int64))
    step = vector.step(torch.zeros(1, dtype=torch.int64))
    assert step.reward.tolist() == pytest.approx([expected])
    assert (step.terminated.tolist(), step.truncated.tolist()) == ([False], [True])


class Vector(SyncVectorEnv):
    """Two Countdowns that return something else in their second step."""

    def __init__(self, changes):
        super().__init__([Countdown] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
        self.changes, self.time = changes, 0

    def step(self, actions):
        self.time += 1
        names = ("obs", "reward", "terminated", "truncated", "info")
        result = dict(zip(names, super().step(actions), strict=True))
        return tuple((result | (self.changes if self.time == 2 else {})).values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": None}, "reward of lane 0 in step 2 must hold 2 numbers, got None"),
        ({"reward": [1.0, None]}, r"reward of lane 0 in step 2 must hold 2 numbers, got \[1\.0, None\]"),
        ({"reward": np.zeros((2, 1))}, "reward .* must hold 2 numbers, got an array of shape"),
        (
            {"terminated": np.array([0, 2])},
            "terminated .* must hold True or False for each of 2, got an array",
        ),
        ({"truncated": False}, "truncated .* must hold True or False for each of 2, got False"),
        (
            {"obs": np.zeros((1, 1))},
            r"obs of lane 0 in step 2 must hold numbers of shape \(2, 1\), got an array",
        ),
    ],
)
def test_what_a_native_vector_environment_must_not_return_is_named(changes, message):
    env = envs.from_gymnasium(lambda num_envs: Vector(changes), vectorization="native", num_envs=2)
    vector = HostVector(env, 1, 2)
    vector.reset([0])
    vector.step(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(envs.HostError, match=message):
        vector.step(torch.zeros(2, dtype=torch.int64))


def test_flags_of_a_native_vector_environment_may_be_zeros_and_ones():
    changes = {"terminated": [0, 1], "truncated": torch.tensor([True, False]), "reward": torch.tensor([1, 2])}
    env = envs.from_gymnasium(lambda num_envs: Vector(changes), vectorization="native", num_envs=2)
    vector = HostVector(env, 1, 2)
    vector.reset([0])
    vector.step(torch.zeros(2, dtype=torch.int64))
    step = vector.step(torch.zeros(2, dtype=torch.int64))
    assert step.terminated.tolist() == [False, True]
    assert step.truncated.tolist() == [True, False]
    assert step.reward.tolist() == [1.0, 2.0]


class Words(Countdown):
    observation_space = spaces.Text(5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: envs.from_gymnasium("NoSuch-v1"), ValueError, "must be an environment that can be made"),
        (lambda: envs.from_gymnasium(Words), ValueError, "Words's observation_space must be one of Box"),
        (lambda: envs.from_gymnasium(Countdown()), TypeError, "Write a function that makes a new one"),
        (lambda: envs.from_gymnasium(lambda: 3), TypeError, "env must make a Env for 'sync', got int"),
        (
            lambda: envs.from_gymnasium("CartPole-v1", vectorization="fast"),
            ValueError,
            "be one of sync, async",
        ),
        (lambda: envs.from_gymnasium("CartPole-v1", num_envs=0), ValueError, "num_envs must be at least 1"),
        (lambda: envs.from_gymnasium("CartPole-v1", speed=3), ValueError, "can be made, got .*speed"),
        (
            lambda: HostVector(envs.from_gymnasium(Countdown, num_envs=2), 1, 3),
            ValueError,
            "num_envs must be",
        ),
    ],
)
def test_bad_input_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
