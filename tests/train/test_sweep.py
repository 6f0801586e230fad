"""Sweeps: every lane is the run of its own that it stands for."""

import functools

import pytest
import torch

from funcrl import envs
from funcrl.algos import dqn, ppo
from funcrl.buffers import memory
from funcrl.core import tree
from funcrl.train import make_plan, plan_sweep, sweep, train

SMALL = ppo.Config(num_envs=2, window_length=8, num_epochs=2, num_minibatches=2, hidden=(8,))
GIVEN = {"config": SMALL, "num_steps": 48, "backend": "eager"}


def same(a, b):
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)


def parts(result):
    return result.states, result.env_states, result.returns, result.episodes, result.metrics, result.steps


@functools.cache
def alone(learning_rate, half_length):
    """Return the run of one setting, with which several sweeps are compared."""
    config, env = (
        tree.replace(SMALL, learning_rate=learning_rate),
        envs.make("CartPole-v1", half_length=half_length),
    )
    return train("ppo", env, seeds=[0, 3, 5], **(GIVEN | {"config": config}))


@pytest.mark.parametrize("options", [{}, {"processes": 2}, {"lanes_per_group": 5}])
def test_a_sweep_is_the_separate_runs_lane_by_lane(options):
    over = {"learning_rate": [1e-4, 1e-3, 1e-2], "env.half_length": [0.25, 1.0]}
    found = sweep("ppo", "CartPole-v1", over, seeds=[0, 3, 5], **GIVEN, **options)
    assert len(found.settings) == 6
    assert found.settings[1] == {"learning_rate": 1e-4, "env.half_length": 1.0}
    for setting, result in zip(found.settings, found.results, strict=True):
        assert result.seeds == (0, 3, 5)
        assert result.lanes == (0, 1, 2)
        assert result.lost_seeds == ()
        assert same(parts(result), parts(alone(*setting.values())))


def test_what_is_no_number_is_a_program_of_its_own():
    over = {"gamma": [0.9, 0.99], "hidden": [(8,), (4, 4)], "env.num_frames": [1, 2]}
    env = envs.FrameStack(envs.make("CartPole-v1"), num_frames=3)
    small = tree.replace(SMALL, num_epochs=1)
    given = GIVEN | {"config": small, "num_steps": 32}
    programs = plan_sweep("ppo", env, over, seeds=range(2), **given)
    assert [len(program.settings) for program in programs] == [2, 2, 2, 2]
    found = sweep("ppo", env, over, seeds=range(2), **given)
    assert [tuple(setting.values()) for setting in found.settings][:3] == [
        (0.9, (8,), 1),
        (0.9, (8,), 2),
        (0.9, (4, 4), 1),
    ]
    setting, result = found.settings[3], found.results[3]
    assert setting == {"gamma": 0.9, "hidden": (4, 4), "env.num_frames": 2}
    separate = train(
        "ppo",
        tree.replace(env, num_frames=2),
        seeds=range(2),
        **(given | {"config": tree.replace(small, gamma=0.9, hidden=(4, 4))}),
    )
    assert same(parts(result), parts(separate))


def test_the_best_setting_is_that_of_the_highest_score():
    found = sweep("ppo", "CartPole-v1", {"gamma": [0.9, 0.99]}, seeds=range(2), **GIVEN)
    rows = {id(result): number for number, result in enumerate(found.results)}
    assert found.best(lambda result: float(rows[id(result)])) == {"gamma": 0.99}
    assert found.best(lambda result: float("nan") if rows[id(result)] else -5.0) == {"gamma": 0.9}


def test_lanes_are_grouped_to_fit_into_memory(monkeypatch):
    config = dqn.Config(hidden=(8,), buffer_size=1000, warmup_steps=40, batch_size=4)
    given = {"config": config, "num_steps": 100, "backend": "eager", "seeds": range(4)}
    (program,) = plan_sweep("dqn", "CartPole-v1", {"gamma": [0.9, 0.99]}, **given)
    assert program.plan.lanes_per_group == 8
    a_lane = program.plan.replay_bytes // 8
    monkeypatch.setattr(memory, "available", lambda device: int(7 * a_lane / memory.SHARE))
    (program,) = plan_sweep("dqn", "CartPole-v1", {"gamma": [0.9, 0.99]}, **given)
    assert program.plan.lanes_per_group == 3


def test_on_a_cpu_programs_are_as_wide_as_those_of_one_setting_alone():
    sweeps = {"learning_rate": [1e-4, 1e-3, 1e-2]}
    for seeds, at_once in ((range(8), 8), (range(30), 30), (range(7), 21)):
        (program,) = plan_sweep("ppo", "CartPole-v1", sweeps, seeds=seeds, **GIVEN)
        alone = make_plan("ppo", "CartPole-v1", seeds=seeds, **GIVEN)
        assert program.plan.lanes_per_group == at_once
        assert (program.plan.lanes_per_process == alone.lanes_per_process) is (len(seeds) >= 8)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({}, "sweep: over must name at least one field"),
        ({"gama": [1.0]}, r"sweep: over\['gama'\] must be a field of ppo.Config"),
        ({"half_length": [1.0]}, r"Those of the environment are written env.half_length"),
        ({"env.length": [1.0]}, r"over\['env.length'\] must be a field of CartPole, got '?.*half_length"),
        ({"gamma": []}, r"over\['gamma'\] must hold at least one value"),
        ({"gamma": [0.9, 0.9]}, r"over\['gamma'\] must all differ"),
        ({"gamma": [0.9, 2.0]}, "gamma must lie in"),
        ({"num_envs": [0]}, "num_envs must be at least 1"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_starts(over, message):
    with pytest.raises(ValueError, match=message):
        plan_sweep("ppo", "CartPole-v1", over, seeds=range(2), **GIVEN)


@pytest.mark.parametrize("values", [0.9, "0.9"])
def test_one_value_is_not_several(values):
    with pytest.raises(TypeError, match=r"over\['gamma'\] must be several values"):
        sweep("ppo", "CartPole-v1", {"gamma": values}, **GIVEN)


def test_nothing_is_no_sweep():
    with pytest.raises(TypeError, match="sweep: over must be values by field, got None"):
        sweep("ppo", "CartPole-v1", None, **GIVEN)
