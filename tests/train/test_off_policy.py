"""The off-policy loop: when it learns and from what, that lanes do not know of each other, how often it compiles."""

import threading

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv

from funcrl import envs, nets
from funcrl.algos import dqn, td3
from funcrl.buffers import uniform
from funcrl.core import Transition, jit, random, tree
from funcrl.envs.host_checks import HostError
from funcrl.envs.host_vector import HostVector
from funcrl.train import Run, acting, evaluate, make_plan, off_policy, train
from funcrl.train.collect import act_and_step
from tests.probes import Choice, Counter, Delayed, Truncating

CARTPOLE = envs.make("CartPole-v1")
SMALL = {
    "num_envs": 2,
    "window_length": 4,
    "warmup_steps": 16,
    "buffer_size": 64,
    "batch_size": 8,
    "hidden": (8,),
    "target_period": 3,
    "updates_per_window": 2,
    "learning_rate": 1e-2,
}


def small(seeds=(0, 1), env=CARTPOLE, backend="aot_eager", num_cycles=3, **settings):
    return Run(dqn, env, dqn.Config(**SMALL | settings), seeds, backend=backend, num_cycles=num_cycles)


def same(a, b):
    return all(
        torch.equal(x.nan_to_num(), y.nan_to_num())
        for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True)
    )


def test_it_learns_as_often_as_the_settings_say_once_it_is_warm():
    run = small(backend="eager", warmup_steps=17, env=Counter(end=3))
    reports = [run.iterate() for _ in range(2)]
    # Windows of 8 steps: the third is the first that makes 17 of them full, and three are an iteration.
    assert run.steps_per_iteration == 24
    assert run.agent.env_steps.tolist() == [48, 48]
    assert run.agent.step.tolist() == [2 * 4, 2 * 4]
    assert [report.episodes.tolist() for report in reports] == [[8.0] * 2] * 2
    assert [report.returns.tolist() for report in reports] == [[3.0] * 2] * 2
    assert run.carry.iteration.tolist() == [2, 2]


def test_without_warm_up_it_learns_from_the_first_window_that_is_long_enough():
    run = small(backend="eager", warmup_steps=0, n_step=5, num_cycles=1)
    learnt = []
    for _ in range(3):
        run.iterate()
        learnt.append(int(run.agent.step[0]))
    assert learnt == [0, 2, 4]


def test_a_run_is_collecting_adding_and_learning_by_hand():
    """One lane is repeated step by step with the functions of algorithm and buffer, from the same keys."""
    run = small([11], backend="eager")
    config = run.config
    agent, running, k_collect, k_learn = tree.index(
        (run.carry.agent, run.carry.envs, run.carry.collect_key, run.carry.learn_key), 0
    )
    buffer = tree.index(run.carry.memory.buffer, 0)
    for cycle in range(6):
        rows = []
        for key in random.split(random.fold_in(k_collect, cycle), config.window_length):
            running, _, row = act_and_step(acting.learning(dqn), CARTPOLE, agent, running, (), key)
            rows.append(row.transition)
        buffer = uniform.add(buffer, tree.stack(rows))
        agent = tree.replace(agent, env_steps=agent.env_steps + 8)
        for _ in range(config.updates_per_window if (cycle + 1) * 8 >= 16 else 0):
            key = random.fold_in(k_learn, agent.step)
            batch = uniform.sample(buffer, key, config.batch_size, agent.config.gamma, config.n_step)
            agent = dqn.update(agent, batch)
    before = run.agent.params
    for _ in range(2):
        run.iterate()
    assert not same(before, run.agent.params)
    for name, leaf in tree.named_leaves(agent).items():
        assert torch.allclose(tree.named_leaves(run.agent)[name][0], leaf, atol=1e-5), name


