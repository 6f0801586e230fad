"""Training that begins with agents which exist."""

import dataclasses

import pytest
import torch

from funcrl import envs
from funcrl.algos import REGISTRY, dqn, ppo, q_learning
from funcrl.core import tree
from funcrl.train import evaluate, execute, make_plan, train
from funcrl.train.episodes import needs_env_states
from funcrl.train.programs import make_run
from tests.algos.table import CASES, Planner

PPO = ppo.Config(num_envs=2, window_length=8, num_epochs=1, num_minibatches=2, hidden=(8,))
GIVEN = {"config": PPO, "seeds": range(3), "num_steps": 32, "backend": "eager"}


def same(a, b):
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)


@pytest.fixture(scope="module")
def trained():
    return train("ppo", "CartPole-v1", **GIVEN)


@pytest.mark.parametrize(
    "case", [case for case in CASES if not isinstance(case, Planner)], ids=lambda case: case.id
)
def test_what_was_learnt_stays_and_all_else_begins_anew(case):
    old = tree.stack([case.algorithm.update(case.init(seed), case.batch(seed)) for seed in (5, 6)])
    given = {"config": case.config, "seeds": [1, 2], "num_steps": 20_000, "backend": "eager"}
    # Arms that are drawn for each lane would have to be handed over too.
    env = envs.BernoulliBandit(means=(0.2, 0.6, 0.2)) if needs_env_states(case.env) else case.env
    anew = make_run(make_plan(case.algorithm, env, **given), range(2)).carry
    begun = make_run(make_plan(case.algorithm, env, **given, start=old), range(2)).carry
    for field in dataclasses.fields(old):
        if field.metadata.get("static", False):
            continue
        source = old if field.name in case.algorithm.LEARNT else anew.agent
        assert same(getattr(begun.agent, field.name), getattr(source, field.name)), field.name
    assert same(tree.replace(begun, agent=()), tree.replace(anew, agent=()))
    obs = tree.map(lambda x: x.expand(2, *x.shape), case.observations(4))
    greedy = torch.vmap(case.greedy)
    assert torch.equal(greedy(begun.agent, obs), greedy(old, obs))


def test_it_goes_on_from_where_agents_were_in_any_number_of_processes(trained):
    long = {**GIVEN, "num_steps": 64}
    plans = [make_plan("ppo", "CartPole-v1", **long, start=trained)]
    plans.append(dataclasses.replace(plans[0], lanes_per_group=2))
    plans.append(dataclasses.replace(plans[0], processes=2))
    results = [execute(plan) for plan in plans]
    assert not same(results[0].states.params, train("ppo", "CartPole-v1", **long).states.params)
    for other in results[1:]:
        assert same(other.states, results[0].states)
        assert same(other.returns, results[0].returns)


def test_one_agent_is_enough_for_all_seeds(trained):
    one = tree.index(trained.states, slice(1, 2))
    begun = make_run(make_plan("ppo", "CartPole-v1", **GIVEN, start=one), range(3)).agent
    for lane in range(3):
        assert same(tree.index(begun.params, lane), tree.index(trained.states.params, 1))


def test_it_learns_faster_where_the_world_has_changed_a_little():
    """From an environment of one size to one of another, as a curriculum does."""
    config = q_learning.Config(learning_rate=1.0, epsilon=0.02)
    given = {"config": config, "seeds": range(2), "backend": "aot_eager"}
    first = train("q_learning", "CliffWalking-v1", num_steps=1200, **given)
    short = {"num_steps": 200, **given}
    again = train("q_learning", envs.make("CliffWalking-v1"), start=first, **short)
    anew = train("q_learning", "CliffWalking-v1", **short)
    assert (again.returns[:, 1] > -150).all()
    assert not (anew.returns[:, 1] > -150).any()
    assert again.states.step.tolist() == [200] * 2


def test_moments_of_observations_stay():
    env = envs.NormalizeObservation(envs.make("CartPole-v1"))
    before = train("ppo", env, **GIVEN)
    begun = make_run(make_plan("ppo", env, **GIVEN, start=before), range(3))
    moments, kept = begun.env_states.inner.moments, before.env_states.inner.moments
    assert same(moments, kept)
    again = train("ppo", env, **GIVEN, start=before)
    assert (again.env_states.inner.moments.count > kept.count).all()
    assert evaluate("ppo", env, again.states, env_states=again.env_states, backend="eager").isfinite().all()
    with pytest.raises(
        ValueError, match=r"start must come with environments that normalise .*Write start=result"
    ):
        train("ppo", env, **GIVEN, start=before.states)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"start": 3}, TypeError, r"train: start must be a ppo.State .*got builtins.int"),
        ({"seeds": range(2)}, ValueError, "one agent for all 2 seeds, or one for each, got '3 agents'"),
        (
            {"config": dataclasses.replace(PPO, hidden=(4,))},
            ValueError,
            r"start must have learnt in tensors of the same shapes, got .*\(8,\).* for .*\(4,\)",
        ),
    ],
)
def test_what_cannot_go_on_is_refused(trained, change, error, message):
    with pytest.raises(error, match=message):
        train("ppo", "CartPole-v1", **{**GIVEN, "start": trained, **change})


def test_agents_of_another_algorithm_or_space_are_refused(trained):
    with pytest.raises(TypeError, match=r"start must be a dqn\.State"):
        train("dqn", "CartPole-v1", seeds=range(3), start=trained)
    with pytest.raises(ValueError, match=r"start must have learnt in tensors"):
        train("ppo", "Acrobot-v1", **GIVEN, start=trained)
    assert q_learning.LEARNT == ("values",)
    assert dqn.LEARNT == REGISTRY["double_dqn"].LEARNT
