"""Compilation: same numbers on every back end, donation, counting, and no quiet fallback."""

import numpy as np
import pytest
import torch

from funcrl.core import jit, tree
from funcrl.core.hoist import hoist


@tree.struct
class Pair:
    a: torch.Tensor
    b: torch.Tensor
    power: int = tree.static(default=2)


def pair(value: float = 1.0) -> Pair:
    return Pair(torch.full((3,), value), torch.full((3,), 2 * value))


QUICK = ("eager", "aot_eager")


@pytest.mark.parametrize("backend", QUICK)
def test_back_ends_agree(backend):
    f = jit.jit(lambda p, x: Pair(p.a**p.power + x, p.b.sin()), backend=backend)
    out = f(pair(), torch.ones(3))
    assert isinstance(out, Pair)
    assert torch.allclose(out.a, torch.full((3,), 2.0))
    assert torch.allclose(out.b, torch.full((3,), 2.0).sin())


@pytest.mark.parametrize("backend", QUICK)
def test_arguments_are_not_changed_without_donation(backend):
    p = pair()
    jit.jit(lambda p: Pair(p.a + 1, p.b + 1), backend=backend)(p)
    assert torch.equal(p.a, pair().a)
    assert torch.equal(p.b, pair().b)


@pytest.mark.parametrize("backend", QUICK)
def test_donated_arguments_are_overwritten_and_returned(backend):
    f = jit.jit(lambda p, x: (Pair(p.a + x, p.b * 2), p.a.sum()), donate=(0,), backend=backend)
    p = pair()
    out, total = f(p, torch.ones(3))
    assert out.a is p.a
    assert out.b is p.b
    assert p.a.tolist() == [2.0] * 3
    assert p.b.tolist() == [4.0] * 3
    assert float(total) == 3.0


@pytest.mark.parametrize("backend", QUICK)
def test_donated_fields_may_change_places(backend):
    for swap in (lambda p: Pair(p.b, p.a), lambda p: Pair(p.b.view(3), p.a[:])):
        p = Pair(torch.arange(3.0), 10 + torch.arange(3.0))
        jit.jit(swap, donate=(0,), backend=backend)(p)
        assert p.a.tolist() == [10.0, 11.0, 12.0]
        assert p.b.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("backend", QUICK)
def test_what_is_kept_of_a_donated_field_is_what_it_was(backend):
    for keep in (torch.clone, lambda x: torch.cat([x]), lambda x: torch.stack([x]).clone()[0]):
        p = Pair(torch.arange(3.0), torch.zeros(3))
        _, shown = jit.jit(lambda p: (Pair(p.a + 10, keep(p.a)), keep(p.b)), donate=(0,), backend=backend)(p)  # noqa: B023
        assert p.a.tolist() == [10.0, 11.0, 12.0]
        assert p.b.tolist() == [0.0, 1.0, 2.0]
        assert shown.tolist() == [0.0] * 3


@pytest.mark.parametrize("backend", QUICK)
def test_bound_calls_read_what_the_tensors_hold(backend):
    p, x = pair(), torch.ones(3)
    call = jit.jit(lambda p, x: Pair(p.a + x, p.b), donate=(0,), backend=backend).bind(p, x)
    call()
    x.fill_(10.0)
    assert call().a is p.a
    assert p.a.tolist() == [12.0] * 3
    sums = jit.jit(lambda x: x.sum(), backend=backend).bind(x)
    assert float(sums()) == 30.0


