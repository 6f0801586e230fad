"""Torch's inside: one test an interface, which names what broke when a new torch moves it."""

import pytest
import torch

from funcrl.core import graphs, internals


def traced(function, *leaves):
    mode = internals.fake_mode()
    graph, _ = graphs.trace(function, list(leaves), graphs.flatten(leaves)[1], mode)
    return graph, mode


def test_fake_tensors_have_shapes_and_no_numbers():
    mode = internals.fake_mode()
    fake = internals.fake(mode, torch.ones(2, 3))
    assert (fake.shape, fake.dtype, fake.device.type) == ((2, 3), torch.float32, "cpu")
    assert fake.fake_mode is mode


def test_the_compiler_has_decompositions():
    assert torch.ops.aten.bmm.default in internals.decompositions()


@pytest.mark.compiled
def test_a_graph_is_compiled_at_the_compilers_back_end():
    graph, mode = traced(lambda x: [x * 2 + 1], torch.ones(3))
    program = internals._compile_directly(graph, mode)
    assert program([torch.ones(3)])[0].tolist() == [3.0] * 3


@pytest.mark.compiled
def test_a_torch_that_moved_something_compiles_by_the_public_way_and_says_so(monkeypatch):
    def moved(graph, mode):
        raise ImportError("no such thing as compile_fx_inner")

    monkeypatch.setattr(internals, "_compile_directly", moved)
    internals._say_that_it_changed.cache_clear()
    graph, mode = traced(lambda x: [x * 2 + 1], torch.ones(3))
    with pytest.warns(UserWarning, match="is not a version that funcrl knows"):
        program = internals.compile_graph(graph, mode)
    assert program([torch.ones(3)])[0].tolist() == [3.0] * 3


def test_what_goes_wrong_in_a_function_of_ones_own_is_not_taken_for_a_new_torch(monkeypatch):
    def broken(graph, mode):
        raise RuntimeError("no compiler on this machine")

    monkeypatch.setattr(internals, "_compile_directly", broken)
    with pytest.raises(RuntimeError, match="no compiler"):
        internals.compile_graph(*traced(lambda x: [x + 1], torch.ones(3)))
