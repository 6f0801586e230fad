"""Agents in files that run without funcrl do what the agents do."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from funcrl import envs
from funcrl.cli import main
from funcrl.core import random, tree
from funcrl.io import exporting, open_run, shrinking
from funcrl.train import acting
from funcrl.train.deployed import Deployed, normalizer, play
from tests.algos.table import CASES, Planner
from tests.cli.conftest import leave_unpainted, run_eagerly

pytestmark = pytest.mark.usefixtures("operators_read_once")

PLAYERS = [case for case in CASES if not isinstance(case, Planner)]
IN_ONNX = ("ppo-box", "a2c-lstm", "rainbow", "sac", "neural_thompson", "q_learning", "ppo-multi_discrete")
"""One of each kind of network and action; that of PPO's discrete actions is what the runs below write."""


REPEATED = {
    "reinforce": "a2c",
    "impala": "a2c",
    "double_dqn": "dqn",
    "td3": "ddpg",
    "decaying_epsilon": "boltzmann",
    "ucb": "boltzmann",
    "sarsa": "q_learning",
    "expected_sarsa": "q_learning",
    "double_q_learning": "q_learning",
    "n_step_sarsa": "q_learning",
    "dyna_q": "q_learning",
}
"""Cases that do greedily what another does: one function of the same parts of the same kind of agent."""
POLICIES = [case for case in PLAYERS if case.id not in REPEATED]


@pytest.mark.parametrize(("name", "other"), REPEATED.items(), ids=REPEATED)
def test_what_is_repeated_is_the_same_policy(name, other):
    one, two = (next(case for case in PLAYERS if case.id == id) for id in (name, other))
    assert one.algorithm.greedy is two.algorithm.greedy
    agents = one.init(), two.init()
    assert type(agents[0]) is type(agents[1])
    parts = [tree.named_leaves(getattr(agent, "params", ())) for agent in agents]
    assert parts[0].keys() == parts[1].keys()
    assert type(one.env) is type(two.env)
    assert other not in REPEATED


@pytest.mark.parametrize("case", POLICIES, ids=lambda case: case.id)
def test_every_algorithm_does_in_a_file_what_it_does_greedily(case, tmp_path):
    agent = case.init(3)
    policy = acting.greedy(case.algorithm)
    obs = tree.map(lambda x: x.clone(), case.observations(40))
    carry = tree.map(torch.clone, policy.initial_carries(agent, 40))
    for leaf in tree.leaves(carry):
        leaf.copy_(torch.rand(leaf.shape, generator=torch.Generator().manual_seed(1)))
    key = random.key(0)
    after = policy.remember(agent, obs, carry, key)
    wanted = (policy.act(agent, obs, key, after)[0], *tree.leaves(after))

    few = tree.map(lambda x: x[:2], (obs, carry))
    deployed = Deployed(case.algorithm, case.env, agent)
    names = exporting.signature(deployed, *few)
    program = exporting.program(deployed, *few)
    for kind in ("pt2", "onnx") if case.id in IN_ONNX else ("pt2",):
        path = tmp_path / f"policy.{kind}"
        if kind == "onnx":
            path.write_bytes(exporting._onnx(program, names, {}))
        else:
            torch.export.save(program, path)
        found = exporting.open_exported(path, names).run(*exporting.split_inputs(names, obs, carry))
        for one, other in zip(found, wanted, strict=True):
            assert one.shape == other.shape
            assert torch.allclose(one, other, atol=1e-5)


