"""Prioritised replay: probabilities, strata, weights, ties within a batch, lanes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from funcrl.buffers import prioritised, sum_tree
from funcrl.core import jit, random, tree
from tests.buffers import steps

SIZE = 40


def filled(num_steps=SIZE, num_rows=SIZE, n_step=1, width=sum_tree.WIDTH, top=sum_tree.TOP):
    window = steps.window(steps.plain(num_steps))
    buffer = prioritised.init(tree.index(window, 0), num_rows, n_step=n_step)
    levels = sum_tree.init(num_rows, torch.device("cpu"), width, top)
    return prioritised.add(tree.replace(buffer, priorities=levels), window)


def with_errors(error, alpha, **shape):
    buffer = filled(**shape)
    return prioritised.update(buffer, torch.arange(error.shape[0]), error, alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("batch_size", [1, 32])
@pytest.mark.parametrize(("width", "top"), [(16, 4096), (3, 4)])
def test_probabilities(alpha, batch_size, width, top):
    """(1), over batches of one, whose draws are independent, and over stratified ones."""
    error = random.normal(random.key(0), (SIZE,))
    buffer = with_errors(error, alpha, width=width, top=top)
    keys = random.split(random.key(1), 32_000 // batch_size)
    draw = lambda key: prioritised.sample(buffer, key, batch_size, 0.9, 0.4)[1]
    counts = torch.bincount(torch.vmap(draw)(keys).flatten(), minlength=SIZE)
    p = (np.abs(error.double().numpy()) + 1e-6) ** alpha
    expected = 32_000 * p / p.sum()
    assert stats.chisquare(counts.numpy(), expected).pvalue > 1e-3


def test_a_batch_is_stratified():
    """Of B equal ranges of the total each is drawn from once."""
    error = random.uniform(random.key(0), (SIZE,))
    buffer = with_errors(error, 1.0)
    _, index = prioritised.sample(buffer, random.key(1), 64, 0.9, 0.4)
    p = (error.double() + 1e-6) / (error.double() + 1e-6).sum()
    end = p.cumsum(0)
    begin = end - p
    stratum = torch.arange(64) / 64
    assert bool((end[index] >= stratum - 1e-6).all())
    assert bool((begin[index] <= stratum + 1 / 64 + 1e-6).all())


@given(
    st.lists(st.floats(0, 1000), min_size=SIZE, max_size=SIZE),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_importance_weights(errors, alpha, beta, seed):
    """Section 3.4 as it is written, in float64."""
    buffer = with_errors(torch.tensor(errors), alpha)
    batch, index = prioritised.sample(buffer, random.key(seed), 16, 0.9, beta)
    p = (np.array(errors) + 1e-6) ** alpha
    probability = p / p.sum()
    weight = (SIZE * probability[index.numpy()]) ** -beta
    assert np.allclose(batch.weight.numpy(), weight / weight.max(), rtol=1e-4)


def test_new_transitions_have_the_largest_priority_so_far():
    buffer = filled(num_steps=4, num_rows=6)
    assert buffer.priorities[0].tolist() == [1.0] * 4 + [0.0] * 2
    buffer = prioritised.update(buffer, torch.tensor([0, 1]), torch.tensor([-9.0, 0.25]), 0.5)
    buffer = prioritised.add(buffer, steps.window(steps.plain(3)))
    assert buffer.priorities[0].tolist() == pytest.approx([3.0, 0.5, 1.0, 1.0, 3.0, 3.0], rel=1e-4)
    # The largest one is remembered after it has been overwritten or lowered.
    assert float(buffer.largest) == pytest.approx(3.0)
    buffer = prioritised.update(buffer, torch.tensor([0, 4, 5]), torch.zeros(3), 0.5)
    assert float(prioritised.add(buffer, steps.window(steps.plain(1))).priorities[0][1]) == pytest.approx(3.0)


def test_a_priority_waits_for_all_n_steps():
    buffer = prioritised.init(tree.index(steps.window(steps.plain(1)), 0), 5, n_step=3)
    seen = []
    for _ in range(7):
        buffer = prioritised.add(buffer, steps.window(steps.plain(1)))
        seen.append(buffer.priorities[0].tolist())
    o = 1.0
    assert seen[0] == seen[1] == [0, 0, 0, 0, 0]
    assert seen[2:] == [[o, 0, 0, 0, 0], [o, o, 0, 0, 0], [o, o, o, 0, 0], [0, o, o, o, 0], [0, 0, o, o, o]]


def test_an_error_of_zero_keeps_a_chance():
    buffer = with_errors(torch.zeros(SIZE), 1.0)
    assert bool((buffer.priorities[0] > 0).all())
    batch, _ = prioritised.sample(buffer, random.key(0), 8, 0.9, 1.0)
    assert torch.isfinite(batch.weight).all()


def test_what_is_drawn_twice_gets_its_largest_error_in_any_order():
    index, error = torch.tensor([5, 7, 5, 5]), torch.tensor([1.0, 2.0, -4.0, 3.0])
    buffer = filled(width=2, top=2)
    results = [
        prioritised.update(buffer, index[order], error[order], 1.0)
        for order in (torch.tensor(o) for o in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]))
    ]
    assert float(sum_tree.read(results[0].priorities, torch.tensor(5))) == pytest.approx(4.0)
    for other in results[1:]:
        assert all(map(torch.equal, tree.leaves(other), tree.leaves(results[0])))


def programs(backend):
    def learn(buffer, key, error, alpha):
        batch, index = prioritised.sample(buffer, key, 8, 0.9, 0.4)
        return prioritised.update(buffer, index, error, alpha), (batch, index)

    add = prioritised.add
    if backend is None:
        return torch.vmap(add), torch.vmap(learn)
    return tuple(jit.jit(torch.vmap(f), donate=(0,), backend=backend) for f in (add, learn))


def test_compiled_lanes_equal_a_loop():
    lanes = [filled(num_steps=4, num_rows=9, n_step=2, width=2, top=2) for _ in range(3)]
    buffers, keys = tree.stack(lanes), torch.stack([random.key(seed) for seed in range(3)])
    windows = tree.stack([steps.window(steps.plain(4, first=10 * lane)) for lane in range(3)])
    alpha = torch.tensor([0.0, 0.5, 1.0])
    error = random.normal(random.key(9), (3, 8))
    add, learn = programs("aot_eager")
    one_add, one_learn = programs(None)
    addresses = [leaf.data_ptr() for leaf in tree.leaves(buffers)]
    for _ in range(3):
        buffers = add(buffers, windows)
        buffers, drawn = learn(buffers, keys, error, alpha)
        for i, lane in enumerate(lanes):
            single = lambda x, i=i: tree.index(x, slice(i, i + 1))
            lane = one_add(tree.stack([lane]), single(windows))
            lane, expected = one_learn(lane, single(keys), single(error), single(alpha))
            lanes[i] = tree.index(lane, 0)
            for found, wanted in zip(tree.leaves(single(drawn)), tree.leaves(expected), strict=True):
                assert torch.allclose(found, wanted, rtol=1e-5)
    for found, wanted in zip(tree.leaves(buffers), tree.leaves(tree.stack(lanes)), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-5)
    assert [leaf.data_ptr() for leaf in tree.leaves(buffers)] == addresses


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_lane_that_diverged_does_not_touch_its_neighbour(value):
    buffers = tree.stack([filled(width=2, top=4)] * 2)
    keys = torch.stack([random.key(0), random.key(1)])
    _, learn = programs(None)
    good = random.normal(random.key(2), (2, 8))
    bad = good.clone()
    bad[0] = value
    alpha = torch.ones(2)
    after, _ = learn(learn(buffers, keys, bad, alpha)[0], keys, good, alpha)
    expected, _ = learn(learn(buffers, keys, good, alpha)[0], keys, good, alpha)
    for found, wanted in zip(tree.leaves(after), tree.leaves(expected), strict=True):
        assert torch.equal(found[1], wanted[1])


@pytest.mark.parametrize(("num_rows", "num_new", "n_step"), [(5, 5, 3), (5, 4, 3), (5, 1, 5), (9, 3, 2)])
def test_no_result_depends_on_the_order_of_writing(num_rows, num_new, n_step, monkeypatch):
    """On a GPU any of several values for one place may be the last; so none differ."""
    plain = sum_tree.write

    def write(levels, place, value):
        written = {}
        for where, what in zip(place.tolist(), value.tolist(), strict=True):
            assert written.setdefault(where, what) == what
        return plain(levels, place, value)

    monkeypatch.setattr(sum_tree, "write", write)
    buffer = filled(num_steps=1, num_rows=num_rows, n_step=n_step)
    for _ in range(4):
        buffer = prioritised.add(buffer, steps.window(steps.plain(num_new)))
        if int(buffer.replay.count) >= n_step:
            _, index = prioritised.sample(buffer, random.key(0), 16, 0.9, 0.4)
            buffer = prioritised.update(buffer, index, random.normal(random.key(1), (16,)), 0.6)


def test_too_large_a_buffer_is_refused():
    example = tree.map(lambda x: x.to("meta"), tree.index(steps.window(steps.plain(1)), 0))
    with pytest.raises(ValueError, match=r"num_rows · num_envs must be below 2\*\*31"):
        prioritised.init(example, 2**31)


def test_n_steps_must_have_room():
    example = tree.index(steps.window(steps.plain(1)), 0)
    for n_step, message in ((0, "at least 1"), (6, "at most the buffer's 5 rows")):
        with pytest.raises(ValueError, match=f"buffers.init: n_step must be {message}"):
            prioritised.init(example, 5, n_step=n_step)