@pytest.mark.compiled
def test_the_real_compiler_does_all_of_this():
    """What the tests above ask, of one program."""

    def work(changed, swapped, kept, shown, given, x, y):
        return (
            (
                Pair(changed.a + x, changed.b * 2),
                Pair(swapped.b, swapped.a),
                Pair(kept.a + 10, kept.a.clone()),
            ),
            shown + 1,
            (changed.a.sum(), torch.cat([kept.b]), torch.stack([kept.a])[0], shown, shown[:1]),
            Pair(given.a**given.power + x, given.b.sin()),
            (x + 10.0 * y, x - y),
        )

    def donated():
        counting = torch.arange(3.0)
        return (pair(), Pair(counting, 10 + counting), Pair(counting.clone(), torch.zeros(3))), torch.ones(2)

    program = jit.jit(lambda pairs, shown, *rest: work(*pairs, shown, *rest), donate=(0, 1))
    given, one, two = pair(), torch.ones(3), torch.full((3,), 2.0)
    for y in (one, two):  # one tensor as two arguments, and then two
        (pairs, shown), copies = donated(), donated()
        (changed, swapped, kept), after, (total, *seen), computed, sums = program(pairs, shown, given, one, y)
        assert changed.a is pairs[0].a
        assert changed.b is pairs[0].b
        assert after is shown
        assert (changed.a.tolist(), changed.b.tolist(), float(total)) == ([2.0] * 3, [4.0] * 3, 3.0)
        assert (swapped.a.tolist(), swapped.b.tolist()) == ([10.0, 11.0, 12.0], [0.0, 1.0, 2.0])
        assert (kept.a.tolist(), kept.b.tolist()) == ([10.0, 11.0, 12.0], [0.0, 1.0, 2.0])
        assert after.tolist() == [2.0, 2.0]
        for found, was in zip(seen, (copies[0][2].b, copies[0][2].a, copies[1], copies[1][:1]), strict=True):
            assert torch.equal(found, was)
        assert torch.allclose(computed.a, torch.full((3,), 2.0))
        assert torch.allclose(computed.b, torch.full((3,), 2.0).sin())
        assert [x.tolist() for x in sums] == [(one + 10 * y).tolist(), (one - y).tolist()]
        assert torch.equal(given.a, pair().a)
        assert torch.equal(given.b, pair().b)
    assert program.num_graphs == 1
    pairs, shown = donated()
    call = program.bind(pairs, shown, given, one, two)
    call()
    one.fill_(10.0)
    assert call()[0][0].a is pairs[0].a
    assert pairs[0].a.tolist() == [12.0] * 3


def test_graphs_are_counted_a_structure_and_shape_each():
    f = jit.jit(lambda x: x + 1, backend="aot_eager")
    before = jit.stats().num_graphs
    for size in (2, 2, 3, 3, 2):
        f(torch.ones(size))
    assert f.num_graphs == 2
    assert jit.stats().num_graphs - before == 2


def test_a_branch_on_a_value_is_an_error():
    f = jit.jit(lambda x: x + 1 if x.sum() > 0 else x, backend="aot_eager")
    with pytest.raises(Exception, match=r"data-dependent|Could not guard"):
        f(torch.ones(2))


def test_an_operation_that_vmap_runs_lane_by_lane_is_an_error():
    lanes = torch.vmap(lambda x: torch.special.airy_ai(x))
    for backend in QUICK:
        with pytest.raises(UserWarning, match="performance drop"):
            jit.jit(lanes, backend=backend)(torch.ones(3))


@pytest.mark.parametrize("lanes", [False, True])
def test_arrays_of_tensors_without_numbers_are_refused(lanes):
    captured = torch.ones(3)
    wrong = (
        lambda x: x * np.full(3, 2.0),
        lambda x: np.add(x, 1.0),
        lambda x: x + float(captured.numpy()[0]),
        lambda x: torch.as_tensor(np.asarray(x)),
        lambda x: torch.as_tensor(np.from_dlpack(x)),
    )
    message = r"jit: the function must compute with tensors alone, .* Write torch\.as_tensor\(array\)"
    for function in wrong:
        with pytest.raises(ValueError, match=message):
            jit.jit(torch.vmap(function) if lanes else function, backend="aot_eager")(torch.ones(2, 3))
    fine = lambda x: x * torch.as_tensor(np.full(3, 2.0, np.float32)) + np.float64(1.0)
    assert jit.jit(fine, backend="aot_eager")(torch.ones(2, 3)).tolist() == [[3.0] * 3] * 2


def test_numbers_among_the_leaves_are_refused():
    with pytest.raises(TypeError, match=r"jit: arguments must be trees of tensors, got the leaf 1\.0"):
        jit.jit(lambda x: x, backend="aot_eager")({"a": 1.0})


