"""The ring and uniform sampling: who is drawn how often, dtypes of storage, lanes, writing in place."""

import pytest
import torch
from scipy import stats

from funcrl.buffers import check_storage, prioritised, sequence, uniform
from funcrl.core import jit, random, tree
from tests.buffers import steps


def filled(rows, num_rows, storage=None):
    """A buffer to which `rows` were added one by one."""
    buffer = uniform.init(tree.index(steps.window(rows[:1]), 0), num_rows, storage)
    for row in rows:
        buffer = uniform.add(buffer, steps.window([row]))
    return buffer


@pytest.mark.parametrize(("written", "n_step"), [(4, 1), (4, 3), (7, 1), (10, 1), (10, 3), (7, 7)])
def test_every_whole_transition_is_drawn_equally_often(written, n_step):
    buffer = filled(steps.plain(written, 2), 7)
    batch = uniform.sample(buffer, random.key(0), 20_000, 0.9, n_step)
    names, counts = batch.obs[:, 0].unique(return_counts=True)
    first, last = max(0, written - 7), written - n_step
    assert names.tolist() == [1 + 10 * t + env for t in range(first, last + 1) for env in range(2)]
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_large_buffers_are_drawn_from_to_the_last_bit():
    """24 random bits would never draw some of 2²⁶ rows."""
    example = tree.index(steps.window(steps.plain(1)), 0)
    buffer = uniform.init(example, 1)
    data = tree.map(lambda x: x.expand(2**26, *x.shape[1:]), buffer.data)
    buffer = tree.replace(buffer, data=data, count=torch.tensor(2**26))
    step, env = uniform.draw(buffer, random.key(0), 4096, 1)
    assert 0 <= int(step.min()) < int(step.max()) < 2**26
    assert int(env.max()) == 0
    counts = torch.bincount(step % 8, minlength=8)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_three_steps_by_hand():
    """Rewards 1, 2, 4 and γ = ½; the episode ends by its time limit at the second, dies at the fourth."""
    rows = steps.plain(4)
    for row, reward in zip(rows, (1.0, 2.0, 4.0, 8.0), strict=True):
        row[0]["reward"] = reward
    rows[1][0]["truncated"] = rows[3][0]["terminated"] = True
    batch = uniform.sample(filled(rows, 4), random.key(0), 64, 0.5, 2)
    by_step = {steps.where(batch.obs[i, 0])[0]: tree.index(batch, i) for i in range(64)}
    found = {t: (b.reward.item(), b.discount.item(), b.next_obs[0].item()) for t, b in by_step.items()}
    assert found == {0: (2.0, 0.25, 11.5), 1: (2.0, 0.5, 11.5), 2: (8.0, 0.0, 31.5)}


def test_gamma_may_differ_between_lanes():
    buffer = filled(steps.plain(4), 4)
    draw = lambda gamma: uniform.sample(buffer, random.key(0), 3, gamma, 2).discount
    assert torch.vmap(draw)(torch.tensor([0.5, 1.0])).tolist() == [[0.25] * 3, [1.0] * 3]


def test_observations_may_be_trees():
    example = tree.index(steps.window(steps.plain(1)), 0)
    nest = lambda x: tree.replace(
        x, obs={"a": x.obs, "b": x.obs[..., 0]}, next_obs={"a": x.obs, "b": x.reward}
    )
    buffer = uniform.init(nest(example), 3, {"obs": torch.float64})
    buffer = uniform.add(buffer, nest(steps.window(steps.plain(2))))
    batch = uniform.sample(buffer, random.key(0), 5, 0.9)
    assert batch.obs["a"].shape == (5, 2)
    assert torch.equal(batch.obs["a"][:, 0], batch.obs["b"])
    assert batch.next_obs["b"].dtype == torch.float32


def whole_numbers(rows):
    """A window whose observations a byte holds."""
    made = steps.window(rows)
    return tree.replace(made, obs=made.obs.abs() % 256, next_obs=made.next_obs.floor().abs() % 256)


def test_bytes_come_back_as_they_were():
    made = whole_numbers(steps.plain(20))
    storage = {"obs": torch.uint8, "action": torch.int16, "reward": torch.float16}
    buffer = uniform.init(tree.index(made, 0), 20, storage)
    check_storage("train", buffer, made)
    plain, small = uniform.add(uniform.init(tree.index(made, 0), 20), made), uniform.add(buffer, made)
    assert small.data.obs.dtype == small.data.next_obs.dtype == torch.uint8
    assert small.data.action.dtype == torch.int16
    assert small.data.reward.dtype == torch.float16
    for buffers in (uniform, sequence):
        drawn = [buffers.sample(buffer, random.key(3), 6, 1) for buffer in (plain, small)]
        for wanted, found in zip(tree.leaves(drawn[0]), tree.leaves(drawn[1]), strict=True):
            assert found.dtype == wanted.dtype
            assert torch.equal(found, wanted)