TINY = {
    "ppo": ["--num-envs", "2", "--window-length", "10", "--hidden", "8", "--num-minibatches", "2"],
    "sac": [
        "--hidden",
        "6",
        "4",
        "--warmup-steps",
        "8",
        "--batch-size",
        "4",
        "--wrap",
        "normalize_observation",
    ],
}
RUNS = {
    "plain": ("ppo", "CartPole-v1", []),
    "normalised": ("sac", "Pendulum-v1", ["--env.max-torque", "2,1.5"]),
    "remembering": (
        "ppo",
        "PositionOnlyCartPole-v0",
        ["--recurrent-cell", "gru", "--recurrent-size", "4", "--sequence-length", "5"],
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of runs that have learnt next to nothing."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        run_eagerly(patch, folder)
        leave_unpainted(patch)
        for name, (algorithm, env, words) in RUNS.items():
            words = [*TINY[algorithm], *words]
            given = ["--seeds", "2", "--steps", "40", "--processes", "1", "--out", name]
            assert main(["train", algorithm, env, *words, *given]) == 0
    return folder


@pytest.mark.parametrize(
    ("name", "words"), [("plain", ["--sampling"]), ("normalised", []), ("remembering", [])]
)
def test_a_file_takes_what_the_environment_shows_and_says_what_that_is(name, words, runs, tmp_path, capsys):
    out = tmp_path / "policy.pt2"
    assert main(["export", str(runs / name), "--seed", "1", "--out", str(out), *words]) == 0
    assert "equal to the run's on 1000 observations" in capsys.readouterr().out
    run = open_run(runs / name)
    lane = exporting.lane_of(run, 1)
    described = json.loads(exporting.description_of(out).read_text())
    expected = ["observation", *(["key"] if words else []), *(["carry.0"] if name == "remembering" else [])]
    assert [one["name"] for one in described["inputs"]] == expected
    assert described["inputs"][0]["shape"] == ["batch", *lane.env.observation_space.shape]
    assert (described["seed"], described["environment"]) == (1, RUNS[name][1])
    assert described["outputs"][0]["space"] == str(lane.env.action_space)
    if name == "normalised":
        # What the environment itself shows, and the torque that seed 1 may use.
        assert described["inputs"][0]["high"] == [1.0, 1.0, 8.0]
        assert described["outputs"][0]["space"] == str(envs.make("Pendulum-v1", max_torque=1.5).action_space)
        moments = tree.index(run.env_states, (1, 0)).inner.moments
        obs = torch.tensor([[1.0, 0.0, 0.5]])
        scaled = ((obs - moments.mean) / torch.sqrt(moments.variance + 1e-8)).clamp(-10, 10)
        if not words:
            module = torch.export.load(out).module()
            assert torch.allclose(module(obs)[0], run.algorithm.greedy(lane.agent, scaled), atol=1e-6)
    # Without funcrl, in a process of its own.
    script = """
import sys, json, torch
module = torch.export.load(sys.argv[1]).module()
described = json.loads(open(sys.argv[2]).read())
given = [torch.zeros([3 if n == "batch" else n for n in x["shape"]], dtype=getattr(torch, x["dtype"])) for x in described["inputs"]]
assert [len(x) for x in module(*given)] == [3] * len(described["outputs"])
assert not [name for name in sys.modules if name.startswith("funcrl")]
"""
    if name == "normalised":
        given = [sys.executable, "-c", script, str(out), str(exporting.description_of(out))]
        done = subprocess.run(given, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def drawing(runs, tmp_path_factory):
    """A lane, and the file that draws its actions."""
    lane = exporting.lane_of(open_run(runs / "plain"), 0)
    return lane, exporting.write(lane, tmp_path_factory.mktemp("drawing") / "policy.onnx", sampling=True)


def test_what_a_file_draws_is_what_the_agent_draws_and_another_key_draws_otherwise(drawing):
    lane, done = drawing
    obs, _ = exporting.experience(lane, rows=70)
    policy = lane.deployed(sampling=True)
    found = []
    for seed in range(2):
        key = random.key(seed)
        (action,) = done.run(obs, key)
        assert torch.equal(action, policy(obs, key, ())[0])
        found.append(action)
    assert (found[0] != found[1]).any()


def test_playing_by_hand_earns_what_evaluate_finds(runs):
    """The same policy, so the same share of good episodes; other episodes, so not the same to the bit."""
    lane = exporting.lane_of(open_run(runs / "plain"), 0)
    returns, observations, _ = play(lane.deployed(), lane.env, 50, 0, 500)
    assert returns.shape == (50,)
    assert returns.min() >= 8
    # Episodes are over one by one, and each is as long as what it earned.
    assert len(observations) == int(returns.max())


def test_half_of_the_neurons_is_half_of_the_matrices_and_those_that_count_stay(runs):
    lane = exporting.lane_of(open_run(runs / "normalised"), 0)
    # Neurons that nothing reads, or that say nothing, go first, and what is left is the same policy.
    params = {name: x.clone() for name, x in lane.agent.params["actor"].items()}
    params["layers.2.weight"][:, [0, 2, 5]] = 0.0
    params["layers.2.weight"][[1, 3]] = 0.0
    params["layers.2.bias"][[1, 3]] = 0.0
    agent = tree.replace(lane.agent, params={**lane.agent.params, "actor": params})
    lane = dataclasses.replace(lane, agent=agent)
    smaller = shrinking.pruned(lane, 0.5)
    shapes = [tuple(x.shape) for x in smaller.agent.params["actor"].values()]
    assert shapes == [(3, 3), (3,), (2, 3), (2,), (2, 2), (2,)]
    obs, _ = exporting.experience(lane, rows=30)
    key = random.key(0)
    assert torch.allclose(smaller.deployed()(obs, key, ())[0], lane.deployed()(obs, key, ())[0], atol=1e-6)


@pytest.mark.parametrize("name", ["dueling_dqn", "neural_epsilon_greedy", "q_learning"])
def test_what_is_no_chain_of_layers_is_not_pruned(name):
    case = next(case for case in PLAYERS if case.id == name)
    lane = SimpleNamespace(agent=case.init(), run=SimpleNamespace(algorithm=case.algorithm))
    with pytest.raises(ValueError, match="--prune must be left out for a policy that is no chain"):
        shrinking.pruned(lane, 0.5)


def test_the_python_of_its_page_runs(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in exporting.FORMATS:
        assert main(["export", str(runs / "plain"), "--out", f"policy.{kind}"]) == 0
    page = (Path(exporting.__file__).parents[2] / "docs/export.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        found = {}
        exec(compile(block, "docs/export.md", "exec"), found)
        assert len(found["action"]) == 5


def test_no_file_of_the_run_is_overwritten(runs):
    before = (runs / "plain/config.json").read_bytes()
    assert main(["export", str(runs / "plain"), "--out", str(runs / "plain/config.pt2")]) == 0
    assert (runs / "plain/config.json").read_bytes() == before


def test_static_ranges_leave_the_draw_alone(drawing, tmp_path):
    lane, done = drawing
    small = shrinking.quantised(lane, done, tmp_path / "small.onnx", static=True)
    obs, _ = exporting.experience(lane, rows=400)
    shares = [float(one.run(obs, random.key(5))[0].double().mean()) for one in (done, small)]
    assert abs(shares[0] - shares[1]) < 0.1
    assert 0.2 < shares[1] < 0.8


def test_what_shrinking_costs_is_told(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shrinking, "EPISODES", 3)
    out = tmp_path / "policy.onnx"
    words = ["export", str(runs / "plain"), "--out", str(out), "--prune", "0.5"]
    assert main([*words, "--quantize", "int8-static"]) == 0
    table = capsys.readouterr().out.split("episodes\n")[1].splitlines()
    assert [line.split("  ")[1] for line in table] == ["the agent", "pruned by 0.5", "int8-static"]
    session = onnxruntime.InferenceSession(out)
    assert session.run(None, {"observation": np.zeros((5, 4), np.float32)})[0].shape == (5,)
    kinds = {node.op_type for node in onnx.load(out).graph.node}
    assert "QuantizeLinear" in kinds


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("plain", ["--seed", "7"], "--seed must be one of the seeds of"),
        ("plain", ["--out", "policy.txt"], "--out must end in .onnx or .pt2, as --format says, got"),
        ("plain", ["--out", "policy.pt2", "--format", "onnx"], "--out must end in .onnx or .pt2"),
        ("plain", ["--out", "away/policy.pt2"], "--out must lie in a folder that is there, got 'away'"),
        ("plain", ["--prune", "1.5"], "--prune must lie between 0 and 1, got 1.5"),
        ("plain", ["--format", "pt2", "--quantize", "int8"], "--quantize must be left out for a .pt2 file"),
        ("away", [], "must be the folder of a run"),
    ],
)
def test_what_cannot_be_written_is_refused(name, words, message, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(path for path in runs.rglob("policy*"))
    assert main(["export", str(runs / name), *words]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path for path in runs.rglob("policy*")) == before


def test_observations_that_are_changed_after_they_were_normalised_cannot_be_taken():
    env = envs.FrameStack(envs.NormalizeObservation(envs.make("Pendulum-v1")), 2)
    with pytest.raises(ValueError, match="normalise observations last, where it does, got 'FrameStack'"):
        normalizer(env)
    assert normalizer(envs.TimeLimit(envs.make("Pendulum-v1"), 5)) is None


def test_a_file_that_does_something_else_is_not_taken(runs, tmp_path):
    lane = exporting.lane_of(open_run(runs / "normalised"), 0)
    done = exporting.write(lane, tmp_path / "policy.pt2")
    other = exporting.lane_of(open_run(runs / "normalised"), 1)
    with pytest.raises(ValueError, match="do what the agent does on 1000 observations"):
        exporting.check(other, other.deployed(), done)
