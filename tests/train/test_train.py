"""Training many lanes: what comes out, and that lanes do not know of each other."""

import functools
import math
import types
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch

from funcrl import envs
from funcrl.algos import ppo
from funcrl.core import jit, random, tree
from funcrl.train import Progress, Run, collect, evaluate, on_policy, train
from tests.probes import Choice, Counter

UNROLLED = collect.MAX_UNROLL

SMALL = ppo.Config(num_envs=2, window_length=8, num_epochs=2, num_minibatches=2, hidden=(8,))


def small(seeds=range(3), iterations=4, **kwargs):
    kwargs = {"config": SMALL, "num_steps": 16 * iterations, "backend": "eager"} | kwargs
    return train("ppo", "CartPole-v1", seeds=seeds, **kwargs)


@functools.cache
def usual():
    """What several tests look at and none changes."""
    return small()


def same(a, b):
    return all(
        torch.equal(x.nan_to_num(), y.nan_to_num())
        for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True)
    )


def test_the_result_has_one_row_a_seed_and_one_column_an_iteration():
    result = small(seeds=[5, 3, 11], iterations=10)
    assert result.seeds == (5, 3, 11)
    assert result.returns.shape == result.episodes.shape == (3, 10)
    assert result.steps.tolist() == [16 * i for i in range(1, 11)]
    assert set(result.metrics) == set(ppo.METRICS)
    assert all(values.shape == (3, 10) for values in result.metrics.values())
    assert result.states.step.tolist() == [40] * 3
    assert result.nonfinite_seeds == []


def test_returns_are_carried_forward_and_nan_before_the_first():
    config = tree.replace(SMALL, window_length=3, num_minibatches=1, num_envs=1)
    env = Counter(end=5, max_episode_steps=10)
    result = train(ppo, env, config=config, seeds=[0], num_steps=18, backend="eager")
    # Episodes of five steps end at steps 5, 10 and 15; iterations at 3, 6, 9, 12, 15, 18.
    assert result.episodes[0].tolist() == [0, 1, 0, 1, 1, 0]
    assert result.returns[0].isnan().tolist() == [True] + [False] * 5
    assert result.returns[0, 1:].tolist() == [5.0] * 5


def test_a_window_sees_episodes_that_go_on_from_the_one_before():
    """Environments are not reset between iterations: lengths come from the environment alone."""
    config = tree.replace(SMALL, window_length=2, num_minibatches=1, num_envs=1)
    result = train(ppo, Counter(end=5), config=config, seeds=[0], num_steps=40, backend="eager")
    assert float(result.episodes.sum()) == 8.0


def test_lanes_do_not_know_of_each_other():
    together = small(seeds=[0, 1, 2, 3])
    assert together.episodes.sum(dim=1).min() > 0
    for seed in (2, 0):
        alone = small(seeds=[seed])
        assert torch.allclose(alone.returns[0], together.returns[seed], atol=1e-4, equal_nan=True)
        assert torch.equal(alone.episodes[0], together.episodes[seed])
    turned = small(seeds=[3, 0])
    assert torch.allclose(turned.returns, together.returns[[3, 0]], atol=1e-4, equal_nan=True)


def test_groups_of_lanes_give_the_same_results():
    together, grouped = small(seeds=range(5)), small(seeds=range(5), lanes_per_group=2)
    assert grouped.seeds == together.seeds
    assert torch.allclose(grouped.returns, together.returns, atol=1e-4, equal_nan=True)
    assert grouped.states.step.shape == (5,)
    assert same(grouped.steps, together.steps)


def test_groups_share_one_program():
    before = jit.stats().num_graphs
    small(seeds=range(5), lanes_per_group=2)
    assert jit.stats().num_graphs - before == 4


def test_a_diverged_lane_is_named_and_touches_no_other():
    fine = small(seeds=[7, 8, 9])
    broken = small(seeds=[7, 8, 9], config=tree.replace(SMALL, learning_rate=[2.5e-4, math.inf, 2.5e-4]))
    assert broken.nonfinite_seeds == [8]
    for lane in (0, 2):
        assert same(tree.index(broken.states.params, lane), tree.index(fine.states.params, lane))
        assert same(broken.returns[lane], fine.returns[lane])


def test_settings_may_differ_between_lanes():
    swept = small(config=tree.replace(SMALL, learning_rate=[1e-4, 1e-3, 1e-2]))
    assert swept.states.config.learning_rate.tolist() == pytest.approx([1e-4, 1e-3, 1e-2])
    alone = small(seeds=[1], config=tree.replace(SMALL, learning_rate=1e-3))
    assert torch.allclose(swept.returns[1], alone.returns[0], atol=1e-4, equal_nan=True)


