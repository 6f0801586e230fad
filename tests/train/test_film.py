"""Episodes that are looked at are those that are counted."""

import gymnasium
import numpy as np
import pytest
import torch

from funcrl import envs
from funcrl.algos import ppo
from funcrl.core import random, tree
from funcrl.train import episodes, evaluate, film, train
from tests.probes import LINE, TWO, Counter

SMALL = ppo.Config(num_envs=2, window_length=16, num_epochs=1, num_minibatches=1, hidden=(8,))


@pytest.fixture(autouse=True)
def _few_steps_at_once(monkeypatch):
    """Let an episode of 30 steps take three windows, of which the last is not whole."""
    monkeypatch.setattr(episodes, "_WINDOW", 12)


def picture(number):
    return np.full((4, 6, 3), int(number), dtype=np.uint8)


@tree.struct
class Drawn(Counter):
    """Shows how far it has counted."""

    render_fps = 7

    def render(self, state):
        return picture(state)


@tree.struct
class Wandering(Drawn):
    """Wanders in [0, 1], pays where it is, and shows it; what it earns depends on every bit of every key."""

    step: float = 0.1
    max_episode_steps: int | None = tree.static(default=30)

    def initial(self, key):
        return random.uniform(key, ())

    def transition(self, state, action, key):
        return (state + self.step * (random.normal(key, ()) + action - 0.5)).clamp(0, 1)

    def reward(self, state, action, next_state, key):
        return next_state

    def terminal(self, state, key):
        return state > 0.999

    def render(self, state):
        assert isinstance(self.step, float)
        return picture(255 * float(state))


def learnt(env):
    return train("ppo", env, config=SMALL, seeds=[3, 4], num_steps=64, backend="eager")


@pytest.fixture(scope="module")
def states():
    """Return agents that have learnt to count, or anything else that one number shows and two actions change."""
    return learnt(Drawn()).states


@pytest.mark.parametrize(("greedy", "backend", "lane"), [(True, "eager", 0), (False, "aot_eager", 1)])
def test_it_earns_what_is_counted_and_shows_where_it_was(greedy, backend, lane):
    env = envs.NormalizeObservation(envs.FrameStack(Wandering(step=[0.01, 0.1]), num_frames=2))
    result = learnt(env)
    given = {"num_episodes": 3, "seed": 4, "greedy": greedy, "backend": backend}
    given["env_states"] = result.env_states
    counted = evaluate("ppo", env, result.states, **given)
    moments = list(film("ppo", env, result.states, lane=lane, **given).moments)
    earned = [moment.episode_return for moment in moments]
    assert earned[-1] == float(counted[lane, 0])
    assert (moments[0].frame.shape, earned[0]) == ((4, 6, 3), 0.0)
    shown = [moment.frame[0, 0, 0] / 255 for moment in moments[1:]]
    assert np.allclose(np.diff(earned), shown, atol=1 / 200)
    assert len(moments) > 13  # so that what is acted on and what is kept outlives the first window


@pytest.mark.parametrize(
    ("end", "limit", "last"), [(7, None, 7), (10_000, 3, 3), (10_000, None, 20), (10_000, 26, 26), (1, 9, 1)]
)
def test_it_begins_at_the_beginning_and_ends_with_the_end(end, limit, last, states):
    env = Drawn(end=end, max_episode_steps=None if limit else 20)
    episode = film("ppo", env, states, max_steps=limit, backend="eager")
    assert episode.fps == 7
    assert [frame[0, 0, 0] for frame in episode.frames] == list(range(last + 1))
    assert list(episode.frames) == []


