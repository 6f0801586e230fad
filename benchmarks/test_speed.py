"""Speed of each part, and of a whole training iteration, at the sizes of the defaults.

    pytest benchmarks/test_speed.py --benchmark-columns=median,iqr

Compile time is not in any figure; `startup.py` measures it. Rates are in `extra_info`.
"""

import pytest
import torch
from replayed import agents_and_rows

from funcrl import envs
from funcrl.algos import REGISTRY, a2c, actor_critic, impala, ppo, reinforce
from funcrl.core import jit, random, tree
from funcrl.nets import convolution
from funcrl.train import Run
from funcrl.train.on_policy import minibatches
from funcrl.train.online import act_and_learn, cycles_per_iteration

AGENTS = {
    "ppo": (ppo, ppo.Config()),
    "ppo, gru": (ppo, ppo.Config(recurrent_cell="gru")),
    "ppo, lstm": (ppo, ppo.Config(recurrent_cell="lstm")),
    "a2c": (a2c, a2c.Config()),
    "a2c, gru": (a2c, a2c.Config(recurrent_cell="gru")),
    "reinforce": (reinforce, reinforce.Config()),
    "actor_critic": (actor_critic, actor_critic.Config()),
    "impala": (impala, impala.Config()),
}
"""by name, an algorithm and settings, the defaults but for a memory; of `ppo` they are config P"""
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


def begun(name, num_lanes, device):
    """A run of one iteration, as users write it."""
    algorithm, config = AGENTS[name]
    run = Run(algorithm, envs.make("CartPole-v1"), config, range(num_lanes), device, backend="eager")
    run.iterate()
    return algorithm, config, run


def batch(algorithm, config, run, device):
    """What each lane takes its first gradient step on, `[S, ...]`."""
    carry, num_lanes = run.carry, run.agent.step.shape[0]
    if algorithm.LOOP == "online":
        step = lambda *lane: act_and_learn(algorithm, run.env, *lane)[-1]
        return torch.vmap(step)(carry.agent, (carry.envs, carry.remembered), keys(num_lanes, device))
    cut = lambda *lane: minibatches(algorithm, *lane)[0]
    cut = torch.vmap(cut, in_dims=(0, 1, 0, 0), out_dims=1)
    batches = cut(carry.agent, run.collector.window, carry.learn_key, carry.iteration)
    return tree.map(torch.Tensor.contiguous, tree.index(batches, 0))


@pytest.mark.benchmark(group="prepare")
@pytest.mark.parametrize("num_lanes", LANES)
def test_prepare(measure, device, num_lanes):
    _, _, run = begun("ppo", num_lanes, device)
    read = run.agent, run.collector.window.transition
    prepare = jit.jit(torch.vmap(ppo.prepare, in_dims=(0, 1))).bind(*read)
    measure(prepare, rounds=100, steps=512 * num_lanes)


@pytest.mark.benchmark(group="update")
@pytest.mark.parametrize("num_lanes", LANES)
@pytest.mark.parametrize("name", AGENTS)
def test_update(measure, device, name, num_lanes):
    algorithm, config, run = begun(name, num_lanes, device)
    agent = tree.map(lambda x: torch.clone(x, memory_format=torch.contiguous_format), run.agent)
    rows = batch(algorithm, config, run, device)
    update = jit.jit(torch.vmap(algorithm.update), donate=(0,)).bind(agent, rows)
    measure(update, rounds=100, updates=num_lanes)


@pytest.mark.benchmark(group="training iteration")
@pytest.mark.parametrize("num_lanes", LANES)
@pytest.mark.parametrize("name", AGENTS)
def test_iteration(measure, device, name, num_lanes):
    """A window and all updates on it (online, 100 steps of a lane with their updates): steps/s with learning included."""
    algorithm, config = AGENTS[name]
    cycles = cycles_per_iteration(config, 100) if algorithm.LOOP == "online" else 1
    run = Run(algorithm, envs.make("CartPole-v1"), config, range(num_lanes), device, num_cycles=cycles)
    measure(run.iterate, rounds=100 if num_lanes < 128 else 20, steps=run.steps_per_iteration * num_lanes)
    assert run.num_graphs == (2 if algorithm.LOOP == "online" else 4)


ACTOR_CRITICS = ("ddpg", "td3", "sac", "tqc", "discrete_sac")


@pytest.mark.benchmark(group="update of an off-policy actor-critic")
@pytest.mark.parametrize("backend", ["inductor", "eager"])
@pytest.mark.parametrize("num_lanes", [1, 16, 64])
@pytest.mark.parametrize("name", ACTOR_CRITICS)
def test_replay_update(measure, device, name, num_lanes, backend):
    """One gradient step of all networks on 256 rows, 64 x 64 hidden: of TD3 one that moves the actor."""
    agents, rows = agents_and_rows(name, num_lanes, device)
    update = jit.jit(torch.vmap(REGISTRY[name].update), donate=(0,), backend=backend).bind(agents, rows)
    measure(update, rounds=50, updates=num_lanes)


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
