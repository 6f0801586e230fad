"""Lanes of a run, taken out of it."""

import json
import shutil

import pytest
import torch

from funcrl.cli import main
from funcrl.core import tree
from funcrl.io import extract, latest, open_run
from tests.cli.conftest import run_eagerly

TINY = ["--num-envs", "2", "--window-length", "8", "--num-epochs", "1", "--num-minibatches", "1"]
TINY += ["--hidden", "4", "--processes", "1"]


pytestmark = pytest.mark.usefixtures("uncompiled", "unpainted")


def trained(*words):
    return main(["train", "ppo", "CartPole-v1", *words, *TINY, "--out", "run"])


def same(a, b):
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)


def test_lanes_that_are_taken_out_are_a_run_that_goes_on_as_among_the_others(capsys):
    words = ["--seeds", "5", "--steps", "48", "--lanes-per-group", "3"]
    words += ["--env.half-length", "0.2,0.3,0.4,0.5,0.6", "--learning-rate=1e-3"]
    assert trained(*words) == 0
    assert main(["extract", "run", "--seeds", "4,1"]) == 0
    assert "seeds 4, 1 after 48 steps. To go on: funcrl resume run-seeds" in capsys.readouterr().err
    run, part = open_run("run"), open_run("run-seeds")
    assert part.seeds == (4, 1)
    assert part.settings["env"] == {"half_length": [0.6, 0.3]}
    which = torch.tensor([4, 1])
    assert same(part.agents, tree.index(run.agents, which))
    assert same((part.returns, part.metric("kl")), (run.returns[which], run.metric("kl")[which]))
    assert json.loads((part.folder / "metrics.jsonl").read_text().splitlines()[0])["seeds"] == [4, 1]
    assert main(["evaluate", "run-seeds", "--episodes", "2"]) == 0
    assert main(["resume", "run", "--steps", "96"]) == 0
    assert main(["resume", "run-seeds", "--steps", "96"]) == 0
    whole, alone = open_run("run").returns[which], open_run("run-seeds").returns
    assert torch.allclose(whole, alone, equal_nan=True, rtol=1e-5)
    assert whole.shape == (2, 6)
    assert whole.isfinite().any(dim=1).all()


def test_lanes_of_a_run_that_has_not_come_to_its_end_can_be_taken_out_too():
    assert trained("--seeds", "3", "--steps", "64") == 0
    (open_run("run").folder / "checkpoint" / "states.safetensors").unlink()
    path = open_run("run").folder / "config.json"
    path.write_text(path.read_text().replace('"num_steps": 64', '"num_steps": 96, "continued_to": 96'))
    assert main(["extract", "run", "--seeds", "2", "--out", "one"]) == 0
    assert latest(open_run("one").folder).head["iteration"] == 4
    assert main(["resume", "one"]) == 0
    assert open_run("one").returns.shape == (1, 6)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A folder with a short run in it."""
    folder = tmp_path_factory.mktemp("short")
    with pytest.MonkeyPatch.context() as patch:
        run_eagerly(patch, folder)
        assert trained("--seeds", "2", "--steps", "16") == 0
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--seeds must be given, got ''. Write --seeds 3,"),
        (["--seeds", "7"], r"seeds must be those of lanes of the run, got [7]. It has seeds 0, 1"),
        (["--seeds", "1,1"], "seeds must all differ"),
        (["--seeds", "1", "--out", "run", "--replace"], "--out must be another folder"),
        (["--seeds", "1", "--out", "."], "--out must be an empty folder"),
        (["--seeds", "many"], "extract: --seeds must be a number, a range or a list, got 'many'"),
    ],
)
def test_what_cannot_be_taken_out_is_refused(words, message, short, capsys):
    shutil.copytree(short / "run", "run")
    before = sorted(open_run("run").folder.rglob("*"))
    assert main(["extract", "run", *words]) == 2
    assert message in capsys.readouterr().err
    assert sorted(open_run("run").folder.rglob("*")) == before


def test_groups_that_stand_at_different_steps_are_refused():
    assert trained("--seeds", "3", "--steps", "64", "--lanes-per-group", "2") == 0
    inside = open_run("run").folder / "checkpoint"
    last = max(inside.glob("0*.json"))
    last.unlink()
    with pytest.raises(ValueError, match=r"must hold a checkpoint of all these seeds .*resume run first"):
        extract("run", [0, 2], "out")
    with pytest.raises(TypeError, match="extract: seeds must be several integers, got None"):
        extract("run", None, "out")