def test_annealing_spans_the_run():
    rates = usual().metrics["learning_rate"][0] / 2.5e-4
    assert rates.tolist() == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_the_callback_sees_every_iteration_and_can_stop():
    seen: list[Progress] = []

    def callback(progress):
        seen.append(progress)
        return progress.iteration == 3

    result = small(iterations=9, callback=callback)
    assert [progress.step for progress in seen] == [16, 32, 48]
    assert seen[0].seeds == (0, 1, 2)
    assert seen[0].num_iterations == 9
    assert result.returns.shape == (3, 3)
    assert same(torch.stack([progress.report.returns for progress in seen], dim=1), result.returns)


def test_stopping_in_a_later_group_pads_with_nan():
    groups = []

    def callback(progress):
        groups.append(progress.seeds)
        return progress.seeds == (2,) and progress.iteration == 2

    result = small(seeds=range(3), lanes_per_group=2, callback=callback)
    assert result.seeds == (0, 1, 2)
    assert result.returns.shape == (3, 4)
    assert result.episodes[2].isnan().tolist() == [False, False, True, True]


def test_one_iteration_at_a_time_is_the_same_thing():
    config = tree.replace(SMALL, anneal_steps=64.0)
    run = Run(ppo, envs.make("CartPole-v1"), config, [0, 1, 2], backend="eager")
    returns = torch.stack([run.iterate().returns for _ in range(4)], dim=1)
    result = usual()
    assert same(returns, result.returns)
    assert same(run.agent.params, result.states.params)


def test_a_run_continues_from_its_carry_with_the_same_bits():
    config = tree.replace(SMALL, anneal_steps=64.0)
    whole = Run(ppo, envs.make("CartPole-v1"), config, [0, 1], backend="eager")
    for _ in range(2):
        whole.iterate()
    carry = whole.carry
    later = [whole.iterate() for _ in range(3)]
    other = Run(ppo, envs.make("CartPole-v1"), config, [8, 9], backend="eager")
    other.iterate()
    other.restore(carry)
    assert same([other.iterate() for _ in range(3)], later)
    assert same(other.carry, whole.carry)


def test_every_iteration_draws_other_numbers():
    run = Run(ppo, Choice(), SMALL, [0, 1], backend="eager")
    seen = []
    for _ in range(3):
        run.iterate()
        seen.append(tree.map(torch.clone, run.collector.window.transition))
    for before, after in pairwise(seen):
        for lane in range(2):
            assert not torch.equal(before.obs[:, lane], after.obs[:, lane])
            assert not torch.equal(before.action[:, lane], after.action[:, lane])


def test_every_epoch_shuffles_all_rows_anew():
    run = Run(ppo, envs.make("CartPole-v1"), SMALL, [0], backend="eager")
    run.iterate()
    agent, window = (
        tree.index(run.agent, 0),
        tree.index(tree.map(lambda x: x.movedim(1, 0), run.collector.window), 0),
    )
    orders = []
    for iteration in range(2):
        batches, *_ = on_policy.minibatches(ppo, agent, window, random.key(0), torch.tensor(iteration))
        data = ppo.prepare(agent, window.transition)
        for epoch in batches.obs.reshape(2, 16, 4):
            # Which row of the data each row of the epoch is; observations are all different.
            order = (epoch[:, None] == data.obs).all(-1).float().argmax(dim=1)
            assert sorted(order.tolist()) == list(range(16))
            orders.append(tuple(order.tolist()))
    assert len(set(orders)) == 4


def test_restoring_another_number_of_lanes_is_refused():
    run = Run(ppo, envs.make("CartPole-v1"), SMALL, [0, 1], backend="eager")
    other = Run(ppo, envs.make("CartPole-v1"), SMALL, [0], backend="eager")
    with pytest.raises(ValueError, match=r"Run.restore: carry must hold 2 lanes"):
        run.restore(other.carry)


def test_what_a_loop_cannot_train_is_refused():
    with pytest.raises(ValueError, match=r"Run: num_cycles must be 1 in the on-policy loop, got 2"):
        Run(ppo, envs.make("CartPole-v1"), SMALL, [0], backend="eager", num_cycles=2).iterate()
    with pytest.raises(ValueError, match=r"Run: env must live on the device for this algorithm"):
        Run("q_learning", "gymnasium:CliffWalking-v1", None, [0], backend="eager")
    nameless = types.ModuleType("nameless")
    with pytest.raises(TypeError, match=r"without LOOP, Config, State, init, act, update"):
        Run(nameless, "CartPole-v1", None, [0])
    nameless.__dict__.update(ppo.__dict__, LOOP="sideways")
    with pytest.raises(
        ValueError, match=r"algorithm\.LOOP must be one of 'off_policy', 'on_policy', 'online'"
    ):
        Run(nameless, "CartPole-v1", None, [0])


