"""Wrappers against Gymnasium's, alone and one around the other."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation
from gymnasium.wrappers.vector import NormalizeObservation as TheirObservation
from gymnasium.wrappers.vector import NormalizeReward as TheirReward
from hypothesis import given
from hypothesis import strategies as st

from funcrl import envs
from funcrl.core import jit, random, tree
from funcrl.envs.flattening import flat
from funcrl.ops.moments import merge_moments, moments
from tests.probes import Counter

KEY = random.key(3)
CARTPOLE = envs.make("CartPole-v1")
STACKS = {
    "TimeLimit": envs.TimeLimit(CARTPOLE, 7),
    "ScaleReward": envs.ScaleReward(CARTPOLE, scale=0.125, shift=8.0),
    "RepeatAction": envs.RepeatAction(CARTPOLE, 3),
    "FrameStack": envs.FrameStack(CARTPOLE, 3),
    "FlattenObservation": envs.FlattenObservation(envs.FrameStack(CARTPOLE, 2)),
    "OneHotObservation": envs.OneHotObservation(envs.make("CliffWalking-v1")),
    "NormalizeObservation": envs.NormalizeObservation(CARTPOLE),
    "NormalizeReward": envs.NormalizeReward(CARTPOLE),
    "NormalizeReward without the past": envs.NormalizeReward(CARTPOLE, keep_past=False),
    "all": envs.NormalizeReward(
        envs.NormalizeObservation(
            envs.FlattenObservation(envs.FrameStack(envs.RepeatAction(envs.TimeLimit(CARTPOLE, 20), 2), 2))
        )
    ),
}


def roll(env, num_envs=4, num_steps=40, step=envs.step_all):
    """Random actions; the time steps, stacked [T, N]."""
    keys = random.split(KEY, num_steps + 1)
    states = envs.reset_all(env, random.split(keys[0], num_envs))
    states = tree.map(lambda x: x.contiguous(), states)
    rows = []
    for key in keys[1:]:
        k_action, k_step = random.split(key, 2)
        actions = random.randint(k_action, (num_envs,), 0, int(env.action_space.n))
        states, row = step(env, states, actions, random.split(k_step, num_envs))
        rows.append(row)
    return tree.stack(rows)


@pytest.mark.parametrize("name", STACKS)
def test_observations_are_in_the_space_and_keep_its_shape(name):
    env = STACKS[name]
    rows = roll(env)
    space = env.observation_space
    assert rows.obs.shape == (40, 4, *space.shape)
    assert all(space.contains(obs) for obs in rows.next_obs.flatten(0, 1).numpy())


@pytest.mark.parametrize("name", STACKS)
def test_one_environment_alone_is_a_lane_with_one(name):
    env = STACKS[name]
    alone = roll(env, num_envs=1)
    keys = random.split(KEY, 41)
    state = envs.reset(env, random.split(keys[0], 1)[0])
    for t, key in enumerate(keys[1:]):
        k_action, k_step = random.split(key, 2)
        action = random.randint(k_action, (1,), 0, int(env.action_space.n))[0]
        state, row = envs.step(env, state, action, random.split(k_step, 1)[0])
        for one, lane in zip(tree.leaves(row), tree.leaves(tree.index(alone, (t, 0))), strict=True):
            assert torch.allclose(one.float(), lane.float(), atol=1e-5)


@pytest.mark.parametrize("name", STACKS)
def test_they_compile(name):
    env = STACKS[name]
    compiled = jit.jit(
        lambda states, actions, keys: envs.step_all(env, states, actions, keys), backend="aot_eager"
    )
    rows = roll(env, num_steps=8, step=lambda env, *arguments: compiled(*arguments))
    assert compiled.num_graphs == 1
    for a, b in zip(tree.leaves(rows), tree.leaves(roll(env, num_steps=8)), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-5)


def test_numbers_of_wrappers_and_of_what_is_inside_differ_between_lanes():
    f = lambda scale, length: roll(
        envs.ScaleReward(envs.make("CartPole-v1", half_length=length), scale=scale), num_steps=5
    )
    together = torch.vmap(f)(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 2.0]))
    for lane, (scale, length) in enumerate([(1.0, 0.5), (3.0, 2.0)]):
        alone = f(scale, length)
        assert torch.allclose(together.reward[lane], alone.reward)
        assert torch.allclose(together.next_obs[lane], alone.next_obs, atol=1e-6)
    assert float(together.reward[1, 0, 0]) == 3.0


def test_time_limit_replaces_the_environments_own():
    rows = roll(envs.TimeLimit(Counter(end=100, max_episode_steps=3), 5), num_envs=1, num_steps=10)
    assert rows.truncated[:, 0].nonzero().flatten().tolist() == [4, 9]
    assert not roll(envs.TimeLimit(Counter(end=100, max_episode_steps=3), None)).truncated.any()


def test_scaled_rewards_are_learnt_from_and_original_ones_reported():
    rows = roll(envs.ScaleReward(Counter(end=4), scale=0.125, shift=8.0), num_envs=1, num_steps=4)
    assert rows.reward[:, 0].tolist() == [1.125] * 4
    assert rows.episode_return[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0]
    both = envs.ScaleReward(envs.RepeatAction(envs.ScaleReward(Counter(end=40), shift=1.0), 2), scale=10.0)
    rows = roll(both, num_envs=1, num_steps=1)
    assert float(rows.reward) == 40.0
    assert float(rows.episode_return) == 2.0


def test_repeated_actions_add_their_rewards_and_stop_at_the_end():
    env = envs.RepeatAction(Counter(end=5, max_episode_steps=10), 3)
    assert env.max_episode_steps == 4
    rows = roll(env, num_envs=2, num_steps=4)
    assert rows.next_obs[:, 0, 0].tolist() == [3.0, 5.0, 3.0, 5.0]
    assert rows.reward[:, 0].tolist() == [3.0, 2.0, 3.0, 2.0]
    assert rows.terminated[:, 1].tolist() == [False, True, False, True]


def test_stacked_frames_are_gymnasiums():
    env = envs.FrameStack(Counter(end=3), 4)
    reference = FrameStackObservation(gymnasium.make("CartPole-v1"), 4)
    assert envs.FrameStack(CARTPOLE, 4).observation_space == reference.observation_space
    rows = roll(env, num_envs=1, num_steps=4)
    assert rows.obs[:, 0, :, 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 2], [0, 0, 0, 0]]
    assert rows.next_obs[2, 0, :, 0].tolist() == [0, 1, 2, 3]


VALUES = {
    "discrete": (spaces.Discrete(5, start=2), 4),
    "multi": (spaces.MultiDiscrete([2, 3]), np.array([1, 2])),
    "binary": (spaces.MultiBinary(3), np.array([1, 0, 1], dtype=np.int8)),
    "box": (spaces.Box(-1, 1, (2, 2), np.float32), np.array([[0.5, -1], [0, 1]], dtype=np.float32)),
}


@pytest.mark.parametrize("names", [*([name] for name in VALUES), list(VALUES)])
def test_flattening_is_gymnasiums(names):
    picked = {name: VALUES[name] for name in names}
    tensors = {name: torch.as_tensor(value) for name, (_, value) in picked.items()}
    for space, value, ours in [
        (
            spaces.Dict({n: s for n, (s, _) in picked.items()}),
            {n: v for n, (_, v) in picked.items()},
            tensors,
        ),
        (
            spaces.Tuple([s for s, _ in picked.values()]),
            tuple(v for _, v in picked.values()),
            tuple(tensors.values()),
        ),
    ]:
        assert np.array_equal(flat(space, ours).numpy(), spaces.flatten(space, value).astype(np.float32))


def test_one_hot_positions():
    rows = roll(envs.OneHotObservation(envs.make("CliffWalking-v1")), num_steps=3)
    assert rows.obs.shape == (3, 4, 48)
    assert rows.obs.sum(-1).eq(1).all()
    assert rows.obs[0, 0, 36] == 1


@given(
    st.lists(
        st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=6).map(np.array), min_size=1, max_size=5
    )
)
def test_merged_moments_are_those_of_all_samples(batches):
    held = tree.map(torch.Tensor.double, moments(()))
    for batch in batches:
        held = merge_moments(held, torch.tensor(batch, dtype=torch.float64))
    everything = np.concatenate(batches)
    assert float(held.mean) == pytest.approx(everything.mean(), abs=1e-9)
    assert float(held.variance) == pytest.approx(everything.var(), abs=1e-6)
    assert float(held.count) == len(everything)


class Recorded(gymnasium.vector.VectorEnv):
    """Plays back what another environment did, for Gymnasium's vector wrappers."""

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, space, first, rows):
        self.num_envs, self.first, self.rows, self.time = first.shape[0], first, rows, 0
        self.single_observation_space = space
        self.observation_space = gymnasium.vector.utils.batch_space(space, self.num_envs)
        self.single_action_space = self.action_space = spaces.Discrete(2)

    def reset(self, **_):
        return self.first.numpy(), {}

    def step(self, actions):
        row = tree.index(self.rows, self.time)
        self.time += 1
        return (
            row.next_obs.numpy(),
            row.reward.numpy().astype(np.float64),
            row.terminated.numpy(),
            row.truncated.numpy(),
            {},
        )


