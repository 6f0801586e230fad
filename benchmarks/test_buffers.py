"""Replay buffers: adding must not grow with their size; ways to draw by priority, side by side.

    pytest benchmarks/test_buffers.py --benchmark-columns=min,median

Sixteen lanes of one environment with four numbers an observation, batches of 128. What it takes to
compile is in `extra_info`. Rates are per lane: rows added, or batches, a second, summed over lanes.
"""

import time

import pytest
import torch

from funcrl.buffers import prioritised, sum_tree, uniform
from funcrl.core import Transition, jit, random, tree

SIZES = [1_000, 10_000, 100_000, 1_000_000]
NUM_LANES, WINDOW, BATCH = 16, 8, 128


def window(num_steps, num_lanes, device):
    shape = (num_lanes, num_steps, 1)
    no = torch.zeros(shape, dtype=torch.bool, device=device)
    obs = torch.zeros(*shape, 4, device=device)
    return Transition(obs, no.long(), obs[..., 0].clone(), no, no.clone(), obs.clone(), {})


def lanes(buffers, num_rows, device, num_lanes=NUM_LANES):
    example = tree.index(window(1, num_lanes, device), (slice(None), 0))
    return tree.map(torch.clone, torch.vmap(lambda one: buffers.init(one, num_rows))(example))


def keys(device):
    return torch.stack([random.key(seed, device) for seed in range(NUM_LANES)])


def bound(benchmark, function, *args, donate=(0,)):
    began = time.perf_counter()
    call = jit.jit(torch.vmap(function), donate=donate).bind(*args)
    benchmark.extra_info["compile_seconds"] = time.perf_counter() - began
    return call


@pytest.mark.benchmark(group="add")
@pytest.mark.parametrize("num_rows", SIZES)
def test_add(benchmark, measure, device, num_rows):
    buffer = lanes(uniform, num_rows, device)
    call = bound(benchmark, uniform.add, buffer, window(WINDOW, NUM_LANES, device))
    measure(call, rounds=300, rows=WINDOW * NUM_LANES)


@pytest.mark.benchmark(group="add")
@pytest.mark.parametrize("num_rows", SIZES)
def test_add_to_a_copy(benchmark, measure, device, num_rows):
    """Without donation the whole buffer is copied."""
    buffer = lanes(uniform, num_rows, device)
    call = bound(benchmark, uniform.add, buffer, window(WINDOW, NUM_LANES, device), donate=())
    measure(call, rounds=300_000 // num_rows + 3, rows=WINDOW * NUM_LANES)


@pytest.mark.benchmark(group="add")
@pytest.mark.parametrize("num_rows", SIZES)
def test_add_prioritised(benchmark, measure, device, num_rows):
    buffer = lanes(prioritised, num_rows, device)
    call = bound(benchmark, prioritised.add, buffer, window(WINDOW, NUM_LANES, device))
    measure(call, rounds=300, rows=WINDOW * NUM_LANES)


def test_add_does_not_grow(benchmark, device):
    """The promise itself: a thousand times as many rows, in the same process, in no more than twice
    the time."""
    calls = [
        bound(benchmark, uniform.add, lanes(uniform, size, device), window(WINDOW, NUM_LANES, device))
        for size in (SIZES[0], SIZES[-1])
    ]

    def least(call):
        times = []
        for _ in range(1000):
            began = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - began)
        return min(times)

    small, large = benchmark.pedantic(lambda: [least(call) for call in calls], rounds=1)
    assert large < 2 * small


@pytest.mark.benchmark(group="sample")
@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("num_rows", SIZES)
def test_sample(benchmark, measure, device, num_rows, n_step):
    buffer = lanes(uniform, num_rows, device)
    buffer = tree.replace(buffer, count=torch.full_like(buffer.count, num_rows))
    draw = lambda buffer, key: uniform.sample(buffer, key, BATCH, 0.99, n_step)
    measure(bound(benchmark, draw, buffer, keys(device), donate=()), rounds=300, batches=NUM_LANES)


@pytest.mark.benchmark(group="prioritised sample and update")
@pytest.mark.parametrize("num_rows", SIZES)
def test_prioritised(benchmark, measure, device, num_rows):
    """Everything that prioritised replay does for one gradient step, rows and weights included."""
    buffer = lanes(prioritised, num_rows, device)
    places, ones = torch.arange(num_rows, device=device), torch.ones(num_rows, device=device)
    fill = lambda levels: sum_tree.write(levels, places, ones)
    priorities = tree.map(torch.clone, torch.vmap(fill)(buffer.priorities))
    count = torch.full_like(buffer.replay.count, num_rows)
    buffer = tree.replace(buffer, priorities=priorities, replay=tree.replace(buffer.replay, count=count))

    def step(buffer, key, td_error):
        batch, index = prioritised.sample(buffer, key, BATCH, 0.99, 0.4)
        return prioritised.update(buffer, index, td_error, 0.6), batch

    td_error = torch.rand(NUM_LANES, BATCH, device=device)
    measure(bound(benchmark, step, buffer, keys(device), td_error), rounds=300, batches=NUM_LANES)


def binary_search(levels, share):
    """As `sum_tree.search`, with the left of two children in place of a cumulative sum."""
    rest, node = share.float() * levels[-1].sum(), torch.zeros_like(share, dtype=torch.int64)
    for level in reversed(levels):
        left = level[2 * node]
        right = (rest >= left) & (level[2 * node + 1] > 0)
        rest, node = rest - torch.where(right, left, 0.0), 2 * node + right.long()
    return node


def binary_write(levels, place, value):
    """As `sum_tree.write`, for sums of two."""
    written = []
    for level in levels:
        level = torch.index_put(level, (place,), value)
        place, written = place // 2, [*written, level]
        value = level[2 * place] + level[2 * place + 1]
    return tuple(written)


def binary_levels(numbers):
    levels = [numbers]
    while levels[-1].shape[-1] > 2:
        numbers = torch.nn.functional.pad(levels[-1], (0, levels[-1].shape[-1] % 2))
        levels[-1] = numbers
        levels.append(numbers.unflatten(-1, (-1, 2)).sum(dim=-1))
    return tuple(levels)


def levels_of(kind, num_places, device):
    """Levels over equal numbers, a lane each, and the functions that go with them."""
    numbers = torch.ones(NUM_LANES, num_places, device=device)
    if kind == "binary tree":
        return binary_levels(numbers), binary_search, binary_write
    top = num_places if kind == "cumulative sum" else sum_tree.TOP
    empty = sum_tree.init(num_places, device, top=top)
    fill = lambda own: sum_tree.write(empty, torch.arange(num_places, device=device), own)
    return tree.map(torch.clone, torch.vmap(fill)(numbers)), sum_tree.search, sum_tree.write


@pytest.mark.benchmark(group="ways to draw by priority")
@pytest.mark.parametrize("num_places", SIZES[1:])
@pytest.mark.parametrize("kind", ["wide tree", "binary tree", "cumulative sum"])
def test_search_and_write(benchmark, measure, device, kind, num_places):
    """Drawing and new priorities only."""
    levels, search, write = levels_of(kind, num_places, device)

    def step(levels, key, value):
        stratum = torch.arange(BATCH, dtype=torch.float64, device=device)
        place = search(levels, (stratum + random.uniform(key, (BATCH,))) / BATCH)
        return write(levels, place, value), place

    value = torch.rand(NUM_LANES, BATCH, device=device)
    measure(bound(benchmark, step, levels, keys(device), value), rounds=100, batches=NUM_LANES)