def test_final_returns_weigh_episodes():
    result = small(iterations=2)
    result.returns[0], result.episodes[0] = torch.tensor([10.0, 20.0]), torch.tensor([1.0, 3.0])
    result.returns[1], result.episodes[1] = torch.tensor([torch.nan, 20.0]), torch.tensor([0.0, 1.0])
    result.returns[2], result.episodes[2] = torch.tensor([torch.nan, torch.nan]), torch.tensor([0.0, 0.0])
    everything = result.final_returns()
    assert everything[:2].tolist() == [17.5, 20.0]
    assert everything[2].isnan()
    assert result.final_returns(episodes=2)[0] == 20.0


def test_a_lane_whose_environment_paid_nan_is_named():
    result = small(iterations=2)
    assert result.nonfinite_seeds == []
    # Nothing has to be wrong with what it learnt: the reward may never have been learnt from.
    result.returns[1], result.episodes[1] = torch.tensor([torch.nan, 20.0]), torch.tensor([1.0, 3.0])
    result.returns[2], result.episodes[2] = torch.tensor([torch.nan, 20.0]), torch.tensor([0.0, 3.0])
    assert result.nonfinite_seeds == [1]


def test_evaluate_counts_the_first_episode_of_each_environment():
    result = usual()
    returns = evaluate(
        "ppo", Counter(end=7, max_episode_steps=20), _states_for_counter(), num_episodes=3, backend="eager"
    )
    assert returns.tolist() == [[7.0] * 3] * 2
    returns = evaluate("ppo", "CartPole-v1", result.states, num_episodes=4, backend="eager")
    assert returns.shape == (3, 4)
    assert (returns >= 8).all()
    assert (returns <= 500).all()


def test_evaluate_gives_up_at_the_limit():
    env = Counter(end=10_000, max_episode_steps=None)
    with pytest.raises(ValueError, match="evaluate: max_steps must be given"):
        evaluate("ppo", env, _states_for_counter(), backend="eager")
    returns = evaluate("ppo", env, _states_for_counter(), num_episodes=1, max_steps=130, backend="eager")
    assert returns.tolist() == [[130.0], [130.0]]


@pytest.mark.parametrize("wrong", ["a dict", "no lanes", "the result"])
def test_evaluate_refuses_what_has_no_lanes(wrong):
    result = small(iterations=1)
    states = {"a dict": {}, "no lanes": tree.index(result.states, 0), "the result": result}[wrong]
    with pytest.raises((ValueError, TypeError), match="evaluate: states must"):
        evaluate("ppo", "CartPole-v1", states, backend="eager")


class InPlace(Counter):
    def transition(self, state, action, key):
        after = state.clone()
        after += 1.0
        return after


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_an_environment_may_work_in_place_on_copies(backend):
    config = tree.replace(SMALL, anneal_steps=0.0)
    result = train(ppo, InPlace(end=4), config=config, seeds=[0], num_steps=16, backend=backend)
    assert float(result.returns[0, 0]) == 4.0


class Watched(Counter):
    def transition(self, state, action, key):
        CALLS.append(1)
        return state + 1


CALLS: list[int] = []


def test_eager_calls_the_users_functions_at_every_step():
    train(ppo, Watched(), config=SMALL, seeds=[0], num_steps=32, backend="eager")
    assert len(CALLS) >= 16


def test_a_callback_cannot_change_the_result():
    def callback(progress):
        progress.report.returns.fill_(-7.0)

    assert not (small(callback=callback).returns == -7.0).any()


def test_evaluate_does_not_change_the_states():
    states = _states_for_counter()
    before = tree.map(torch.clone, states)
    evaluate("ppo", Counter(), states, num_episodes=2, backend="eager", greedy=False)
    assert same(before, states)


def _states_for_counter():
    config = tree.replace(SMALL, anneal_steps=0.0)
    return train(ppo, Counter(), config=config, seeds=[0, 1], num_steps=16, backend="eager").states


class WrongReward(Counter):
    def reward(self, state, action, next_state, key):
        return 1.0