def test_normalised_observations_are_gymnasiums():
    """Over whole lanes, episodes' ends included; what is not counted are the beginnings in between."""
    raw = roll(CARTPOLE, num_steps=60)
    assert raw.terminated.any()
    reference = TheirObservation(Recorded(CARTPOLE.observation_space, raw.obs[0], raw))
    reference.obs_rms.count = 1e-12  # Gymnasium begins with an imagined sample of weight 1e-4
    first, _ = reference.reset()
    state = envs.NormalizeObservation(Playback(raw)).initial_all(random.split(KEY, 4))
    env = envs.NormalizeObservation(Playback(raw))
    assert np.allclose(torch.vmap(env.observation)(state, random.split(KEY, 4)), first, atol=1e-4)
    for _ in range(60):
        state = env.transition_all(state, torch.zeros(4), random.split(KEY, 4))
        expected = reference.step(None)[0]
        assert np.allclose(torch.vmap(env.observation)(state, random.split(KEY, 4)), expected, atol=1e-4)


SHORT = envs.ScaleReward(envs.TimeLimit(CARTPOLE, 20), shift=1.5)


@pytest.fixture(scope="module")
def short():
    """Episodes that end in both ways, each of which counts."""
    raw = roll(SHORT, num_steps=60)
    assert raw.terminated.any()
    assert raw.truncated.any()
    return raw


