"""The off-policy loop with actors: updates in parts, noise that goes on, what is learnt of probes."""

import math

import pytest
import torch
from gymnasium import spaces

from funcrl import envs
from funcrl.algos import REGISTRY, td3
from funcrl.algos.off_policy_actor_critic import agent
from funcrl.buffers import uniform
from funcrl.core import random, tree
from funcrl.train import Run, acting, evaluate, train
from funcrl.train.collect import act_and_step
from tests.probes import LINE, Aim, Truncating

PENDULUM = envs.make("Pendulum-v1")
SMALL = {
    "num_envs": 2,
    "window_length": 4,
    "warmup_steps": 16,
    "buffer_size": 64,
    "batch_size": 8,
    "hidden": (8,),
    "updates_per_window": 3,
    "learning_rate": 1e-2,
}
NOISE = {"noise": "ornstein_uhlenbeck", "exploration_noise": 0.3}
NAMES = ("ddpg", "td3", "sac", "tqc")


def small(name, seeds=(0, 1), env=PENDULUM, backend="aot_eager", num_cycles=3, **settings):
    config = REGISTRY[name].Config(**SMALL | settings)
    return Run(REGISTRY[name], env, config, seeds, backend=backend, num_cycles=num_cycles)


def same(a, b):
    return all(
        torch.equal(x.nan_to_num(), y.nan_to_num())
        for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True)
    )


@pytest.mark.parametrize("delay", [2, 5])
def test_a_run_in_parts_is_whole_updates_by_hand(delay):
    """Rounds of three updates, so that the actor's are others in each; one lane is repeated from the same keys."""
    run = small("td3", [11], backend="eager", policy_delay=delay, **NOISE)
    config = run.config
    state, running, k_collect, k_learn = tree.index(
        (run.carry.agent, run.carry.envs, run.carry.collect_key, run.carry.learn_key), 0
    )
    buffer = tree.index(run.carry.memory.buffer, 0)
    policy = acting.learning(td3)
    carry = policy.initial_carries(state, 2)
    for cycle in range(6):
        rows = []
        for key in random.split(random.fold_in(k_collect, cycle), config.window_length):
            running, carry, row = act_and_step(policy, PENDULUM, state, running, carry, key)
            rows.append(tree.replace(row.transition, extras={}))
        buffer = uniform.add(buffer, tree.stack(rows))
        state = tree.replace(state, env_steps=state.env_steps + 8)
        for _ in range(config.updates_per_window if (cycle + 1) * 8 >= 16 else 0):
            key = random.fold_in(k_learn, state.step)
            batch = uniform.sample(buffer, key, config.batch_size, state.config.gamma, config.n_step)
            state = td3.update(state, batch)
    for _ in range(2):
        run.iterate()
    assert int(state.step) == 15
    for name, leaf in tree.named_leaves(state).items():
        assert torch.allclose(tree.named_leaves(run.agent)[name][0], leaf, atol=1e-5), name


@pytest.mark.unrolled
@pytest.mark.parametrize(("name", "count"), [("td3", 5), ("sac", 4)])
def test_so_many_programs_and_no_more_do_what_eager_functions_do(name, count):
    eager, compiled = (small(name, backend=backend) for backend in ("eager", "aot_eager"))
    for _ in range(3):
        report = eager.iterate()
        compiled.iterate()
    assert report.metrics["actor_loss"].isfinite().all()
    for x, y in zip(tree.leaves(eager.agent.params), tree.leaves(compiled.agent.params), strict=True):
        assert torch.allclose(x, y, atol=1e-4)
    assert compiled.num_graphs == count
    compiled.restart([7, 8])
    compiled.iterate()
    assert compiled.num_graphs == count


def test_noise_and_parts_go_on_from_a_carry_with_the_same_bits():
    # So few cycles take less time than recording them would.
    whole, other = (small("td3", seeds, backend="eager", num_cycles=1, **NOISE) for seeds in ([0, 1], [8, 9]))
    for _ in range(3):
        whole.iterate()
    carry = whole.carry
    expected = [whole.iterate() for _ in range(3)]
    other.restore(carry)
    assert same([other.iterate() for _ in range(3)], expected)


