"""What the tests of Gymnasium's classic control share: recording theirs, and running ours on it."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest
import torch

from funcrl import envs
from funcrl.core import random, tree
from funcrl.core.jit import jit

KEY = random.key(0)


@dataclasses.dataclass(frozen=True)
class Steps:
    """Steps of Gymnasium's environment, each from a state that was put into it; a file's tests share them."""

    state: np.ndarray
    action: np.ndarray
    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    next_state: np.ndarray


def record(reference, action, walks, states=()):
    """Step Gymnasium's environment through random walks, then once from each of some given states.

    Every state is rounded to float32 before it is put in, so that ours can be given the same.

    Args:
        reference: The environment, unwrapped.
        action: Called with the generator; the next action.
        walks: Lengths of the walks; walk `i` begins at `reset(seed=i)`, and again where one ends.
        states: `[K, ...]` float64.
    """
    generator = np.random.default_rng(0)
    rows = []

    def one(state):
        state = np.float64(np.float32(state))
        reference.state = state.copy()
        chosen = action(generator)
        obs, reward, terminated, _, _ = reference.step(chosen)
        rows.append((state, chosen, obs, reward, terminated, np.array(reference.state, dtype=np.float64)))
        return terminated

    for seed, length in enumerate(walks):
        reference.reset(seed=seed)
        for _ in range(length):
            if one(reference.state):
                reference.reset()
    reference.reset()
    for state in states:
        one(state)
    return Steps(*(np.stack([np.asarray(row[i]) for row in rows]) for i in range(6)))


def run(env, state, action):
    """Return next state, observation, reward and terminal of ours for a batch, `[B, ...]` each."""

    def one(state, action):
        following = env.transition(state, action, KEY)
        reward = env.reward(state, action, following, KEY)
        return following, env.observation(following, KEY), reward, env.terminal(following, KEY)

    return torch.vmap(one)(torch.as_tensor(state), torch.as_tensor(action))


def assert_same_spaces(env, reference):
    assert env.observation_space == reference.observation_space
    assert env.action_space == reference.action_space
    assert env.max_episode_steps == reference.spec.max_episode_steps


def assert_float32(env, steps):
    """Ours keeps to float32 and to its space from what Gymnasium visits."""
    following, obs, reward, terminal = run(env, np.float32(steps.state), steps.action)
    assert (following.dtype, obs.dtype, reward.dtype, terminal.dtype) == (
        *(torch.float32,) * 3,
        torch.bool,
    )
    count = len(steps.state)
    assert (obs.shape, reward.shape, terminal.shape) == (steps.obs.shape, (count,), (count,))
    assert np.all(obs.numpy() >= env.observation_space.low)
    assert np.all(obs.numpy() <= env.observation_space.high)


def assert_whole_episodes(env, references, policy, lanes_end, atol):
    """Step both from Gymnasium's beginnings to the end without putting the state back; our time steps, `[T, N]`.

    Args:
        env: Ours.
        references: One of Gymnasium's a lane, wrapped, so that it has its time limit.
        policy: From a lane's number and observation to an action.
        lanes_end: How each lane must end: "terminated" or "truncated".
        atol: Of observations and returns.
    """
    observations = [reference.reset(seed=lane)[0] for lane, reference in enumerate(references)]
    begin = torch.tensor(np.array([reference.unwrapped.state for reference in references])).double()
    keys = random.split(KEY, len(references))
    state = torch.vmap(lambda key: envs.reset(env, key))(keys)
    seen = torch.vmap(lambda s: env.observation(s, KEY))(begin)
    state = tree.replace(state, inner=begin, obs=seen)
    # Recorded once: an episode is hundreds of steps.
    step = jit(torch.vmap(lambda state, action, key: envs.step(env, state, action, key)), backend="aot_eager")
    state = tree.map(torch.Tensor.contiguous, state)
    returns, ends = np.zeros(len(references)), [None] * len(references)
    ours, lengths, theirs, alive = [], [], [], []
    for _ in range(env.max_episode_steps):
        actions = [policy(lane, obs) for lane, obs in enumerate(observations)]
        state, row = step(state, torch.tensor(np.array(actions)), keys)
        ours.append(row)
        lengths.append(state.episode_length)
        alive.append([end is None for end in ends])
        columns = np.zeros((4, len(references)))
        for lane, reference in enumerate(references):
            if ends[lane]:
                continue
            observations[lane], reward, terminated, truncated, _ = reference.step(actions[lane])
            returns[lane] += float(reward)
            columns[:, lane] = float(reward), terminated, truncated, returns[lane]
            if terminated or truncated:
                ends[lane] = "terminated" if terminated else "truncated"
        theirs.append((np.stack(observations), *columns))
    alive, ours = np.array(alive), tree.stack(ours)
    columns = (ours.next_obs, ours.reward, ours.terminated, ours.truncated, ours.episode_return)
    ours_alive = [column.numpy()[alive] for column in columns]
    theirs_alive = [np.stack(column)[alive] for column in zip(*theirs, strict=True)]
    tolerances = [(atol, 1e-6), (1e-5, 1e-6), (0, 0), (0, 0), (1e-2, 1e-5)]
    for found, expected, (absolute, relative) in zip(ours_alive, theirs_alive, tolerances, strict=True):
        np.testing.assert_allclose(found, expected, atol=absolute, rtol=relative)
    time = np.broadcast_to(np.arange(1, len(alive) + 1)[:, None], alive.shape)
    assert np.array_equal(ours.episode_length.numpy()[alive], time[alive])
    ended = alive & (ours.terminated | ours.truncated).numpy()
    assert not torch.stack(lengths).numpy()[ended].any()
    assert ends == lanes_end
    return ours


def assert_uniform(samples, low, high):
    """Kolmogorov and Smirnov's distance to the uniform distribution, well below 1% significance."""
    ordered = torch.sort((samples.double() - low) / (high - low)).values
    assert ordered[0] >= 0
    assert ordered[-1] <= 1
    ranks = torch.arange(1, len(samples) + 1) / len(samples)
    assert (ordered - ranks).abs().max() < 1.6 / len(samples) ** 0.5