def test_normalised_rewards_are_stable_baselines3s(short):
    past, seen, expected = np.zeros(4), [], []
    for reward, over in zip(short.reward.numpy(), (short.terminated | short.truncated).numpy(), strict=True):
        past = past * 0.9 + reward
        seen.extend(past)
        expected.append(np.clip(reward / np.sqrt(np.var(seen) + 1e-8), -3, 3))
        past[over] = 0
    ours = roll(envs.NormalizeReward(SHORT, gamma=0.9, clip=3.0), num_steps=60)
    assert np.allclose(ours.reward, expected, rtol=1e-4)


def test_normalised_rewards_without_the_past_are_gymnasiums(short):
    recorded = Recorded(CARTPOLE.observation_space, short.obs[0], short)
    recorded.metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
    reference = TheirReward(recorded, gamma=0.9)
    reference.return_rms.count = 1e-12  # Gymnasium begins with an imagined sample of weight 1e-4
    reference.reset()
    expected = np.stack([reference.step(None)[1] for _ in range(60)])
    env = envs.NormalizeReward(SHORT, gamma=0.9, clip=float("inf"), keep_past=False)
    assert np.allclose(roll(env, num_steps=60).reward, expected, rtol=1e-4)
    kept = roll(tree.replace(env, keep_past=True), num_steps=60)
    assert not np.allclose(kept.reward, expected, rtol=1e-3)


class Playback:
    """An environment that returns recorded rows, whatever is done; its state is the time."""

    observation_space = CARTPOLE.observation_space
    action_space = CARTPOLE.action_space
    max_episode_steps = None

    def __init__(self, rows):
        self.first, self.rows = rows.obs[0], rows

    def initial_all(self, keys):
        return torch.stack([torch.full((4,), -1), torch.arange(4)], dim=1)

    def transition_all(self, states, actions, keys):
        return states + torch.tensor([1, 0])

    def observation(self, state, key):
        series = torch.cat([self.first.unsqueeze(0), self.rows.next_obs])
        return series[state[0] + 1, state[1]]

    def reward(self, state, action, next_state, key):
        return self.rows.reward[next_state[0], next_state[1]]

    def terminal(self, state, key):
        return torch.zeros((), dtype=torch.bool)


