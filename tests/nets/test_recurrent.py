"""Recurrent cells against torch's own, and what they hold to on their own."""

import warnings

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from funcrl import nets
from funcrl.core import random, tree
from funcrl.nets.recurrent import CELLS

KINDS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
cells = pytest.mark.parametrize("name", CELLS)


def made(name, size=5, inputs=3, seed=0):
    """A cell, parameters, and torch's with the same ones, float64."""
    cell = CELLS[name](inputs, size)
    params = tree.map(torch.Tensor.double, nets.init(cell, random.key(seed)))
    params |= {
        k: 0.3 * random.normal(random.key(9), v.shape).double() for k, v in params.items() if "bias" in k
    }
    theirs = KINDS[name](inputs, size, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict({f"{key}_l0": value for key, value in params.items()})
    return cell, params, theirs


def draws(seed, *shapes):
    return [
        random.normal(k, shape).double()
        for k, shape in zip(random.split(random.key(seed), len(shapes)), shapes, strict=True)
    ]


def carries(name, seed, batch, size=5):
    return tuple(draws(seed, *[(batch, size)] * CELLS[name].num_carries))


@cells
@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 6))
def test_a_sequence_and_its_gradient_are_torchs(name, seed, batch, length):
    cell, params, theirs = made(name)
    (x,), carry = draws(seed, (batch, length, 3)), carries(name, seed + 1, batch)
    weight = draws(seed + 2, (batch, length, 5))[0]
    none = torch.zeros(batch, length, dtype=torch.bool)

    def loss(params, x, carry):
        after = nets.apply(cell, params, x, carry, none)
        return (after[0] * weight).sum() + after[-1][:, -1].sum(), after

    (grads, grad_x, grad_carry), after = torch.func.grad(loss, (0, 1, 2), has_aux=True)(params, x, carry)
    inputs = [value.clone().requires_grad_() for value in (x, *carry)]
    start = tuple(value.unsqueeze(0) for value in inputs[1:])
    outputs, end = theirs(inputs[0], start if name == "lstm" else start[0])
    last = end[1][0] if name == "lstm" else end[0]
    ((outputs * weight).sum() + last.sum()).backward()
    assert torch.allclose(after[0], outputs)
    assert torch.allclose(after[-1][:, -1], last)
    for found, value in zip((grad_x, *grad_carry), inputs, strict=True):
        assert torch.allclose(found, value.grad)
    for key, value in theirs.named_parameters():
        assert torch.allclose(grads[key.removesuffix("_l0")], value.grad), key


@cells
def test_an_episode_that_begins_within_a_sequence_knows_nothing_of_the_one_before(name):
    cell, params, _ = made(name)
    (x,), carry = draws(3, (2, 6, 3)), carries(name, 4, 2)
    begins = torch.zeros(2, 6, dtype=torch.bool)
    begins[0, 4] = True
    after = nets.apply(cell, params, x, carry, begins)
    nothing = tree.map(lambda each: torch.zeros_like(each[:1]), carry)
    alone = nets.apply(cell, params, x[:1, 4:], nothing, begins[:1, :2])
    whole = nets.apply(cell, params, x, carry, torch.zeros_like(begins))
    for cut, own, uncut in zip(after, alone, whole, strict=True):
        assert torch.equal(cut[0, 4:], own[0])
        assert torch.equal(cut[0, :4], uncut[0, :4])
        assert torch.equal(cut[1], uncut[1])
        assert not torch.allclose(cut[0, 4:], uncut[0, 4:])

    def last(carry):
        return nets.apply(cell, params, x, carry, begins)[0][:, -1].sum(1)

    for row in torch.func.jacrev(last)(carry):
        assert bool((row[0, 0] == 0).all())
        assert bool((row[1, 1] != 0).any())


@cells
def test_parameters_are_orthogonal_and_biases_zero(name):
    cell = CELLS[name](4, 4)
    params = nets.init(cell, random.key(1))
    for key in ("weight_ih", "weight_hh"):
        assert torch.allclose(params[key].T @ params[key], torch.eye(4), atol=1e-5)
    assert not params["bias_ih"].any()
    assert not params["bias_hh"].any()
    assert not torch.equal(params["weight_ih"], params["weight_hh"])


BOXES = {
    "vector": spaces.Box(-1, 1, (3,), np.float32),
    "image": spaces.Box(0, 255, (8, 8, 2), np.uint8),
    "dict": spaces.Dict(place=spaces.Discrete(3), speed=spaces.Box(-1, 1, (2,))),
}


@cells
@pytest.mark.parametrize("kind", BOXES)
def test_one_step_after_the_other_is_a_sequence(name, kind):
    space = BOXES[kind]
    network = nets.recurrent(space, name, 6, (4,), 2, "tanh")
    assert network is nets.recurrent(space, name, 6, (4,), 2, "tanh")
    params = nets.init(network, random.key(0))
    obs = tree.map(
        lambda x: (5 * random.uniform(random.key(2), x.shape)).to(x.dtype) % 3,
        nets.inputs.example(space, (2, 4)),
    )
    first = tree.map(lambda x: x.expand(2, -1), network.initial_carry(torch.device("cpu")))
    whole = nets.apply(network, params, obs, first, torch.zeros(2, 4, dtype=torch.bool))
    carry = first
    for step in range(4):
        carry = nets.apply(network, params, tree.map(lambda x, i=step: x[:, i], obs), carry)
        for now, row in zip(carry, whole, strict=True):
            assert now.shape == (2, 6)
            assert torch.allclose(now, row[:, step], atol=1e-6)
    one = tree.map(lambda x: x[0, 0], obs)
    alone = nets.apply(network, params, one, network.initial_carry(torch.device("cpu")))
    assert torch.allclose(alone[0], whole[0][0, 0], atol=1e-6)


@cells
def test_lanes_are_independent_and_nothing_falls_back_to_a_loop(name):
    cell = CELLS[name](3, 4)
    params = tree.stack([nets.init(cell, random.key(seed)) for seed in range(3)])
    x = random.normal(random.key(5), (3, 2, 5, 3))
    carry = tuple(random.normal(random.key(6 + i), (3, 2, 4)) for i in range(cell.num_carries))
    begins = random.bernoulli(random.key(8), 0.3, (3, 2, 5))
    run = lambda params, x, carry, begins: nets.apply(cell, params, x, carry, begins)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = torch.vmap(run)(params, x, carry, begins)
    for lane in range(3):
        alone = run(*tree.index((params, x, carry, begins), lane))
        for one, other in zip(tree.index(together, lane), alone, strict=True):
            assert torch.allclose(one, other, atol=1e-6)


def test_what_cannot_be_is_refused():
    network = nets.recurrent(BOXES["vector"], "lstm", 6, (), 1, "tanh")
    params, obs = nets.init(network, random.key(0)), torch.zeros(2, 3)
    fine = torch.zeros(2, 6)
    for carry in ((), fine, (fine,), (fine, fine[:1]), (fine, torch.zeros(2, 5))):
        with pytest.raises(
            ValueError, match=r"remember: carry must hold \(2, 6\) and \(2, 6\).*initial_carry"
        ):
            nets.apply(network, params, obs, carry)
    with pytest.raises(
        ValueError, match=r"nets\.recurrent: cell must be one of 'gru', 'lstm', 'rnn', got 'gruu'"
    ):
        nets.recurrent(BOXES["vector"], "gruu", 6, (), 1, "tanh")
