"""Rewrites for the compiler: the same numbers as the operations that they replace."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funcrl.core import graphs, internals, native, random, rewrites, tree
from funcrl.core.jit import jit

SIZES = st.integers(1, 9)


def matrices(batch, rows, columns, transposed):
    x = random.normal(random.key(7), (batch, columns, rows) if transposed else (batch, rows, columns))
    return x.transpose(1, 2) if transposed else x


@given(st.integers(1, 3), SIZES, SIZES, SIZES, st.booleans(), st.booleans())
def test_thin_products_are_products(batch, m, k, n, first_transposed, second_transposed):
    a, b = matrices(batch, m, k, first_transposed), matrices(batch, k, n, second_transposed)
    found = rewrites.bmm(a, b)
    if found is NotImplemented:
        return
    assert found.shape == (batch, m, n)
    assert torch.allclose(found.double(), torch.bmm(a.double(), b.double()), atol=1e-5)


def operators_in(a, b):
    """The operations by which the compiler is given a · b."""
    graph, _ = graphs.trace(lambda a, b: [a @ b], [a, b], tree.flatten((a, b))[1], rewrites.for_cpu())
    return {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}


@pytest.mark.parametrize(("m", "k", "n"), [(128, 64, 2), (2, 128, 64), (64, 128, 4), (128, 2, 64)])
def test_thin_products_of_a_network_are_loops(m, k, n):
    assert not {"funcrl.bmm.default", "aten.bmm.default"} & operators_in(
        torch.ones(2, m, k), torch.ones(2, k, n)
    )


def test_small_products_are_funcrls_own_and_large_and_double_ones_the_librarys():
    small, large = torch.ones(2, 64, 64), torch.ones(2, 1024, 1024)
    assert "funcrl.bmm.default" in operators_in(small, small)
    assert "funcrl.bmm.default" in operators_in(small[0], small[0])
    assert "aten.bmm.default" in operators_in(large, large)
    assert "aten.bmm.default" in operators_in(small.double(), small.double())


def test_without_a_cpp_compiler_they_are_the_librarys(monkeypatch):
    monkeypatch.setattr(native, "library", lambda: None)
    assert "aten.bmm.default" in operators_in(torch.ones(2, 64, 64), torch.ones(2, 64, 64))


def test_tanh_is_within_four_times_ten_to_the_minus_seven_and_never_beyond_one():
    x = torch.cat([torch.linspace(-12, 12, 100_001), torch.tensor([torch.inf, -torch.inf, 0.0, 1e-30])])
    found = rewrites.tanh(x)
    assert float((found.double() - torch.tanh(x.double())).abs().max()) < 4e-7
    assert float(found.abs().max()) <= 1.0
    assert rewrites.tanh(torch.tensor([torch.nan])).isnan().all()
    small = torch.logspace(-30, -2, 1000)
    assert float((rewrites.tanh(small) / torch.tanh(small.double()) - 1).abs().max()) < 1e-6
    assert rewrites.tanh(torch.ones(1, dtype=torch.float64)) is NotImplemented


def test_the_compiler_is_given_the_rewrites():
    table = rewrites.for_cpu()
    a, b = torch.ones(1, 8, 16), torch.ones(1, 16, 2)
    assert torch.equal(table[torch.ops.aten.bmm.default](a, b), torch.bmm(a, b))
    assert torch.ops.aten.tanh.default not in table  # one operation, which `internals.write_as` writes in C++


def test_where_the_compiler_cannot_be_told_tanh_is_decomposed(monkeypatch):
    monkeypatch.setattr(internals, "write_as", lambda name, expression: False)
    assert rewrites.for_cpu()[torch.ops.aten.tanh.default] is rewrites.tanh
    assert internals.decompositions().get(torch.ops.aten.tanh.default) is not rewrites.tanh  # a GPU has those


@pytest.mark.compiled
def test_tanh_in_cpp_has_the_bits_of_tanh_in_python_in_vectors_and_number_by_number():
    special = torch.tensor([torch.inf, -torch.inf, 0.0, -0.0, 1e-30, 1e-42])
    x = torch.cat([torch.linspace(-12, 12, 100_001), special])
    strided = x[:90_000].reshape(300, 300).T[::7, ::3]
    program = jit(
        lambda x, y, z, n: (x.tanh(), y.tanh().contiguous(), z.tanh(), n.tanh()), backend="inductor"
    )
    found = program(x, strided, strided.double(), torch.full((20,), torch.nan))
    for ours, numbers in zip(found, (x, strided), strict=False):
        assert torch.equal(ours.view(torch.int32), rewrites.tanh(numbers).contiguous().view(torch.int32))
    torch.testing.assert_close(found[2], torch.tanh(strided.double()), rtol=1e-14, atol=0)
    assert found[3].isnan().all()


def test_a_bias_is_added_without_the_factor_of_one_that_vmap_gives_it():
    leaves, spec = tree.flatten((torch.ones(2, 8, 16), torch.ones(2, 16, 16), torch.ones(2, 16)))
    table = rewrites.for_cpu()
    graph, _ = graphs.trace(torch.vmap(torch.nn.functional.linear), leaves, spec, table)
    assert not [node for node in graph.graph.nodes if "mul" in str(node.target)]
    x = torch.tensor([1.5, torch.nan])
    assert table[torch.ops.aten.mul.Scalar](x, 1) is x
    twice, _ = graphs.trace(lambda x: torch.ops.aten.mul.Scalar(x, 2), *tree.flatten((x,)), table)
    assert twice(x)[0][0] == 3.0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 7, 17), (2, 18, 9)),
        ((3, 7, 17), (1, 17, 9)),
        ((2, 7, 17), (2, 1, 3)),
        ((2, 7, 3), (2, 4, 9)),
        ((2, 7, 1), (2, 4, 9)),
    ],
)
def test_factors_that_do_not_fit_are_refused_as_ever(a, b):
    assert rewrites.bmm(torch.ones(a), torch.ones(b)) is NotImplemented
    with pytest.raises(RuntimeError, match="Expected size"):
        jit(torch.bmm)(torch.ones(a), torch.ones(b))


def test_other_types_and_what_is_empty_are_left_to_torch():
    a = torch.ones(2, 7, 17)
    assert rewrites.bmm(a, torch.ones(2, 17, 9, dtype=torch.float64)) is NotImplemented
    assert rewrites.bmm(a, torch.ones(2, 17, 0)) is NotImplemented
    assert rewrites.bmm(torch.ones(2, 0, 17), torch.ones(2, 17, 9)) is NotImplemented
