"""Noisy parameters against the definition of the paper."""

import math

import pytest
import torch
from torch import nn

from funcrl import nets
from funcrl.core import random
from funcrl.nets import noisy

NETWORK = nets.mlp((3,), (5,), 2)


def parameters(scale=0.5):
    return noisy.widen(NETWORK, nets.init(NETWORK, random.key(0)), scale)


def draw(params, key):
    return noisy.perturb(params, noisy.noise(params, key))


def keys(num):
    return random.split(random.key(1), num)


def test_every_linear_layer_has_a_sigma_of_its_own_size():
    params = parameters()
    assert len(params) == 8
    for layer, inputs in (("layers.0", 3), ("layers.2", 5)):
        for name in ("weight", "bias"):
            sigma = params[f"{layer}.{name}.sigma"]
            assert sigma.shape == params[f"{layer}.{name}"].shape
            assert torch.allclose(sigma, torch.full_like(sigma, 0.5 / math.sqrt(inputs)))
    plain = nets.init(NETWORK, random.key(0))
    assert {name: x.tolist() for name, x in noisy.means(params).items()} == {
        name: x.tolist() for name, x in plain.items()
    }


def test_without_sigma_there_is_no_noise():
    drawn, plain = draw(parameters(0.0), random.key(3)), nets.init(NETWORK, random.key(0))
    assert all(torch.equal(drawn[name], plain[name]) for name in plain)
    assert drawn.keys() == plain.keys()


def test_the_noise_of_a_layer_is_a_product_of_its_inputs_and_outputs():
    """ε^w_ij = f(ε_i) f(ε_j): of rank one, and ε^b_j = f(ε_j): in proportion to each of its columns."""
    params, drawn = parameters(), draw(parameters(), random.key(3))
    for layer in ("layers.0", "layers.2"):
        noise = {
            name: (drawn[f"{layer}.{name}"] - params[f"{layer}.{name}"]) / params[f"{layer}.{name}.sigma"]
            for name in ("weight", "bias")
        }
        inputs = noise["weight"] / noise["bias"].unsqueeze(1)
        assert torch.allclose(inputs, inputs[:1].expand_as(inputs), rtol=1e-3, atol=1e-4)
        assert (inputs[0] ** 2).max() > 0  # f(ε_i)² = |ε_i|


def test_the_noise_has_the_moments_of_the_paper():
    """f(ε) = sgn(ε) √|ε| has mean 0 and variance E|ε| = √(2/π), and a weight's noise the square of that."""
    params = parameters()
    drawn = torch.vmap(lambda key: draw(params, key))(keys(20_000))
    share = math.sqrt(2 / math.pi)
    for name, variance in (("layers.0.weight", share**2), ("layers.2.bias", share)):
        noise = (drawn[name] - params[name]) / params[name + ".sigma"]
        assert noise.mean(0).abs().max() < 0.03
        assert (noise.var(0) - variance).abs().max() < 0.05
        # f(ε)⁴ = ε², so the fourth moment of a bias's noise is 1, and that of a weight's too.
        assert ((noise**4).mean(0) - 1.0).abs().max() < 0.2


def test_layers_and_keys_have_noises_of_their_own():
    params = parameters()
    drawn = torch.vmap(lambda key: draw(params, key))(keys(5000))
    first = drawn["layers.0.bias"] - params["layers.0.bias"]
    second = drawn["layers.2.bias"] - params["layers.2.bias"]
    together = torch.corrcoef(torch.cat([first, second], dim=1).T)
    assert (together - torch.eye(7)).abs().max() < 0.06


def test_several_draws_at_once_are_different_ones():
    params = parameters()
    several = noisy.noise(params, random.key(3), (2000, 3))
    assert several.shape == (2000, 3, 3 + 5 + 5 + 2)
    assert (torch.corrcoef(several.flatten(1).T) - torch.eye(45)).abs().max() < 0.1


def test_the_noise_does_not_depend_on_the_order_of_the_names():
    params = parameters()
    turned = dict(reversed(params.items()))
    a, b = draw(params, random.key(3)), draw(turned, random.key(3))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_gradient_of_sigma_is_that_of_the_mean_times_the_noise():
    params = parameters()
    loss = lambda p: nets.apply(NETWORK, draw(p, random.key(3)), torch.ones(4, 3)).square().sum()
    gradient = torch.func.grad(loss)(params)
    drawn = draw(params, random.key(3))
    for name in noisy.means(params):
        noise = (drawn[name] - params[name]) / params[name + ".sigma"]
        assert torch.allclose(gradient[name + ".sigma"], gradient[name] * noise, rtol=1e-3, atol=1e-4)


def test_convolutions_stay_as_they_are_and_one_layer_may_be_without_bias():
    images = nets.cnn((1, 8, 8), (4,), (8,), 2)
    params = noisy.widen(images, nets.init(images, random.key(0)))
    assert {name for name in params if "convolutions" in name and name.endswith("sigma")} == set()
    drawn = draw(params, random.key(1))
    assert nets.apply(images, drawn, torch.ones(2, 1, 8, 8)).shape == (2, 2)
    bare = nn.Linear(2, 3, bias=False, device="meta")
    params = noisy.widen(bare, nets.init(bare, random.key(0)))
    assert list(draw(params, random.key(1))) == ["weight"]


def test_a_network_without_linear_layers_is_refused():
    network = nn.Conv2d(1, 2, 3, device="meta")
    with pytest.raises(ValueError, match=r"nets.noisy.widen: network must have a linear layer"):
        noisy.widen(network, nets.init(network, random.key(0)))