class WrongTerminal(Counter):
    def terminal(self, state, key):
        return (state >= 3).reshape(1)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"algorithm": "pppo"}, ValueError, "algorithm must be one of .* Did you mean 'ppo'"),
        ({"algorithm": math}, TypeError, "algorithm must be a name or a module with"),
        (
            {"env": "CartPoole-v1"},
            ValueError,
            "env must be a name that `funcrl list` shows, .* Did you mean 'CartPole-v1'",
        ),
        ({"env": 3}, TypeError, "env must be a name or a funcrl environment"),
        ({"seeds": []}, ValueError, "seeds must hold at least one"),
        ({"seeds": 16}, TypeError, r"seeds must be several integers, got 16. Write seeds=range\(16\)"),
        ({"seeds": [1, 1, 2]}, ValueError, r"seeds must all differ, got \[1\]"),
        ({"seeds": [0, -1]}, ValueError, "each of seeds must be at least 0, got -1"),
        ({"seeds": None}, TypeError, "seeds must be several integers, got None"),
        ({"seeds": [2**64]}, ValueError, r"each of seeds must be below 2\*\*64"),
        ({"seeds": range(10**9)}, ValueError, "seeds must be at most a million"),
        ({"callback": 3}, TypeError, "callback must be a function"),
        ({"env": Counter}, TypeError, r"got the class Counter. Write Counter\(\)"),
        ({"env": WrongReward()}, TypeError, "WrongReward.reward must return a tensor, got 1.0"),
        (
            {"env": WrongTerminal()},
            ValueError,
            r"WrongTerminal.terminal must return a tensor of shape \[\] and torch.bool",
        ),
        (
            {"config": tree.replace(SMALL, gamma=np.array([0.9, 5.0, 0.9]))},
            ValueError,
            r"gamma must lie in \[0, 1\], got 5.0",
        ),
        (
            {"config": tree.replace(SMALL, gamma=["a", "b", "c"])},
            TypeError,
            "config.gamma must be one number or a list",
        ),
        ({"seeds": [0.5]}, TypeError, "each of seeds must be an integer"),
        ({"num_steps": 15}, ValueError, "num_steps must be at least 16, one iteration"),
        ({"num_steps": 64.0}, TypeError, "num_steps must be an integer, got 64.0. Write 64"),
        ({"device": "cud"}, ValueError, "device must be cpu or cuda"),
        ({"device": "meta"}, ValueError, "device must be cpu or cuda"),
        ({"device": "cuda:99"}, ValueError, "device must be present"),
        ({"lanes_per_group": 0}, ValueError, "lanes_per_group must be at least 1"),
        ({"backend": "fast"}, ValueError, "backend must be one of"),
        ({"config": {"gamma": 0.9}}, TypeError, "config must be a ppo.Config"),
        (
            {"config": tree.replace(SMALL, gamma=[0.9, 0.8])},
            ValueError,
            "config.gamma must be one number or hold one for each of 3",
        ),
        (
            {"config": tree.replace(SMALL, gamma=[0.9, 0.8, 1.5])},
            ValueError,
            r"gamma must lie in \[0, 1\], got 1.5",
        ),
    ],
)
def test_bad_input_is_refused(changes, error, message):
    arguments = {
        "algorithm": "ppo",
        "env": "CartPole-v1",
        "config": SMALL,
        "seeds": range(3),
        "num_steps": 64,
        "backend": "eager",
    } | changes
    algorithm, env = arguments.pop("algorithm"), arguments.pop("env")
    with pytest.raises(error, match=message):
        train(algorithm, env, **arguments)


# As the command line trains in tests/cli/test_cli.py: the programs of eight lanes are compiled once for both.
MEDIUM = ppo.Config(num_envs=2, window_length=10, num_minibatches=2, hidden=(4,))
SEEDS = range(8)


def _run(seeds=SEEDS, backend="inductor"):
    return Run(ppo, envs.make("CartPole-v1"), MEDIUM, seeds, backend=backend)


@pytest.mark.compiled
def test_compiled_programs_are_four_and_no_more_and_do_what_eager_functions_do(monkeypatch):
    """One test, so that what it compiles is compiled once.

    That a lane compiled alone gets what it gets among others is tested of the neural bandit's program.
    """
    monkeypatch.setattr(collect, "MAX_UNROLL", UNROLLED)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="There is a performance drop")
        run = _run()
        run.iterate()
        before = jit.stats().num_graphs
        assert run.num_graphs == 4
        for _ in range(12):
            run.iterate()
        run.restart(range(8, 16))
        run.iterate()
    assert run.num_graphs == 4
    assert jit.stats().num_graphs == before

    compiled, eager = run, _run(backend="eager")
    compiled.restart(SEEDS)
    for _ in range(10):
        a, b = compiled.iterate(), eager.iterate()
        assert torch.equal(a.episodes, b.episodes)
        assert torch.allclose(a.returns, b.returns, atol=1e-4, equal_nan=True)
        for name, values in a.metrics.items():
            assert torch.allclose(values, b.metrics[name], atol=1e-3, rtol=1e-2), name
    assert torch.equal(compiled.carry.collect_key, eager.carry.collect_key)
    assert torch.allclose(compiled.carry.envs.obs, eager.carry.envs.obs, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_learns_what_a_cpu_learns_and_actions_differ_between_replays():
    gpu = Run(ppo, envs.make("CartPole-v1"), MEDIUM, SEEDS, device="cuda")
    cpu = _run(backend="eager")
    seen = []
    for _ in range(3):
        a, b = gpu.iterate(), cpu.iterate()
        assert torch.equal(a.episodes.cpu(), b.episodes)
        seen.append(gpu.carry.envs.obs)
    assert not torch.equal(seen[1], seen[2])
