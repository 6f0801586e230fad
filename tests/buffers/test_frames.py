"""Frames that are kept once give the stacks of a buffer that keeps stacks."""

import pytest
import torch

from funcrl.buffers import frames, prioritised, uniform
from funcrl.core import Transition, random, tree
from funcrl.core.batching import vmap

DEPTH, ENVS, SHAPE = 3, 2, (2, 2)


def episodes(seed, steps, ends=0.2):
    """Steps of environments that stack their frames, `[T, N, K, ...]`, each frame another one."""
    draw = torch.Generator().manual_seed(seed)
    count, rows = 0, []

    def frame():
        nonlocal count
        count += 1
        return torch.full((ENVS, *SHAPE), float(count)) + torch.tensor([0.0, 0.5]).reshape(-1, 1, 1)

    obs = torch.stack([frame()] * DEPTH, dim=1)
    for _ in range(steps):
        newest = frame()
        next_obs = torch.cat([obs[:, 1:], newest.unsqueeze(1)], dim=1)
        over, cut = (torch.rand(ENVS, generator=draw) < ends / 2 for _ in range(2))
        reward = torch.rand(ENVS, generator=draw)
        rows.append(Transition(obs, torch.zeros(ENVS).long(), reward, over, cut & ~over, next_obs, {}))
        fresh = torch.stack([frame()] * DEPTH, dim=1)
        ended = (over | cut).reshape(-1, *[1] * (next_obs.ndim - 1))
        obs = torch.where(ended, fresh, next_obs)
    return tree.stack(rows)


def begin(window, num_rows, module=uniform, **settings):
    """A plain buffer, and one with places and its store, all empty."""
    example = tree.index(window, 0)
    place = frames.example_of(example.obs)
    small = tree.replace(example, obs=place, next_obs=place)
    more = {"n_step": 2} if module is prioritised else {}
    return (
        module.init(example, num_rows, **more),
        module.init(small, num_rows, **more),
        frames.init(example.obs, num_rows, **settings),
    )


@pytest.mark.parametrize("lengths", [(1,), (4,), (1, 5, 2), (7,)])
@pytest.mark.parametrize("n_step", [1, 3])
def test_samples_are_those_of_a_buffer_of_stacks(lengths, n_step):
    window = episodes(0, 60)
    plain, small, store = begin(window, 16, ends=0.5)
    at, number = 0, 0
    while at < 55:
        steps = lengths[number % len(lengths)]
        part = tree.index(window, slice(at, at + steps))
        at, number = at + steps, number + 1
        plain = uniform.add(plain, part)
        store, places = frames.put(store, part)
        small = uniform.add(small, places)
        assert frames.has_room(store, small)
        if at >= n_step:
            key = random.key(at)
            expected = uniform.sample(plain, key, 32, 0.9, n_step)
            found = frames.look(store, uniform.sample(small, key, 32, 0.9, n_step))
            for one, other in zip(tree.leaves(found), tree.leaves(expected), strict=True):
                assert torch.equal(one, other)


def test_samples_by_priority_are_those_of_a_buffer_of_stacks_too():
    window = episodes(1, 24)
    plain, small, store = begin(window, 16, prioritised, ends=0.5)
    for at in range(0, 24, 4):
        part = tree.index(window, slice(at, at + 4))
        plain = prioritised.add(plain, part)
        store, places = frames.put(store, part)
        small = prioritised.add(small, places)
    expected, _ = prioritised.sample(plain, random.key(0), 16, 0.9, 0.5)
    found, _ = prioritised.sample(small, random.key(0), 16, 0.9, 0.5)
    for one, other in zip(tree.leaves(frames.look(store, found)), tree.leaves(expected), strict=True):
        assert torch.equal(one, other)


def test_a_buffer_that_begins_within_an_episode_has_what_was_before():
    window = tree.index(episodes(2, 12, ends=0.0), slice(5, None))
    plain, small, store = begin(window, 8)
    store, places = frames.put(store, window)
    plain, small = uniform.add(plain, window), uniform.add(small, places)
    expected = uniform.sample(plain, random.key(0), 20, 0.9)
    found = frames.look(store, uniform.sample(small, random.key(0), 20, 0.9))
    assert torch.equal(found.obs, expected.obs)
    assert torch.equal(found.next_obs, expected.next_obs)


def test_bytes_are_stored_where_they_are_asked_for_and_each_frame_once():
    window = episodes(3, 8)
    _, small, store = begin(window, 1000, dtype=torch.uint8)
    assert store.frames.dtype == torch.uint8
    assert store.frames.shape == (1000 + 125 + DEPTH, ENVS, *SHAPE)
    whole = tree.replace(window, obs=window.obs.floor(), next_obs=window.next_obs.floor())
    store, places = frames.put(store, whole)
    batch = frames.look(store, uniform.sample(uniform.add(small, places), random.key(0), 9, 0.9))
    assert batch.obs.dtype == torch.float32
    assert batch.obs.shape == (9, DEPTH, *SHAPE)


def test_lanes_map():
    windows = [episodes(seed, 6) for seed in range(2)]
    made = [begin(window, 8, ends=0.5) for window in windows]

    def lane(store, small, window, key):
        store, places = frames.put(store, window)
        return frames.look(store, uniform.sample(uniform.add(small, places), key, 5, 0.9))

    keys = random.split(random.key(0), 2)
    together = vmap(lane)(
        tree.stack([x[2] for x in made]), tree.stack([x[1] for x in made]), tree.stack(windows), keys
    )
    for number in range(2):
        alone = lane(made[number][2], made[number][1], windows[number], keys[number])
        for one, other in zip(tree.leaves(tree.index(together, number)), tree.leaves(alone), strict=True):
            assert torch.equal(one, other)


def test_more_ends_than_there_is_room_for_are_noticed():
    window = episodes(4, 40, ends=1.0)
    _, small, store = begin(window, 16, ends=0.1)
    there = []
    for at in range(0, 40, 4):
        store, places = frames.put(store, tree.index(window, slice(at, at + 4)))
        small = uniform.add(small, places)
        there.append(bool(frames.has_room(store, small)))
    assert there[0]
    assert not there[-1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frames.init(torch.zeros(3), 4), r"frames.init: example must be stacks \[N, K, ...\]"),
        (lambda: frames.init(torch.zeros(2, 3), 0), "frames.init: num_rows must be at least 1"),
        (lambda: frames.init(torch.zeros(2, 3), 4, ends=0.0), "frames.init: ends must"),
        (
            lambda: frames.put(frames.init(torch.zeros(2, 4, 2, 2), 4), episodes(0, 2)),
            r"frames.put: window.obs must be stacks \(2, 2, 4, 2, 2\), got \(2, 2, 3, 2, 2\)",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