def assert_every_number_can_differ_between_lanes(env, steps, factors=(0.8, 1.0)):
    """A field that is a tensor of two lanes does what two environments do, and each field matters."""
    keys = random.split(KEY, 64)
    state, action = torch.as_tensor(np.float32(steps.state)), torch.as_tensor(steps.action)

    def all_of_it(env):
        begin = torch.vmap(env.initial)(keys)
        outcome = torch.vmap(
            lambda state, action, key: (
                (following := env.transition(state, action, key)),
                env.observation(following, key),
                env.reward(state, action, following, key),
                env.terminal(following, key),
            ),
            in_dims=(0, 0, None),
        )(state, action, keys[0])
        return begin, *outcome

    for name in [path.removeprefix(".") for path in tree.named_leaves(env)]:
        # A field that is 0 by default (noise, the velocity at the goal) takes other values.
        values = [getattr(env, name) * factor or 0.02 * factor for factor in factors]
        lanes = tree.replace(env, **{name: torch.tensor(values)})
        in_dims = tree.map(lambda x: 0 if isinstance(x, torch.Tensor) else None, lanes)
        together = torch.vmap(all_of_it, in_dims=(in_dims,))(lanes)
        alone = [all_of_it(tree.replace(env, **{name: value})) for value in values]
        for lane in range(2):
            for ours, expected in zip(tree.index(together, lane), alone[lane], strict=True):
                assert ours.dtype == expected.dtype, name
                close = torch.isclose(ours.double(), expected.double(), atol=1e-4, rtol=1e-4)
                # Few, next to a threshold, may fall on the other side by rounding.
                assert close.double().mean() > 0.999, name
        assert any(not torch.equal(a, b) for a, b in zip(*alone, strict=True)), f"{name} has no effect"


def assert_traced_equals_eager(env, steps):
    """A traced program of reset and step gives what they give eagerly."""
    state, action = torch.as_tensor(np.float32(steps.state)), torch.as_tensor(steps.action)
    keys = random.split(KEY, len(state))

    def program(state, action, keys):
        begin = torch.vmap(lambda key: envs.reset(env, key))(keys)
        return torch.vmap(lambda state, action, key: envs.step(env, state, action, key))(
            tree.replace(begin, inner=state), action, keys
        )

    traced = jit(program, backend="aot_eager")(state, action, keys)
    for ours, expected in zip(tree.leaves(traced), tree.leaves(program(state, action, keys)), strict=True):
        assert ours.dtype == expected.dtype
        assert (
            torch.allclose(ours, expected, atol=1e-6)
            if ours.is_floating_point()
            else torch.equal(ours, expected)
        )