@pytest.mark.parametrize("value", [0.5, 256.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["obs", "next_obs"])
def test_what_bytes_cannot_hold_is_refused(value, field):
    made = whole_numbers(steps.plain(3))
    buffer = uniform.init(tree.index(made, 0), 3, {"obs": torch.uint8})
    spoilt = getattr(made, field).clone()
    spoilt[1, 0, 1] = value
    with pytest.raises(ValueError, match=f"train: storage must hold {field}: .* whole numbers from 0 to 255"):
        check_storage("train", buffer, tree.replace(made, **{field: spoilt}))


def test_rounding_to_half_precision_is_what_was_asked_for():
    made = steps.window(steps.plain(3))
    made = tree.replace(made, reward=made.reward / 3)
    check_storage("train", uniform.init(tree.index(made, 0), 3, {"reward": torch.float16}), made)


@pytest.mark.parametrize(
    ("num_rows", "storage", "message"),
    [
        (0, None, "num_rows must be at least 1"),
        (3, {"obz": torch.uint8}, "Did you mean 'obs'"),
        (3, {"terminated": torch.uint8}, "storage must be one of"),
        (3, {"obs": "uint8"}, "storage must be a dtype of numbers"),
        (3, {"obs": torch.bool}, "storage must be a dtype of numbers"),
    ],
)
def test_bad_buffers_are_refused(num_rows, storage, message):
    with pytest.raises(ValueError, match=message):
        uniform.init(tree.index(steps.window(steps.plain(1)), 0), num_rows, storage)


def test_a_window_longer_than_the_buffer_is_refused():
    with pytest.raises(ValueError, match="window must hold at most the buffer's 3 steps, got 4"):
        uniform.add(filled(steps.plain(1), 3), steps.window(steps.plain(4)))


@pytest.mark.parametrize("num_steps", [0, 2])
def test_nothing_can_be_learnt_from_a_buffer_that_does_not_hold_n_steps_yet(num_steps):
    row = tree.index(steps.window(steps.plain(1)), 0)
    buffer, ranked = uniform.init(row, 9), prioritised.init(row, 9, n_step=3)
    if num_steps:
        new = steps.window(steps.plain(num_steps))
        buffer, ranked = uniform.add(buffer, new), prioritised.add(ranked, new)
    one = steps.window(steps.plain(1, first=num_steps))
    for _ in range(2):
        assert uniform.sample(buffer, random.key(0), 8, 0.9, 3).weight.tolist() == [0.0] * 8
        assert not sequence.sample(buffer, random.key(0), 8, 3).mask.any()
        batch, place = prioritised.sample(ranked, random.key(0), 8, 0.9, 0.4)
        assert batch.weight.tolist() == [0.0] * 8
        # An error does not make whole what is not.
        ranked = prioritised.update(ranked, place, torch.ones(8), 0.5)
        assert ranked.priorities[0].tolist() == [0.0] * 9
    for _ in range(3 - num_steps):
        buffer, ranked = uniform.add(buffer, one), prioritised.add(ranked, one)
    assert uniform.sample(buffer, random.key(0), 8, 0.9, 3).weight.tolist() == [1.0] * 8
    assert sequence.sample(buffer, random.key(0), 8, 3).mask.all()
    assert prioritised.sample(ranked, random.key(0), 8, 0.9, 0.4)[0].weight.tolist() == [1.0] * 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda buffer, key: uniform.sample(buffer, key, 8, 1.5), "gamma must lie in"),
        (lambda buffer, key: uniform.sample(buffer, key, 8, 0.9, 0), "n_step must be at least 1"),
        (lambda buffer, key: uniform.sample(buffer, key, 8, 0.9, 4), "n_step must be at most the buffer's 3"),
        (lambda buffer, key: sequence.sample(buffer, key, 8, 0), "length must be at least 1"),
        (lambda buffer, key: uniform.sample(buffer, key, 0, 0.9), "batch_size must be at least 1"),
    ],
)
def test_what_cannot_be_sampled_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(filled(steps.plain(3), 3), random.key(0))


