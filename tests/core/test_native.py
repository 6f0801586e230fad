"""The functions of `native.cpp` against torch's own."""

import ctypes
import gc
import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funcrl.core import internals, native, random, tree
from funcrl.core import jit as jit_module
from funcrl.core.jit import jit

pytestmark = pytest.mark.skipif(native.library() is None, reason="needs a C++ compiler")


def call(name, *arguments):
    """Call a function with handles of tensors, as a compiled program does."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    handles = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors([x for x in arguments if torch.is_tensor(x)])
    given = [ctypes.c_void_p(pointer(handle, None)) for handle in handles]
    given += [ctypes.c_int64(x) for x in arguments if not torch.is_tensor(x)]
    assert getattr(native.library(), f"aoti_torch_funcrl_{name}")(*given) == 0


def matrices(seed, batch, rows, columns, layout):
    """Some layout of the same numbers: by rows, by columns, one for the whole batch, or with gaps."""
    x = random.normal(random.key(seed), (batch, rows, columns))
    if layout == "columns":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "one":
        return x[:1].expand(batch, rows, columns)
    if layout == "gaps":
        return random.normal(random.key(seed), (batch, rows, 2, columns + 3))[:, :, 1, 1 : columns + 1]
    return x


LAYOUTS = st.sampled_from(["rows", "columns", "one", "gaps"])
SIZES = st.one_of(st.integers(1, 20), st.sampled_from([31, 32, 33, 48, 64, 100, 130]))


@settings(deadline=None)  # an example is quick, unless other work keeps the core
@given(st.integers(1, 3), SIZES, SIZES, SIZES, LAYOUTS, LAYOUTS)
def test_a_product_is_one_whatever_its_sizes_and_layouts(batch, m, k, n, first, second):
    a, b = matrices(1, batch, m, k, first), matrices(2, batch, k, n, second)
    out = torch.full((batch, m, n), torch.nan)
    call("bmm", out, a, b)
    assert torch.allclose(out.double(), torch.bmm(a.double(), b.double()), atol=2e-5)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 70), st.integers(0, 1))
def test_an_element_has_the_same_bits_wherever_it_stands(m, n, lane):
    a, b = matrices(1, 2, 40, 33, "rows"), matrices(2, 2, 33, 70, "columns")
    whole, part = torch.empty(2, 40, 70), torch.empty(1, m, n)
    call("bmm", whole, a, b)
    call("bmm", part, a[lane : lane + 1, 40 - m :], b[lane : lane + 1, :, 70 - n :])
    assert torch.equal(part[0], whole[lane, 40 - m :, 70 - n :])


def test_what_is_not_finite_stays_where_it_is():
    a, b = torch.ones(1, 9, 5), torch.ones(1, 5, 40)
    a[0, 3, 2], b[0, 1, 33] = torch.nan, torch.inf
    out = torch.empty(1, 9, 40)
    call("bmm", out, a, b)
    assert torch.equal(out.isnan(), torch.bmm(a, b).isnan())
    assert torch.equal(out.isinf(), torch.bmm(a, b).isinf())


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 50), st.sampled_from([0.0, 0.5, 1.0, math.inf]))
def test_quantile_regression_is_that_of_its_definition(rows, own, count, threshold):
    quantiles, goals = (random.normal(random.key(i), (rows, n)) for i, n in ((1, own), (2, count)))
    # Some pairs have no error at all, and one goal is far away.
    goals[0, 0], goals[-1, -1] = quantiles[0, 0], 1e4
    kappa, out = torch.full((rows,), threshold), torch.full((2, rows, own), torch.nan)
    call("quantile_regression", out, quantiles, goals, kappa)
    expected = torch.ops.funcrl.quantile_regression(quantiles.double(), goals.double(), kappa.double())
    assert torch.allclose(out.double(), expected, rtol=1e-4, atol=1e-5)


EDGES = st.sampled_from([0, 1, -1, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63)])


@given(
    st.integers(1, 3), st.lists(st.one_of(EDGES, st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=90)
)
def test_an_order_is_torchs_whatever_the_numbers(rows, numbers):
    x = torch.tensor([numbers[i:] + numbers[:i] for i in range(rows)])
    out = torch.empty_like(x)
    call("argsort", out, x)
    assert torch.equal(out, torch.argsort(x, dim=-1, stable=True))


@pytest.mark.parametrize("spread", [1, 3, 1000, 2**30])
def test_an_order_of_crowded_numbers_is_torchs(spread):
    x = random.randint(random.key(3), (2, 500), 0, spread) + torch.tensor([[0], [-(2**50)]])
    x[:, ::7] = 2**61  # one far away: all others fall into one bucket
    out = torch.empty_like(x)
    call("argsort", out, x)
    assert torch.equal(out, torch.argsort(x, dim=-1, stable=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.float64, torch.uint8])
def test_a_copy_is_one(dtype):
    x = torch.arange(30).reshape(5, 6).to(dtype)
    out = torch.empty_like(x)
    call("copy", out, x)
    assert torch.equal(out, x)


@pytest.mark.compiled
def test_a_compiled_program_calls_them_without_python():
    def function(state, key, w):
        x = random.normal(key, (8, 64))
        return (state[1], state[0]), torch.tanh(x @ w), random.split(key)

    state, key = (torch.ones(3), torch.zeros(3)), random.key(1)
    w = random.normal(random.key(2), (64, 48))
    expected = function(state, key, w)
    program = jit(function, donate=(0,))
    program((state[0].clone(), state[1].clone()), key, w)
    called = set()
    sys.setprofile(lambda frame, event, _: called.add(frame.f_code.co_name))
    try:
        found = program((state[0].clone(), state[1].clone()), key, w)
    finally:
        sys.setprofile(None)
    assert "flatten" in called
    assert not called & {"_bmm", "_copy", "_call", "_threefry", "_threefry_keys"}
    for a, b in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def add(x, y, index):
    """What all the tests below bind, so that it is compiled once."""
    return x[index] + y


INDEX = torch.arange(3)


@pytest.mark.compiled
def test_a_bound_program_runs_on_its_tensors_without_a_list_of_them(monkeypatch):
    program = jit(add, donate=(0,))
    x, y = torch.zeros(3), torch.ones(3)
    lists = []
    address = internals.entry_address
    monkeypatch.setattr(internals, "entry_address", lambda program: lists.append(program) or address(program))
    replay = program.bind(x, y, INDEX)
    monkeypatch.setattr(jit_module._WhenCompiled, "__call__", None)
    assert [replay().tolist() for _ in range(2)] == [[1.0] * 3, [2.0] * 3]
    assert len(lists) == 1
    y.fill_(5.0)
    assert replay() is x
    assert x.tolist() == [7.0] * 3
    del y, program
    gc.collect()
    assert replay().tolist() == [12.0] * 3


@pytest.mark.compiled
def test_without_a_way_in_a_bound_program_runs_as_others_do(monkeypatch):
    monkeypatch.setattr(internals, "entry_address", lambda program: None)
    x = torch.zeros(3)
    replay = jit(add, donate=(0,)).bind(x, torch.ones(3), INDEX)
    assert [replay().tolist() for _ in range(2)] == [[1.0] * 3, [2.0] * 3]


@pytest.mark.compiled
def test_a_bound_program_gives_back_its_tensors():
    x, y = torch.zeros(3), torch.ones(3)
    program = jit(add, donate=(0,))
    program.bind(x, y, INDEX)()
    gc.collect()
    before = x._use_count()  # what C++ holds of it
    replay = program.bind(x, y, INDEX)
    replay()
    assert x._use_count() == before + 1
    del replay
    gc.collect()
    assert x._use_count() == before


@pytest.mark.compiled
def test_what_a_bound_program_complains_about_is_an_error():
    x, index = torch.tensor([4.0, 5.0, 6.0]), torch.tensor([7, 0, 2])
    replay = jit(add, donate=(0,)).bind(x, torch.zeros(3), index)
    with pytest.raises(RuntimeError, match="out of bounds"):
        replay()
    index[0] = 1
    assert replay().tolist() == [5.0, 4.0, 6.0]
