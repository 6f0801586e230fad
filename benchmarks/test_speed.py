"""Speed of each part, and of a whole training iteration, at config P's sizes.

    pytest benchmarks/test_speed.py --benchmark-columns=median,iqr

Compile time is not in any figure; `startup.py` measures it. Rates are in `extra_info`.
"""

import pytest
import torch

from funcrl import envs
from funcrl.algos import ppo
from funcrl.core import jit, random, tree
from funcrl.nets import convolution
from funcrl.train import Run

CONFIG = ppo.Config()
LANES = [1, 16, 128]


def keys(num_lanes, device):
    return torch.stack([random.key(seed, device) for seed in range(num_lanes)])


@pytest.mark.benchmark(group="keys")
def test_uniform_numbers(measure, device):
    key = random.key(0, device)
    out = torch.empty(131_072, device=device)
    draw = jit.jit(lambda out, key: random.uniform(key, (131_072,)), donate=(0,)).bind(out, key)
    measure(draw, rounds=200, numbers=131_072)


@pytest.mark.benchmark(group="keys")
def test_uniform_numbers_of_torch(measure, device):
    measure(lambda: torch.rand(131_072, device=device), rounds=200, numbers=131_072)


def agents(num_lanes, device):
    init = lambda key: ppo.init(key, CONFIG, envs.make("CartPole-v1"))
    return tree.map(torch.clone, torch.vmap(init)(keys(num_lanes, device)))


def window(num_lanes, device):
    run = Run(ppo, envs.make("CartPole-v1"), CONFIG, range(num_lanes), device, backend="eager")
    run.iterate()
    return run.agent, run.collector.window.transition


@pytest.mark.benchmark(group="prepare")
@pytest.mark.parametrize("num_lanes", LANES)
def test_prepare(measure, device, num_lanes):
    agent, rows = window(num_lanes, device)
    prepare = jit.jit(torch.vmap(ppo.prepare, in_dims=(0, 1))).bind(agent, rows)
    measure(prepare, rounds=100, steps=512 * num_lanes)


@pytest.mark.benchmark(group="update")
@pytest.mark.parametrize("num_lanes", LANES)
def test_update(measure, device, num_lanes):
    agent, rows = window(num_lanes, device)
    data = torch.vmap(ppo.prepare, in_dims=(0, 1))(agent, rows)
    batch = tree.map(lambda x: x[:, :128].contiguous(), data)
    agent = tree.map(lambda x: torch.clone(x, memory_format=torch.contiguous_format), agent)
    update = jit.jit(torch.vmap(ppo.update), donate=(0,)).bind(agent, batch)
    measure(update, rounds=100, updates=num_lanes)


@pytest.mark.benchmark(group="training iteration")
@pytest.mark.parametrize("num_lanes", LANES)
def test_iteration(measure, device, num_lanes):
    """512 environment steps and 16 updates a lane: steps/s with learning included."""
    run = Run(ppo, envs.make("CartPole-v1"), CONFIG, range(num_lanes), device)
    measure(run.iterate, rounds=100 if num_lanes < 128 else 20, steps=512 * num_lanes)
    assert run.num_graphs == 4


@pytest.mark.benchmark(group="convolutions of 16 lanes")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["unfold and matmul", "grouped convolution"])
def test_convolutions(measure, device, kind, stride):
    """Two layers on 128 images of 8 x 8 pixels a lane, forwards and backwards; vmap groups `conv2d` by lane."""
    k_images, k_first, k_second = random.split(random.key(0, device), 3)
    images = random.normal(k_images, (16, 128, 3, 8, 8))
    weights = random.normal(k_first, (16, 32, 3, 3, 3)), random.normal(k_second, (16, 32, 32, 3, 3))

    def loss(weights, images):
        zero, x = torch.zeros(32, device=device), images
        if kind == "unfold and matmul":
            x = x.movedim(-3, -1)
            for weight in weights:
                x = torch.relu(convolution.convolution(x, weight, zero, stride))
        else:
            for weight in weights:
                x = torch.relu(torch.nn.functional.conv2d(x, weight, zero, stride, padding=1))
        return x.square().mean()

    gradient = jit.jit(torch.vmap(torch.func.grad(loss))).bind(weights, images)
    measure(gradient, rounds=50, images=16 * 128)
