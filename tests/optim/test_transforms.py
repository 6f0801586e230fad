"""Optimisers against torch.optim in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from funcrl import optim
from funcrl.core import random, tree


def start(seed):
    ks = random.split(random.key(seed), 3)
    return {"w": random.normal(ks[0], (3, 2)).double(), "b": random.normal(ks[1], (2,)).double()}, ks[2]


def run_ours(optimizer, params, grads):
    state = optimizer.init(params)
    for grad in grads:
        updates, state = optimizer.update(grad, state, params)
        params = optim.apply(params, updates)
    return params


def run_torch(make, params, grads, clip=None):
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    optimizer = make(leaves.values())
    for grad in grads:
        for name, p in leaves.items():
            p.grad = grad[name].clone()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(leaves.values(), clip)
        optimizer.step()
    return {name: p.detach() for name, p in leaves.items()}


def gradients(key, params, num):
    return [
        {n: random.normal(random.fold_in(k, i), p.shape).double() for i, (n, p) in enumerate(params.items())}
        for k in random.split(key, num)
    ]


def same(a, b, tolerance=1e-12):
    return all(torch.allclose(a[name], b[name], rtol=tolerance, atol=tolerance) for name in a)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-4, 1e-1), st.sampled_from([1e-8, 1e-5]))
def test_adam_equals_torch(seed, learning_rate, epsilon):
    params, key = start(seed)
    grads = gradients(key, params, 8)
    ours = run_ours(optim.adam(learning_rate, epsilon=epsilon), params, grads)
    theirs = run_torch(lambda ps: torch.optim.Adam(ps, lr=learning_rate, eps=epsilon), params, grads)
    assert same(ours, theirs)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-4, 1e-1), st.floats(0.5, 0.999), st.sampled_from([1e-8, 1e-5]))
def test_rmsprop_equals_torch(seed, learning_rate, decay, epsilon):
    params, key = start(seed)
    grads = gradients(key, params, 8)
    ours = run_ours(optim.rmsprop(learning_rate, decay, epsilon), params, grads)
    make = lambda ps: torch.optim.RMSprop(ps, lr=learning_rate, alpha=decay, eps=epsilon)
    assert same(ours, run_torch(make, params, grads))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31), st.floats(1e-4, 1e-1), st.sampled_from([0.9, 0.999]), st.sampled_from([1e-8, 1e-5])
)
def test_radam_equals_torch(seed, learning_rate, beta2, epsilon):
    params, key = start(seed)
    # With both β₂ the sixth step is the first one that divides by the squares.
    grads = gradients(key, params, 12)
    ours = run_ours(optim.radam(learning_rate, beta2=beta2, epsilon=epsilon), params, grads)
    theirs = run_torch(
        lambda ps: torch.optim.RAdam(ps, lr=learning_rate, betas=(0.9, beta2), eps=epsilon), params, grads
    )
    assert same(ours, theirs)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.9]))
def test_sgd_equals_torch(seed, momentum):
    params, key = start(seed)
    grads = gradients(key, params, 5)
    ours = run_ours(optim.sgd(0.1, momentum), params, grads)
    theirs = run_torch(lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=momentum), params, grads)
    assert same(ours, theirs)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 10))
def test_clipping_equals_torch(seed, max_norm):
    params, key = start(seed)
    grads = gradients(key, params, 3)
    ours = run_ours(optim.chain(optim.clip_by_global_norm(max_norm), optim.sgd(0.1)), params, grads)
    theirs = run_torch(lambda ps: torch.optim.SGD(ps, lr=0.1), params, grads, clip=max_norm)
    assert same(ours, theirs)


def test_an_infinite_norm_leaves_the_gradient_alone():
    grads = {"a": torch.tensor([3.0, 4.0])}
    assert torch.equal(optim.clip_by_global_norm(torch.inf).update(grads, (), None)[0]["a"], grads["a"])


def test_learning_rates_differ_between_lanes():
    def step(rate):
        optimizer = optim.adam(rate)
        params = torch.ones(2)
        updates, _ = optimizer.update(torch.ones(2), optimizer.init(params), params)
        return optim.apply(params, updates)

    assert torch.allclose(torch.vmap(step)(torch.tensor([0.1, 0.2]))[:, 0], torch.tensor([0.9, 0.8]))


def test_nothing_is_changed_in_place():
    params = {"w": torch.ones(2)}
    optimizer = optim.adam(0.1)
    state = optimizer.init(params)
    before = tree.map(torch.clone, (params, state))
    optimizer.update({"w": torch.ones(2)}, state, params)
    assert all(
        torch.equal(a, b) for a, b in zip(tree.leaves(before), tree.leaves((params, state)), strict=True)
    )


@pytest.mark.parametrize("make", [optim.adam, optim.radam])
def test_moments_and_steps_keep_the_dtype_of_each_leaf(make):
    """Each leaf of a mixed tree moves as it would alone, in its own precision."""
    params = {
        name: torch.linspace(-1.0, 1.0, 4, dtype=torch.float64).to(dtype)
        for name, dtype in {"double": torch.float64, "single": torch.float32}.items()
    }
    optimizer = make(0.1)
    together, alone = optimizer.init(params), {n: optimizer.init(p) for n, p in params.items()}
    for _ in range(7):
        updates, together = optimizer.update(params, together, params)
        for name, p in params.items():
            own, alone[name] = optimizer.update(p, alone[name], p)
            assert updates[name].dtype == p.dtype
            assert torch.equal(updates[name], own)


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
def test_polyak_moves_from_target_to_online(tau):
    moved = optim.polyak({"w": torch.zeros(2)}, {"w": torch.ones(2)}, tau)
    assert torch.allclose(moved["w"], torch.full((2,), tau))