def assert_stays_on_its_device(env, action):
    """On the device "meta" any tensor that is created elsewhere fails or shows."""
    keys = random.split(KEY, 3).to("meta")
    actions = torch.as_tensor(np.array([action] * 3)).to("meta")
    state = torch.vmap(lambda key: envs.reset(env, key))(keys)
    outcome = torch.vmap(lambda state, action, key: envs.step(env, state, action, key))(state, actions, keys)
    inner = state.inner
    single = [
        torch.vmap(env.terminal, in_dims=(0, None))(inner, keys[0]),
        torch.vmap(env.reward, in_dims=(0, 0, 0, None))(inner, actions, inner, keys[0]),
    ]
    assert {leaf.device.type for leaf in tree.leaves((state, outcome, single))} == {"meta"}


def assert_pictures(env, states):
    """One picture a state, the same each time, and different states look different."""
    frames = [env.render(torch.tensor(state)) for state in states]
    for frame, state in zip(frames, states, strict=True):
        assert frame.dtype == np.uint8
        assert frame.shape == frames[0].shape
        assert frame.shape[2] == 3
        assert min(frame.shape[:2]) > 100
        assert np.array_equal(frame, env.render(torch.tensor(state)))
    for i, frame in enumerate(frames):
        for other in frames[:i]:
            assert (frame != other).any(axis=2).mean() > 0.002


def pixels(frame, color):
    """Return the columns and rows of the pixels that have exactly this colour, `"#rrggbb"`."""
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    rows, columns = np.nonzero((frame == wanted).all(axis=2))
    assert len(rows) > 10, f"nothing is {color}"
    return columns, rows


def assert_starts_are_gymnasiums(name, options, low, high):
    """A reset with options starts uniformly where Gymnasium's does, and later ones as ever.

    Args:
        name: Of both.
        options: Of the reset.
        low: Smallest number of each component, one number or one each.
        high: Largest.
    """
    many = gymnasium.make_vec(f"funcrl/{name}", num_envs=400, backend="eager").unwrapped
    usual, _ = many.reset(seed=7)
    obs, infos = many.reset(seed=7, options=options)
    assert infos == {}
    ours = many._state.envs.inner.double().numpy()
    reference = gymnasium.make(name, disable_env_checker=True).unwrapped
    theirs = []
    for seed in range(400):
        reference.reset(seed=seed, options=options)
        theirs.append(np.float64(reference.state))
    low, high = (np.broadcast_to(np.float64(x), ours.shape[1:]) for x in (low, high))
    for starts in (ours, np.stack(theirs)):
        assert (starts >= low - 1e-6).all()
        assert (starts <= high + 1e-6).all()
        # Of 400 starts some come near to either end.
        assert (starts.min(axis=0) <= low + 0.03 * (high - low) + 1e-6).all()
        assert (starts.max(axis=0) >= high - 0.03 * (high - low) - 1e-6).all()
    one = gymnasium.make(f"funcrl/{name}", backend="eager")
    assert torch.equal(one.reset(seed=7, options=options)[0], obs[0])
    assert torch.equal(many.reset(seed=7)[0], usual)


def assert_options_are_refused(name, options, message):
    """Neither ours nor Gymnasium's begins an episode so."""
    reference = gymnasium.make(name, disable_env_checker=True).unwrapped
    # OverflowError is numpy's, for what is not finite.
    with pytest.raises((ValueError, OverflowError)):
        reference.reset(seed=0, options=options)
    for env in (
        gymnasium.make(f"funcrl/{name}", backend="eager"),
        gymnasium.make_vec(f"funcrl/{name}", num_envs=2, backend="eager"),
    ):
        env.reset(seed=0)
        with pytest.raises(ValueError, match=rf"\w+\.reset: options\['{message}"):
            env.reset(options=options)