@pytest.mark.parametrize("backend", QUICK)
def test_donation_of_one_tensor_twice_is_refused(backend):
    x = torch.ones(3)
    with pytest.raises(ValueError, match="hold each tensor once"):
        jit.jit(lambda p: p, donate=(0,), backend=backend)(Pair(x, x))


@pytest.mark.parametrize("backend", QUICK)
def test_donation_to_another_shape_is_refused(backend):
    with pytest.raises(ValueError, match=r"must be \(3,\)"):
        jit.jit(lambda x: x[:2], donate=(0,), backend=backend)(torch.ones(3))


def test_unknown_back_ends_are_refused():
    with pytest.raises(ValueError, match="jit: backend must be one of"):
        jit.jit(lambda x: x, backend="indcutor")


def test_hoist_moves_what_depends_on_the_key_alone_and_nothing_else():
    def step(carry, key):
        noise = key.cos() * 3
        return {"x": carry["x"] + noise}, noise.sum() + carry["x"].sum()

    carry, key = {"x": torch.randn(4)}, torch.randn(4)
    early, late = hoist(step, carry, key)
    noise = early(key)
    # cos, mul and sum run early; what crosses is the noise and its sum.
    assert sorted(tuple(x.shape) for x in noise) == [(), (4,)]
    expected, out = step(carry, key), late(carry, noise)
    assert torch.equal(expected[0]["x"], out[0]["x"])
    assert torch.equal(expected[1], out[1])
    # Another key changes the result only by way of the noise.
    other = torch.randn(4)
    assert torch.equal(late(carry, early(other))[0]["x"], step(carry, other)[0]["x"])


def test_hoist_keeps_in_place_work_on_copies():
    def step(x, key):
        y = x.clone()
        y[0] += 10 * key[0]
        y[1:].mul_(2)
        return y

    early, late = hoist(step, torch.ones(3), torch.ones(2))
    assert late(torch.ones(3), early(torch.ones(2))).tolist() == [11.0, 2.0, 2.0]


def test_a_function_that_changes_its_arguments_is_refused():
    for backend in ("aot_eager", "inductor"):
        with pytest.raises(ValueError, match="jit: the function must not change its arguments in place"):
            jit.jit(lambda x: x.add_(1), backend=backend)(torch.ones(2))


@pytest.mark.parametrize("backend", QUICK)
def test_other_outputs_show_a_donated_argument_as_it_was(backend):
    f = jit.jit(lambda x: (x + 1, x, x[:1]), donate=(0,), backend=backend)
    after, before, part = f(torch.ones(2))
    assert (after.tolist(), before.tolist(), part.tolist()) == ([2.0, 2.0], [1.0, 1.0], [1.0])


def test_hoist_works_where_there_is_nothing_to_move():
    early, late = hoist(lambda x, key: x * 2, torch.ones(2), torch.ones(2))
    assert early(torch.ones(2)) == []
    assert late(torch.ones(2), []).tolist() == [2.0, 2.0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_capture_replays_on_a_gpu():
    counter = torch.zeros(1, device="cuda")
    step = jit.jit(lambda x: x + 1, donate=(0,))
    replay = jit.capture([step.bind(counter)], counter, counter.device)
    assert float(counter) == 0.0
    replay()
    replay()
    assert float(counter) == 2.0


def test_a_tensor_that_was_given_twice_may_be_two_tensors_in_the_next_call():
    program = jit.jit(lambda x, y: (x + 10.0 * y, x - y), backend="aot_eager")
    one, two = torch.ones(3), torch.full((3,), 2.0)
    assert program(one, one)[0].tolist() == [11.0] * 3
    assert [out.tolist() for out in program(one, two)] == [[21.0] * 3, [-1.0] * 3]
    assert [out.tolist() for out in program(two, one)] == [[12.0] * 3, [1.0] * 3]
    assert program.num_graphs == 1


def test_outputs_are_contiguous_so_that_feeding_them_back_compiles_nothing():
    program = jit.jit(lambda x: (x.T + 1.0).T, backend="aot_eager")
    spread = jit.jit(lambda x: torch.ones(()).expand(3, 4), backend="aot_eager")
    x = torch.zeros(3, 4)
    for _ in range(3):
        x = program(x)
    assert program.num_graphs == 1
    assert x.is_contiguous()
    assert spread(x).is_contiguous()