def test_lanes_do_not_know_of_each_other():
    together, alone = (small("td3", seeds, backend="eager", **NOISE) for seeds in ([0, 1, 2], [2]))
    for _ in range(2):
        together.iterate()
        alone.iterate()
    assert same(tree.index(alone.agent.params, 0), tree.index(together.agent.params, 2))


TQC = {"num_critics": 2, "num_quantiles": 2, "num_dropped": 1}
# Many environments and few, large updates: they need not be recorded to be fast.
QUICK = {
    "num_envs": 128,
    "window_length": 1,
    "warmup_steps": 512,
    "buffer_size": 4096,
    "batch_size": 128,
    "updates_per_window": 10,
    "anneal_steps": 0.0,
}


def learn(name, env, num_windows, backend="eager", **settings):
    config = REGISTRY[name].Config(**SMALL | QUICK | (TQC if name == "tqc" else {}) | settings)
    num_steps = num_windows * config.num_envs * config.window_length
    return train(name, env, config=config, seeds=[0, 1], num_steps=num_steps, backend=backend)


def test_sac_finds_the_best_actions_whatever_the_bounds():
    result = learn("sac", Aim(), 10, hidden=(32,), learning_rate=0.06, tau=1.0)
    assert evaluate("sac", Aim(), result.states, num_episodes=20, backend="eager").mean() > -0.03


def test_ddpg_finds_the_best_actions_whatever_the_bounds():
    """Without entropy it has to go slowly."""
    slow = {"num_envs": 2, "window_length": 4, "warmup_steps": 100, "batch_size": 32, "updates_per_window": 4}
    slow |= {"anneal_steps": math.inf, "hidden": (32,), "tau": 0.1}
    result = learn("ddpg", Aim(), 75, "aot_eager", **slow)
    assert evaluate("ddpg", Aim(), result.states, num_episodes=20, backend="eager").mean() > -0.03


@tree.struct
class Cut(Truncating):
    """With real actions that change nothing."""

    action_space = spaces.Box(-1.0, 1.0, (1,))


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_episode_bootstraps(name):
    soft = {"temperature": 1e-3, "learn_temperature": False} if name in ("sac", "tqc") else {}
    settings = {"gamma": 0.5, "hidden": (16,), "learning_rate": 0.15, "tau": 0.3}
    # Any action is tried: noise of the size of the bounds, where there is such a thing.
    settings |= soft or {"exploration_noise": 1.0}
    states = learn(name, Cut(), 11, **settings).states
    obs = torch.ones(5, 1)
    unit = torch.linspace(-1, 1, 5).unsqueeze(-1)
    q = torch.vmap(lambda s: agent.critics(s, s.params["critics"], obs, unit))(states)
    assert torch.allclose(q, torch.full_like(q, 2.0), atol=0.1)  # 1 / (1 - γ), and 1 + γ if it did not
    assert Cut.observation_space == LINE


def test_environments_on_the_host_run_with_the_same_code_and_noise_begins_anew_with_episodes():
    # Windows as long as episodes: each begins with a step that none was before.
    env = envs.from_gymnasium("Pendulum-v1", max_episode_steps=4)
    run = small("ddpg", env=env, warmup_steps=0, **NOISE)
    try:
        for _ in range(3):
            report = run.iterate()
    finally:
        run.close()
    assert run.num_graphs == 3
    assert report.metrics["actor_loss"].isfinite().all()
    noise = run.collector.window.transition.extras["carry"]
    assert noise.shape == (4, 2, 2, 1)
    assert (noise[0] == 0).all()
    assert (noise[1:] != 0).all()
    assert run.carry.memory.buffer.data.extras == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["td3", "sac"])
def test_a_gpu_learns_what_a_cpu_learns(name):
    config = REGISTRY[name].Config(**SMALL)
    gpu = Run(REGISTRY[name], PENDULUM, config, range(4), device="cuda", num_cycles=3)
    cpu = small(name, range(4), backend="eager")
    for _ in range(3):
        a, b = gpu.iterate(), cpu.iterate()
    for figure in ("critic_loss", "actor_loss"):
        assert torch.allclose(a.metrics[figure].cpu(), b.metrics[figure], atol=1e-3, rtol=1e-2)