def lanes(num_lanes=3):
    """Windows `[T, S, N, ...]` as the training loop hands them on, and buffers with as many lanes."""
    window = steps.window(steps.plain(5, 2))
    shifted = [tree.replace(window, reward=window.reward + 100 * lane) for lane in range(num_lanes)]
    windows = tree.map(lambda *xs: torch.stack(xs, dim=1), *shifted)
    buffer = uniform.init(tree.index(window, 0), 7)
    return tree.stack([buffer] * num_lanes), windows


def test_compiled_lanes_equal_a_loop():
    buffers, windows = lanes()
    keys = torch.stack([random.key(seed) for seed in range(3)])
    add = jit.jit(torch.vmap(uniform.add, in_dims=(0, 1)), donate=(0,), backend="aot_eager")
    draw = lambda buffer, key: uniform.sample(buffer, key, 8, 0.9, 3)
    sample = jit.jit(torch.vmap(draw), backend="aot_eager")
    alone = [tree.index(tree.map(torch.clone, buffers), lane) for lane in range(3)]
    for _ in range(3):
        alone = [uniform.add(alone[lane], tree.index(windows, (slice(None), lane))) for lane in range(3)]
        buffers = add(buffers, windows)
    assert add.num_graphs == 1
    expected = tree.stack([draw(buffer, key) for buffer, key in zip(alone, keys, strict=True)])
    for found, wanted in zip(tree.leaves(sample(buffers, keys)), tree.leaves(expected), strict=True):
        assert torch.allclose(found, wanted)
    for found, wanted in zip(tree.leaves(buffers), tree.leaves(tree.stack(alone)), strict=True):
        assert torch.equal(found, wanted)


def test_a_donated_buffer_stays_where_it_is():
    buffers, windows = lanes()
    addresses = [leaf.data_ptr() for leaf in tree.leaves(buffers)]
    add = jit.jit(torch.vmap(uniform.add, in_dims=(0, 1)), donate=(0,), backend="aot_eager")
    after = add(add(buffers, windows), windows)
    assert [leaf.data_ptr() for leaf in tree.leaves(after)] == addresses
    assert after.count.tolist() == [10, 10, 10]


def test_nothing_is_changed_without_donation():
    buffers, windows = lanes()
    before = tree.map(torch.clone, buffers)
    torch.vmap(uniform.add, in_dims=(0, 1))(buffers, windows)
    assert all(map(torch.equal, tree.leaves(buffers), tree.leaves(before)))


@pytest.mark.compiled
def test_adding_writes_in_place():
    """Donated, nothing as large as one of the buffers is allocated, as a copy would be; both in one program."""
    window = tree.map(lambda x: x.unsqueeze(0), steps.window(steps.plain(5)))
    example = tree.index(window, (slice(None), 0))
    kinds = (uniform, prioritised)
    both = [
        tree.map(torch.clone, torch.vmap(lambda one, kind=kind: kind.init(one, 10_000))(example))
        for kind in kinds
    ]
    add = lambda *given: tuple(torch.vmap(kind.add)(buffer, given[2]) for kind, buffer in zip(kinds, given))  # noqa: B905
    call = jit.jit(add, donate=(0, 1)).bind(*both, window)
    call()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        call()
    allocated = sum(max(0, event.self_cpu_memory_usage) for event in profile.events())
    assert allocated < 10_000
    assert [buffer.count.tolist() for buffer in (both[0], both[1].replay)] == [[10], [10]]


@pytest.mark.parametrize("kind", [uniform, prioritised])
def test_windows_of_other_shapes_or_dtypes_are_refused(kind):
    good = steps.window(steps.plain(4, 2))
    buffer = kind.init(tree.index(good, 0), 10)
    for change, message in (
        ({"obs": good.obs[:, :1]}, r"window.obs must be \(4, 2, 2\) torch.float32, got '\(4, 1, 2\)"),
        ({"action": good.action.float()}, "window.action must be .* torch.int64, got .* torch.float32"),
        ({"terminated": good.terminated[0]}, "window.terminated must be"),
    ):
        with pytest.raises(ValueError, match=f"buffers.add: {message}"):
            kind.add(buffer, tree.replace(good, **change))


def test_more_steps_than_there_are_rows_are_refused():
    buffer = filled(steps.plain(5), 5)
    for draw in (
        lambda: uniform.sample(buffer, random.key(0), 4, 0.9, 6),
        lambda: sequence.sample(buffer, random.key(0), 4, 6),
    ):
        with pytest.raises(ValueError, match="must be at most the buffer's 5 rows, got 6"):
            draw()
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        uniform.sample(buffer, random.key(0), 0, 0.9)
