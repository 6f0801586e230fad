"""A lane whose experience is no longer made of numbers stops and is named; the others go on as if it had not been."""

import functools

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from funcrl import envs
from funcrl.algos import ppo, sac
from funcrl.core import tree
from funcrl.envs.host_stops import Stops
from funcrl.envs.host_vector import HostVector
from funcrl.train import train

SEEDS = [3, 4, 5]


class Strict(gymnasium.Env):
    """Refuses actions that are no numbers, and pays a bad reward in one step of the environment of one seed."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(np.array([1.0], np.float32), np.array([3.0], np.float32))

    def __init__(self, seed=None, at=0, reward=np.nan):
        self.bad, self.at, self.reward = seed, at, reward

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.mine = self.mine if seed is None else seed
        self.time = getattr(self, "time", 0)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        if not np.isfinite(action).all():
            raise ValueError("simulation unstable")
        self.time += 1
        broken = self.mine == self.bad and self.time == self.at
        obs = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return obs, self.reward if broken else -float((action[0] - 2) ** 2), self.time % 7 == 0, False, {}


def host(seed=None, at=0, reward=np.nan, env=0):
    own = None if seed is None else envs.host_vector.environment_seeds(seed, 2)[env]
    return envs.from_gymnasium(lambda: Strict(own, at, reward))


CONFIGS = {
    "sac": sac.Config(
        num_envs=2,
        warmup_steps=8,
        batch_size=4,
        hidden=(4,),
        buffer_size=64,
        window_length=4,
        updates_per_window=2,
    ),
    "ppo": ppo.Config(num_envs=2, window_length=8, num_minibatches=1, hidden=(4,)),
}


@functools.cache
def run(name, *broken):
    """A short run; one in which nothing breaks is compared with all others."""
    given = {"config": CONFIGS[name], "seeds": SEEDS, "num_steps": 48, "backend": "eager"}
    return train(name, host(*broken), **given)


@pytest.mark.parametrize("reward", [np.nan, np.inf])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_reward_that_is_no_number_stops_its_seed_alone(name, reward):
    fine = run(name)
    with pytest.warns(
        RuntimeWarning, match=r"step: reward of environment 1 of seed 4 in its step 9 must be finite"
    ):
        broken = run(name, 4, 9, reward, 1)
    assert fine.nonfinite_seeds == []
    assert broken.nonfinite_seeds == [4]
    for lane in (0, 2):
        pairs = zip(tree.leaves(broken.states), tree.leaves(fine.states), strict=True)
        assert all(torch.equal(a[lane], b[lane]) for a, b in pairs)


def test_an_agent_that_has_diverged_does_not_end_the_run_of_others():
    vector = HostVector(host(), 3, 2)
    vector.reset(SEEDS)
    actions = torch.full((6, 1), 2.0)
    assert vector.step(actions).reward.tolist() == [0.0] * 6
    with pytest.warns(
        RuntimeWarning, match="action of environment 0 of seed 4 in its step 2 must be finite. The seed"
    ):
        step = vector.step(actions.index_fill(0, torch.tensor(2), torch.nan))
    # What harms nobody is the number nearest to 0: 1, which costs 1; nobody is told.
    assert step.reward.isnan().tolist() == [False, False, True, True, False, False]
    again = vector.step(actions)
    assert again.reward.isnan().tolist() == step.reward.isnan().tolist()
    vector.reset(SEEDS)
    assert vector.step(actions).reward.tolist() == [0.0] * 6


def test_harmless_actions_belong_to_their_spaces():
    parts = {
        "box": spaces.Box(np.float32([1, -1]), np.float32([2, 1])),
        "number": spaces.Discrete(3, start=5),
        "pair": spaces.Tuple([spaces.MultiDiscrete([2, 3], start=[1, 1]), spaces.MultiBinary(2)]),
    }
    space = spaces.Dict(parts)
    stops = Stops("Odd", space, 2, 1)
    drawn = [space.sample() for _ in range(2)]
    arrays = {
        "box": np.stack([d["box"] for d in drawn]),
        "number": np.stack([d["number"] for d in drawn]),
        "pair": tuple(np.stack([d["pair"][i] for d in drawn]) for i in range(2)),
    }
    arrays["box"][1, 0] = np.nan
    with pytest.warns(RuntimeWarning, match="action of environment 0 of seed 1"):
        given = stops.actions(arrays)
    one = {name: tuple(x[1] for x in v) if isinstance(v, tuple) else v[1] for name, v in given.items()}
    assert space.contains(one)
    assert one["box"].tolist() == [1, 0]
    assert given["number"][0] == drawn[0]["number"]
