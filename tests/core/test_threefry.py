"""The generator's three ways: in C++, by its definition inside the operator, and by its definition traced."""

import pytest
import torch

from funcrl.algos import ppo
from funcrl.core import native, random, store, threefry, tree
from funcrl.core.jit import jit
from funcrl.train import train


def without_compiler(monkeypatch, tmp_path):
    """No C++ compiler, and nothing that one left."""
    monkeypatch.setattr(store, "folder", lambda: tmp_path)
    monkeypatch.setattr(store, "compiler", lambda: None)
    native.library.cache_clear()


def without_operator(monkeypatch, tmp_path):
    """As on a GPU."""
    monkeypatch.setattr(threefry, "_has_operator", lambda key: False)


@pytest.fixture(params=[without_compiler, without_operator])
def other_way(request, monkeypatch, tmp_path):
    def take():
        request.param(monkeypatch, tmp_path)

    yield take
    monkeypatch.undo()
    native.library.cache_clear()


def draws():
    keys = torch.stack([random.key(seed) for seed in range(3)])

    def one(key):
        a, b, c = random.split(key, 3)
        return random.normal(a, (5, 3)), random.randint(b, (300,), -7, 1 << 20), random.permutation(c, 17)

    def nested(key):
        return torch.vmap(one)(random.split(key, 2))

    return [torch.vmap(one)(keys), torch.vmap(nested)(keys), one(keys[1]), random.bits(keys[0], (0,))]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True))


def test_here_there_is_a_library():
    assert native.library() is not None


def test_the_bits_are_the_same(other_way):
    before = draws()
    other_way()
    assert same(draws(), before)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.compiled)])
def test_a_traced_draw_has_the_same_bits(other_way, backend):
    before = random.bits(random.key(3), (64,))  # as in a program: see the tests of `core.random`
    other_way()
    assert torch.equal(jit(lambda key: random.bits(key, (64,)), backend=backend)(random.key(3)), before)


def trained():
    config = ppo.Config(num_envs=2, window_length=12, num_minibatches=2, num_epochs=2, hidden=(8,))
    return train("ppo", "CartPole-v1", config=config, seeds=[0, 5], num_steps=48, backend="eager").states


@pytest.fixture(scope="module")
def trained_before():
    return trained()


def test_training_has_the_same_bits(trained_before, other_way):
    other_way()
    assert same(trained(), trained_before)


def test_without_a_compiler_there_is_no_library_and_no_error(monkeypatch, tmp_path):
    without_compiler(monkeypatch, tmp_path)
    assert native.library() is None
    monkeypatch.undo()
    native.library.cache_clear()