class HostWandering(gymnasium.Env):
    """The same on the host; notes in which mode each was made, and which was closed."""

    observation_space = LINE
    action_space = TWO
    metadata = {"render_modes": ["rgb_array"], "render_fps": 12}  # noqa: RUF012
    made = []  # noqa: RUF012
    closed = []  # noqa: RUF012

    def __init__(self, render_mode=None, size=1.0):
        self.render_mode, self.size = render_mode, size
        self.made.append(render_mode)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = self.np_random.uniform()
        return np.array([self.at], np.float32), {}

    def step(self, action):
        assert isinstance(action, np.integer)
        self.at = float(np.clip(self.at + 0.1 * self.np_random.normal() + 0.01 * (action - 0.5), 0, 1))
        return np.array([self.at], np.float32), self.at * self.size, self.at > 0.999, False, {}

    def render(self):
        return picture(255 * self.at) if self.render_mode else None

    def close(self):
        self.closed.append(self.render_mode)


@pytest.mark.parametrize(
    ("greedy", "vectorization", "backend"), [(False, "sync", "aot_eager"), (True, "async", "eager")]
)
def test_on_the_host_one_environment_draws_and_all_others_do_not(greedy, vectorization, backend, states):
    env = envs.from_gymnasium(HostWandering, vectorization=vectorization, size=2.0)
    given = {"num_episodes": 2, "seed": 1, "greedy": greedy, "max_steps": 30, "backend": backend}
    counted = evaluate("ppo", env, states, **given)
    HostWandering.made.clear()
    HostWandering.closed.clear()
    for lane in range(2):
        episode = film("ppo", env, states, lane=lane, **given)
        assert episode.fps == 12
        moments = list(episode.moments)
        earned = [moment.episode_return for moment in moments]
        assert earned[-1] == float(counted[lane, 0])
        shown = [moment.frame[0, 0, 0] / 127.5 for moment in moments[1:]]
        assert np.allclose(np.diff(earned), shown, atol=1 / 100)
    # One to see whether it draws, one that is drawn.
    assert HostWandering.made.count("rgb_array") == HostWandering.closed.count("rgb_array") == 4
    if vectorization == "sync":
        assert len(HostWandering.made) == len(HostWandering.closed)


class Blind(HostWandering):
    metadata = {"render_modes": []}  # noqa: RUF012


class Broken(HostWandering):
    def render(self):
        raise ImportError("no simulator")


class Sketch(HostWandering):
    def render(self):
        return "O-"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Counter(), "the environment must draw itself, got 'Counter'. Its class wants a method render"),
        (envs.FrameStack(Counter()), "the environment must draw itself, got 'Counter'"),
        (
            envs.from_gymnasium(Blind),
            "must draw in the mode 'rgb_array' for pictures, got 'one with render_modes",
        ),
        (
            envs.from_gymnasium(lambda: HostWandering()),
            "Give from_gymnasium a function that takes render_mode=",
        ),
        (
            envs.from_gymnasium(Broken),
            "must draw itself, got: Broken.render: .* raised ImportError: no simulator",
        ),
        (envs.from_gymnasium(Sketch), r"the picture must be an array \[H, W, 3\] of uint8, got str"),
        (
            envs.from_gymnasium("CartPole-v1", vectorization="native"),
            "vectorization must be 'sync' or 'async' for pictures, got 'native'",
        ),
    ],
)
def test_what_does_not_draw_is_said_before_anything_is_played(env, message, states, monkeypatch):
    monkeypatch.setattr("funcrl.train.evaluation.DeviceEpisodes", None)
    monkeypatch.setattr("funcrl.train.evaluation.HostEpisodes", None)
    with pytest.raises(ValueError, match=message):
        film("ppo", env, states, max_steps=3)


def test_a_lane_that_is_not_there_is_refused(states):
    with pytest.raises(ValueError, match="film: lane must be below 2, the number of lanes, got 2"):
        film("ppo", Drawn(), states, lane=2)
    with pytest.raises(ValueError, match="film: states must be agents for observations in"):
        film("ppo", "MountainCar-v0", states)


def test_looking_changes_no_agent(states):
    before = tree.map(torch.clone, states)
    list(film("ppo", Drawn(), states, backend="eager", greedy=False).moments)
    assert all(map(torch.equal, tree.leaves(before), tree.leaves(states)))
