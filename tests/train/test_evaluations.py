"""Evaluating agents while they are trained."""

import dataclasses

import pytest
import torch

from funcrl import envs
from funcrl.algos import dqn, ppo, q_learning
from funcrl.core import tree
from funcrl.io import Checkpoints, Recorder, latest
from funcrl.train import evaluate, execute, make_plan, online, train, with_evaluations
from funcrl.train.stages import _EVALUATION_SEED

PPO = ppo.Config(num_envs=2, window_length=8, num_epochs=1, num_minibatches=2, hidden=(8,))
GIVEN = {"config": PPO, "seeds": range(5), "num_steps": 96, "backend": "eager"}
CASES = {
    "ppo": ("CartPole-v1", PPO, 64),
    "dqn": (
        "CartPole-v1",
        dqn.Config(hidden=(8,), batch_size=4, warmup_steps=40, buffer_size=800, num_envs=40),
        2000,
    ),
    "q_learning": ("FrozenLake-v1", q_learning.Config(), 40),
}


def same(a, b):
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)


@pytest.mark.parametrize("name", CASES)
def test_they_are_what_evaluate_finds_and_change_nothing(name, monkeypatch):
    monkeypatch.setattr(online, "STEPS_PER_ITERATION", 20)
    env, config, num_steps = CASES[name]
    env = envs.make(env, max_episode_steps=6)
    given = {"config": config, "seeds": range(2), "num_steps": num_steps, "backend": "eager"}
    without = train(name, env, **given)
    plan = make_plan(name, env, **given)
    half = plan.num_iterations // 2 * plan.steps_per_iteration
    found = train(name, env, **given, evaluate_every=half)
    assert same(found.states, without.states)
    assert torch.equal(found.returns.nan_to_num(), without.returns.nan_to_num())
    earned = found.metrics["evaluation_return"]
    there = earned.isfinite().all(0).nonzero().flatten().tolist()
    assert there == [i for i in range(plan.num_iterations) if (i + 1) % (plan.num_iterations // 2) == 0]
    last = evaluate(name, env, found.states, num_episodes=10, seed=_EVALUATION_SEED, backend="eager")
    assert torch.equal(earned[:, there[-1]], last.mean(dim=1))


def test_running_moments_are_those_of_the_moment():
    env = envs.NormalizeObservation(envs.make("CartPole-v1", max_episode_steps=20))
    found = train("ppo", env, **(GIVEN | {"num_steps": 64}), evaluate_every=64)
    last = evaluate(
        "ppo",
        env,
        found.states,
        env_states=found.env_states,
        num_episodes=10,
        seed=_EVALUATION_SEED,
        backend="eager",
    )
    assert torch.equal(found.metrics["evaluation_return"][:, -1], last.mean(dim=1))


def test_groups_processes_and_environments_that_differ_change_nothing():
    narrow = {"max_episode_steps": 12, "angle_threshold": 0.06}
    env = envs.make("CartPole-v1", **narrow, half_length=[0.1, 0.25, 0.5, 1.0, 2.0])
    given = GIVEN | {"num_steps": 64, "evaluate_every": 32}
    one = train("ppo", env, **given)
    several = train("ppo", env, **given, lanes_per_group=3, processes=2)
    assert same(several.metrics, one.metrics)
    found = one.metrics["evaluation_return"][:, -1]
    assert found.isfinite().all()
    assert found[0] < found[4]


def test_a_run_that_goes_on_is_evaluated_at_the_same_moments(tmp_path):
    plan = with_evaluations(make_plan("ppo", envs.make("CartPole-v1", max_episode_steps=20), **GIVEN), 48)
    whole = execute(plan)
    recorder = Recorder(tmp_path, {"command": "", "algorithm": "ppo"})
    saver = Checkpoints(recorder, plan, every=0.0)

    def callback(now):
        recorder(now)
        return now.iteration == 3

    recorder.finish(execute(plan, callback, saver), {})
    found = latest(tmp_path)
    assert found.head["iteration"] == 2
    again = execute(plan, None, None, found.start)
    assert same(again.metrics, whole.metrics)


def test_by_default_they_take_a_tenth_of_the_steps_at_most():
    plan = make_plan("ppo", "CartPole-v1", num_steps=500_000)
    found = with_evaluations(plan)
    evaluations = found.num_iterations // found.evaluate_every
    assert 0.08 < evaluations * found.num_episodes * 500 / plan.num_steps <= 0.1


def test_agents_on_the_host_are_evaluated_too():
    """In processes of which each has environments of its own, and again after training."""
    given = GIVEN | {"seeds": range(4), "num_steps": 32}
    plans = [make_plan("ppo", "gymnasium:CartPole-v1", **given, processes=n) for n in (1, 2)]
    one, two = (execute(with_evaluations(plan, 16, num_episodes=3)) for plan in plans)
    found = one.metrics["evaluation_return"]
    assert found.isfinite().all()
    assert torch.equal(found, two.metrics["evaluation_return"])
    played = evaluate(
        "ppo",
        "gymnasium:CartPole-v1",
        one.states,
        num_episodes=3,
        seed=_EVALUATION_SEED,
        backend="eager",
    )
    assert torch.equal(found[:, -1], played.mean(dim=1))
    without = execute(plans[0])
    assert torch.equal(one.returns.nan_to_num(), without.returns.nan_to_num())


@pytest.mark.parametrize(
    ("env", "every", "message"),
    [
        ("CartPole-v1", 0, "evaluate_every must be at least 1"),
        (envs.make("CartPole-v1", max_episode_steps=None), None, "without a time limit"),
    ],
)
def test_what_cannot_be_is_refused(env, every, message):
    plan = make_plan("ppo", env, **GIVEN)
    with pytest.raises(ValueError, match=message):
        with_evaluations(plan, every)
    with pytest.raises(ValueError, match="num_episodes must be at least 1"):
        with_evaluations(dataclasses.replace(plan), 100, num_episodes=0)