@pytest.mark.unrolled
@pytest.mark.parametrize(
    ("backend", "replay"),
    [("aot_eager", "uniform"), pytest.param("inductor", "prioritised", marks=pytest.mark.compiled)],
)
def test_four_programs_and_no_more_do_what_eager_functions_do(backend, replay):
    before = jit.stats().num_graphs
    settings = {"replay": replay, "n_step": 3}
    if backend == "inductor":
        # Each level of a ring's tree of priorities is the same code again; hidden layers and CartPole are
        # compiled by tests of on-policy training.
        settings |= {"buffer_size": 16, "hidden": (), "env": Counter(end=5)}
    eager, compiled = (small(backend=name, **settings) for name in ("eager", backend))
    for _ in range(2):
        a, b = eager.iterate(), compiled.iterate()
        assert torch.allclose(a.metrics["loss"], b.metrics["loss"], atol=1e-4, equal_nan=True)
    assert a.metrics["loss"].isfinite().all()
    assert same(eager.carry.memory.cycle, compiled.carry.memory.cycle)
    for a, b in zip(tree.leaves(eager.agent.params), tree.leaves(compiled.agent.params), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    compiled.restart([7, 8])
    compiled.iterate()
    assert compiled.num_graphs == 4
    assert jit.stats().num_graphs - before == 8


def test_lanes_do_not_know_of_each_other():
    together, alone = (small(seeds, backend="eager", replay="prioritised") for seeds in ([0, 1, 2], [2]))
    for _ in range(2):
        together.iterate()
        alone.iterate()
    assert same(tree.index(alone.agent.params, 0), tree.index(together.agent.params, 2))


@pytest.mark.parametrize(("algorithm", "env"), [(dqn, "CartPole-v1"), (td3, "Pendulum-v1")])
def test_large_agents_learn_two_after_two_and_the_same(algorithm, env, monkeypatch):
    settings = SMALL | {"replay": "prioritised"}
    config = algorithm.Config(**{n: x for n, x in settings.items() if hasattr(algorithm.Config, n)})
    bound = []
    monkeypatch.setattr(
        jit.Jit, "bind", lambda *given, bind=jit.Jit.bind: bound.append(given) or bind(*given)
    )

    def run(seeds, bytes_of_a_large_one):
        monkeypatch.setattr(off_policy, "LARGE_AGENT", bytes_of_a_large_one)
        bound.clear()
        made = Run(algorithm, envs.make(env), config, seeds, backend="eager", num_cycles=4)
        made.iterate()  # three of its windows are learnt from
        return made.carry, len(bound)

    (together, once), (apart, more) = run(range(4), 2**20), run(range(4), 1)
    assert same(together, apart)
    assert int(together.agent.step.min()) > 0
    # Each program of an update twice.
    assert more == once + (2 if algorithm is td3 else 1)
    assert run(range(3), 1)[1] == once


def test_a_run_continues_from_its_carry_with_the_same_bits():
    settings = {"backend": "eager", "replay": "prioritised", "warmup_steps": 30, "num_cycles": 2}
    whole, other = (small(seeds, **settings) for seeds in ([0, 1], [8, 9]))
    for _ in range(2):
        whole.iterate()
    carry = whole.carry
    expected = [whole.iterate() for _ in range(2)]
    other.restore(carry)
    assert same([other.iterate() for _ in range(2)], expected)


def test_restart_begins_with_an_empty_buffer_and_warms_up_again():
    first, again = small(backend="eager"), small([5, 6], backend="eager")
    expected = [first.iterate() for _ in range(2)]
    again.iterate()
    again.restart([0, 1])
    assert same([again.iterate() for _ in range(2)], expected)


def test_train_fills_in_the_lengths_of_schedules_and_counts_steps():
    plan = make_plan("dqn", CARTPOLE, seeds=[0, 1], num_steps=100_500)
    assert (plan.num_iterations, plan.steps_per_iteration) == (100, 1000)
    # Whole iterations are what reports are made of, not what a run of another length has to lose.
    odd = make_plan("dqn", "CartPole-v1", config=dqn.Config(warmup_steps=100), num_steps=1999)
    assert (odd.num_iterations, odd.num_steps) == (1, 1990)
    assert plan.config.exploration_steps == 50_000
    assert plan.config.anneal_steps == float("inf")
    config = dqn.Config(exploration_steps=[0.0, 7.0])
    given = make_plan("dqn", CARTPOLE, config=config, seeds=[0, 1], num_steps=20_000).config
    assert given.exploration_steps.tolist() == [10_000.0, 7.0]


def test_a_run_that_would_end_before_it_learns_is_refused():
    with pytest.raises(
        ValueError, match=r"warmup_steps .*leave something to learn in of a run's 900 steps, got 1000"
    ):
        make_plan("dqn", CARTPOLE, config=dqn.Config(warmup_steps=1000), seeds=[0], num_steps=900)
    late = dqn.Config(warmup_steps=0, n_step=500, num_envs=2, window_length=5)
    with pytest.raises(ValueError, match="got 1000"):
        make_plan("dqn", CARTPOLE, config=late, seeds=[0], num_steps=900)


def test_a_buffer_that_does_not_fit_is_refused_by_a_run_of_its_own():
    with pytest.raises(ValueError, match=r"Run: buffer_size must fit in memory .* for 2 lanes.*Lower"):
        small(backend="eager", buffer_size=10**12)


@tree.struct
class Growing(Counter):
    """Shows the number of steps times fifty, which is soon too much for a byte."""

    end: int = tree.static(default=9)

    def observation(self, state, key):
        return state.reshape(1) * 50


def test_what_the_storage_cannot_hold_is_found_whenever_it_comes():
    run = small(env=Growing(), backend="eager", storage="uint8", window_length=2, num_cycles=1)
    run.iterate()
    run.iterate()
    assert run.carry.memory.buffer.data.obs.dtype == torch.uint8
    with pytest.raises(ValueError, match=r"storage must hold next_obs: .* whole numbers from 0 to 255"):
        run.iterate()


def probe(env, num_windows=9, **settings):
    """Many environments and few, large updates: they need not be recorded to be fast."""
    quick = {"gamma": 0.5, "num_envs": 64, "warmup_steps": 256, "buffer_size": 4096, "batch_size": 64}
    quick |= {"updates_per_window": 8, "hidden": (16,), "learning_rate": 0.1, "anneal_steps": 0.0}
    config = dqn.Config(**SMALL | quick | settings)
    return train("dqn", env, config=config, seeds=[0, 1], num_steps=256 * num_windows, backend="eager")


def values(result, observations):
    obs = torch.tensor(observations).reshape(1, -1, 1).expand(2, -1, -1)
    states = result.states
    return torch.vmap(lambda params, obs: nets.apply(states.network, params, obs))(states.params, obs)


def test_a_truncated_episode_bootstraps():
    q = values(probe(Truncating()), [1.0])
    assert torch.allclose(q, torch.full_like(q, 2.0), atol=0.1)  # 1 / (1 - γ), and 1 + γ if it did not


def test_a_terminated_episode_does_not():
    q = values(probe(Delayed(), n_step=3), [0.0, 1.0])
    expected = torch.tensor([[0.5, 0.5], [1.0, 1.0]]).expand(2, 2, 2)
    assert torch.allclose(q, expected, atol=0.1)


@pytest.mark.parametrize("settings", [{}, {"replay": "prioritised", "exploration": "boltzmann"}])
def test_it_chooses_what_pays(settings):
    result = probe(Choice(), num_windows=5, **settings)
    assert evaluate("dqn", Choice(), result.states, num_episodes=20, backend="eager").mean() == 1.0


def test_environments_on_the_host_run_with_the_same_code():
    run = small(env=envs.from_gymnasium("CartPole-v1"), n_step=2)
    try:
        reports = [run.iterate() for _ in range(8)]
    finally:
        run.close()
    assert run.num_graphs == 3
    assert reports[-1].returns.isfinite().all()
    assert reports[-1].metrics["loss"].isfinite().all()
    assert run.agent.env_steps.tolist() == [192, 192]
    data = run.carry.memory.buffer.data
    assert data.obs.shape == (2, 32, 2, 4)
    # 96 rows have gone round the ring of 32 three times: it begins with its oldest row.
    follow = ~(data.terminated | data.truncated)[:, :-1]
    assert follow.any()
    assert torch.equal(data.next_obs[:, :-1][follow], data.obs[:, 1:][follow])


@pytest.mark.parametrize(("algorithm", "env"), [(dqn, "CartPole-v1"), (td3, "Pendulum-v1")])
def test_what_overlaps_learns_from_the_windows_before_by_hand(algorithm, env):
    """Of the three updates of a round the second is due while step 1 is taken, and so on."""
    settings = SMALL | {"updates_per_window": 3, "window_length": 2, "overlap": True}
    del settings["target_period"]
    world = envs.from_gymnasium(env)
    run = Run(algorithm, world, algorithm.Config(**settings), [11], backend="eager", num_cycles=8)
    config, policy = run.config, acting.learning(algorithm)
    agent, k_collect, k_learn = tree.index((run.carry.agent, run.carry.collect_key, run.carry.learn_key), 0)
    buffer = tree.index(run.carry.memory.buffer, 0)
    vector = HostVector(world, 1, 2)
    obs = vector.reset([11])
    try:
        for cycle in range(8):
            rows = []
            for step in range(2):
                key = random.fold_in(random.fold_in(k_collect, cycle), step)
                action, _ = policy.act(agent, obs, key, ())
                taken = vector.step(action)
                rows.append(
                    Transition(
                        obs, action, taken.reward, taken.terminated, taken.truncated, taken.next_obs, {}
                    )
                )
                obs = taken.obs
                for _ in range((1, 2)[step] if cycle * 4 >= 16 else 0):
                    key = random.fold_in(k_learn, agent.step)
                    batch = uniform.sample(buffer, key, config.batch_size, agent.config.gamma, config.n_step)
                    agent = algorithm.update(agent, batch)
            buffer = uniform.add(buffer, tree.stack(rows))
            agent = tree.replace(agent, env_steps=agent.env_steps + 4)
        run.iterate()
    finally:
        run.close()
        vector.close()
    assert run.agent.step.tolist() == [12]
    for name, leaf in tree.named_leaves(agent).items():
        assert torch.allclose(tree.named_leaves(run.agent)[name][0], leaf, atol=1e-5), name


class Meeting(gymnasium.Env):
    """Takes its second step no sooner than the agent has learnt from its first."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)
    learns, breaks = threading.Event(), False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 2:
            assert type(self).learns.wait(20)
            if type(self).breaks:
                raise OSError("the simulator is gone")
        return np.zeros(1, np.float32), 1.0, False, False, {}


def met(monkeypatch, breaks):
    """Return a run that overlaps, one step for one update, and whose learning the environment waits for."""
    monkeypatch.setattr(Meeting, "learns", threading.Event())
    monkeypatch.setattr(Meeting, "breaks", breaks)

    def update(agent, batch):
        Meeting.learns.set()
        return tree.replace(agent, step=agent.step + 1)

    monkeypatch.setattr(dqn, "update", update)
    settings = {
        "num_envs": 1,
        "window_length": 1,
        "updates_per_window": 1,
        "warmup_steps": 1,
        "batch_size": 1,
    }
    run = small([0], envs.from_gymnasium(Meeting), "eager", num_cycles=2, overlap=True, **settings)
    run.compile()  # which calls everything once
    Meeting.learns.clear()
    return run


def test_the_environment_steps_while_the_agent_learns(monkeypatch):
    run = met(monkeypatch, breaks=False)
    try:
        run.iterate()
    finally:
        run.close()
    assert run.agent.step.tolist() == [1]


def test_an_environment_that_fails_meanwhile_is_named(monkeypatch):
    run = met(monkeypatch, breaks=True)
    try:
        with pytest.raises(HostError, match="raised OSError: the simulator is gone"):
            run.iterate()
    finally:
        run.close()


def test_nothing_overlaps_on_the_device():
    with pytest.raises(
        ValueError, match=r"overlap must be False for an environment on the device.* Leave it out\."
    ):
        small(overlap=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("replay", ["uniform", "prioritised"])
def test_a_gpu_learns_from_replay_what_a_cpu_learns(replay):
    gpu = Run(dqn, CARTPOLE, dqn.Config(**SMALL, replay=replay), range(4), device="cuda", num_cycles=3)
    cpu = small(range(4), backend="eager", replay=replay)
    for _ in range(4):
        a, b = gpu.iterate(), cpu.iterate()
        assert torch.allclose(
            a.metrics["loss"].cpu(), b.metrics["loss"], atol=1e-3, rtol=1e-2, equal_nan=True
        )
    assert gpu.agent.step.tolist() == cpu.agent.step.tolist()


STACKED = envs.FrameStack(CARTPOLE, num_frames=3)


@pytest.mark.parametrize("replay", ["uniform", "prioritised"])
def test_frames_that_are_shared_teach_what_stacks_do(replay):
    settings = {"env": STACKED, "replay": replay, "n_step": 2, "buffer_size": 40}
    # The one that shares is recorded too, for one kind of replay.
    recorded = "aot_eager" if replay == "uniform" else "eager"
    plain = small(**settings, backend="eager", share_frames=False)
    shared = small(**settings, backend=recorded, share_frames=True)
    for _ in range(3):  # nearly twice round
        a, b = plain.iterate(), shared.iterate()
        assert torch.equal(a.metrics["loss"].nan_to_num(), b.metrics["loss"].nan_to_num())
    assert same(plain.agent.params, shared.agent.params)
    assert shared.num_graphs == 4
    stored = [sum(x.numel() for x in tree.leaves(run.carry.memory.buffer)) for run in (plain, shared)]
    assert stored[1] < stored[0]


def test_frames_are_shared_on_the_host_too():
    env = envs.from_gymnasium(lambda: gymnasium.wrappers.FrameStackObservation(CartPoleEnv(), 3))
    plain, shared = (small(env=env, backend="eager", share_frames=flag) for flag in (False, True))
    try:
        for _ in range(4):
            plain.iterate(), shared.iterate()
        assert same(plain.agent.params, shared.agent.params)
    finally:
        plain.close()
        shared.close()


class Zeros(gymnasium.wrappers.FrameStackObservation):
    """Begins with zeros, which is no copy of the first frame."""

    def __init__(self):
        super().__init__(CartPoleEnv(), 3, padding_type="zero")


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (CARTPOLE, "share_frames must be False where observations are no stacks of frames, got Box"),
        (envs.from_gymnasium(Zeros), "share_frames must be False where observations are not the last frames"),
    ],
)
def test_what_is_no_stack_of_frames_is_refused(env, message):
    settings = {k: v for k, v in SMALL.items() if hasattr(dqn.Config, k)} | {"share_frames": True}
    with pytest.raises(ValueError, match=message):
        train("dqn", env, config=dqn.Config(**settings), seeds=[0, 1], num_steps=400, backend="eager")
