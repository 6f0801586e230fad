"""Going on from the agents of another run, on the command line."""

import json
import shutil

import pytest
import torch

from funcrl.algos import ppo
from funcrl.cli import main
from funcrl.core import tree
from funcrl.io import open_run
from funcrl.train import train
from tests.cli.conftest import run_eagerly

TINY = ["--num-envs", "2", "--window-length", "8", "--num-epochs", "1", "--num-minibatches", "1"]
TINY += ["--hidden", "4", "--processes", "1"]


pytestmark = pytest.mark.usefixtures("uncompiled", "unpainted")


def trained(out, *words):
    return main(["train", "ppo", "CartPole-v1", *words, *TINY, "--out", out])


def same(a, b):
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)


def test_a_run_goes_on_from_another_and_is_resumed_without_it(capsys):
    wrap = ["--wrap", "normalize_observation"]
    assert trained("first", "--seeds", "3:6", "--steps", "32", *wrap) == 0
    assert trained("next", "--start", "first", "--env.half-length", "0.25", "--steps", "32", *wrap) == 0
    first, after = open_run("first"), open_run("next")
    assert after.seeds == first.seeds == (3, 4, 5)
    assert after.settings["start"] == "first"
    known = after.learnt
    assert same(known.fields["params"], first.agents.params)
    assert same(
        known.env_states.inner.moments, tree.index(first.env_states.inner.moments, (slice(None), slice(1)))
    )
    # What it began with is its own: the other folder may go.
    (open_run("first").folder / "config.json").unlink()
    assert main(["resume", "next", "--steps", "48"]) == 0
    assert (
        trained("whole", "--start", "next", "--start-seed", "4", "--seeds", "2", "--steps", "16", *wrap) == 0
    )
    begun = open_run("whole").learnt
    for lane in range(2):
        assert same(tree.index(begun.fields["params"], lane), tree.index(open_run("next").agents.params, 1))


def test_groups_that_are_yet_to_begin_know_it_too(capsys):
    assert trained("first", "--seeds", "3", "--steps", "16") == 0
    words = ["--start", "first", "--lanes-per-group", "2", "--steps", "48"]
    assert trained("one", *words) == 0
    assert trained("two", *words) == 0
    for path in open_run("two").folder.glob("checkpoint/*.json"):
        if json.loads(path.read_text())["lanes"] == [2, 3]:
            path.unlink()
    assert main(["resume", "two"]) == 0
    assert same(open_run("one").agents, open_run("two").agents)
    assert (open_run("one").folder / "returns.csv").read_bytes() == (
        open_run("two").folder / "returns.csv"
    ).read_bytes()


def test_seeds_go_on_from_their_own_agents_and_what_differs_is_said(capsys):
    assert trained("first", "--seeds", "3", "--steps", "16") == 0
    capsys.readouterr()
    assert trained("next", "--start", "first", "--seeds", "2,0", "--steps", "16", "--activation", "relu") == 0
    err = capsys.readouterr().err
    assert "first has learnt with --activation 'tanh', here it is 'relu'" in err
    assert "in this order" not in err
    kept = tree.index(open_run("first").agents.params, torch.tensor([2, 0]))
    assert same(open_run("next").learnt.fields["params"], kept)
    words = ["--start", "first", "--seeds", "7:10", "--steps", "16", "--wrap", "normalize_reward"]
    assert trained("other", *words) == 0
    err = capsys.readouterr().err
    assert "seeds 7 to 9 go on from seeds 0 to 2, in this order" in err
    assert "first has learnt with --wrap [], here it is ['normalize_reward']" in err
    config = ppo.Config(num_envs=2, window_length=8, num_epochs=1, num_minibatches=1, hidden=(4,))
    given = {"config": config, "seeds": range(3), "num_steps": 16, "backend": "eager"}
    result = train("ppo", "CartPole-v1", start=open_run("first"), **given)
    again = train("ppo", "CartPole-v1", start=open_run("first").agents, **given)
    assert same(result.states, again.states)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A folder with a short run in it."""
    folder = tmp_path_factory.mktemp("short")
    with pytest.MonkeyPatch.context() as patch:
        run_eagerly(patch, folder)
        assert trained("first", "--seeds", "2", "--steps", "16") == 0
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--start", "nowhere"], "must be the folder of a run"),
        (["--start-seed", "3"], "--start-seed must stand beside --start DIR"),
        (
            ["--start", "first", "--seeds", "3"],
            "--seeds must be some of those in first (seeds 0, 1), or as many, got 'seeds 0 to 2'",
        ),
        (
            ["--start", "first", "--start-seed", "9"],
            "seeds must be those of the run's agents, got [9]. It has seeds 0, 1",
        ),
    ],
)
def test_what_cannot_be_is_refused(words, message, short, capsys):
    shutil.copytree(short / "first", "first")
    assert trained("next", *words, "--steps", "16") == 2
    assert message in capsys.readouterr().err