def test_moments_outlive_episodes_and_are_shared_in_a_lane():
    env = envs.NormalizeObservation(Counter(end=3))
    states = envs.reset_all(env, random.split(KEY, 4))
    for t in range(7):
        keys = random.split(random.fold_in(KEY, t), 4)
        states, _ = envs.step_all(env, states, torch.zeros(4, dtype=torch.int64), keys)
    assert states.inner.moments.count.tolist() == [4.0 * 8] * 4
    assert torch.equal(states.inner.moments.mean[0], states.inner.moments.mean[3])
    still = envs.frozen(env)
    after, _ = envs.step_all(still, states, torch.zeros(4, dtype=torch.int64), keys)
    assert torch.equal(after.inner.moments.mean, states.inner.moments.mean)
    assert envs.frozen(envs.FrameStack(env, 2)).env.updating is False


def test_rewards_of_an_ended_episode_do_not_enter_the_next_ones_sum():
    env = envs.NormalizeReward(Counter(end=2), gamma=1.0)
    states = envs.reset_all(env, random.split(KEY, 1))
    sums = []
    for t in range(4):
        states, _ = envs.step_all(
            env, states, torch.zeros(1, dtype=torch.int64), random.split(random.key(t), 1)
        )
        sums.append(float(states.inner.discounted))
    assert sums == [1.0, 0.0, 1.0, 0.0]


def test_a_wrapper_draws_what_the_environment_inside_draws():
    env = envs.FrameStack(envs.NormalizeObservation(CARTPOLE), 2)
    state = envs.reset(env, KEY)
    assert np.array_equal(env.render(state.inner), CARTPOLE.render(state.inner.inner.inner))
    assert not hasattr(envs.FrameStack(Counter(), 2), "render")


def test_a_wrapper_starts_where_the_environment_inside_is_told_to():
    wrapped = envs.ScaleReward(envs.TimeLimit(CARTPOLE, 5), 2.0)
    assert wrapped.reset_options == ("low", "high")
    many = envs.TorchVectorEnv(wrapped, 4, backend="eager")
    obs, _ = many.reset(seed=0, options={"low": 0.1, "high": 0.2})
    assert ((obs >= 0.1) & (obs <= 0.2)).all()
    assert wrapped == envs.ScaleReward(envs.TimeLimit(CARTPOLE, 5), 2.0)
    assert not hasattr(envs.FrameStack(Counter(), 2), "starting")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: envs.TimeLimit(CARTPOLE, 0), "TimeLimit: limit must be at least 1"),
        (lambda: envs.FrameStack(CARTPOLE, 0), "FrameStack: num_frames must be at least 1"),
        (lambda: envs.RepeatAction(CARTPOLE, 0), "RepeatAction: num_repeats must be at least 1"),
        (
            lambda: envs.OneHotObservation(CARTPOLE),
            "OneHotObservation: env.observation_space must be Discrete",
        ),
        (
            lambda: envs.FrameStack(envs.make("Blackjack-v1")),
            "FrameStack: env.observation_space must be a Box, .* Wrap it in FlattenObservation",
        ),
        (lambda: envs.ScaleReward(envs.CartPole), "ScaleReward: env must be an environment of funcrl's"),
        (lambda: envs.FrameStack("CartPole-v1", 2), "FrameStack: env must be an environment of funcrl's"),
        (
            lambda: envs.NormalizeObservation(envs.from_gymnasium("CartPole-v1")),
            "must be an environment of funcrl's, .* inside from_gymnasium",
        ),
        (lambda: envs.NormalizeReward(CARTPOLE, gamma=1.5), "NormalizeReward: gamma must lie in"),
        (
            lambda: envs.ScaleReward(CARTPOLE, scale=float("nan")),
            "ScaleReward: scale must be finite, got nan",
        ),
        (lambda: envs.NormalizeObservation(CARTPOLE, clip=0.0), "NormalizeObservation: clip must lie in"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
