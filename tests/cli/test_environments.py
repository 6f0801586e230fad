"""Environments on the command line, and evaluating what has learnt in them."""

import csv
import json
from pathlib import Path

import pytest

from funcrl import envs
from funcrl.cli import main
from funcrl.io import open_run, recorder

TINY = ["--num-envs", "2", "--window-length", "8", "--num-epochs", "1", "--num-minibatches", "1"]


pytestmark = pytest.mark.usefixtures("uncompiled", "unpainted")


def trained(*words):
    return main(["train", "ppo", *words, *TINY, "--processes", "1", "--out", "run"])


def test_fields_and_wrappers_are_those_of_the_run_that_is_opened_and_resumed(capsys):
    words = ["--env.half-length", "0.25,0.5", "--env.max_episode_steps=20", "--wrap", "frame_stack=2"]
    words += ["--wrap", "normalize_observation", "--seeds", "2", "--steps", "48"]
    assert trained("CartPole-v1", *words) == 0
    run = open_run("run")
    assert isinstance(run.env, envs.NormalizeObservation)
    assert envs.innermost(run.env).half_length == [0.25, 0.5]
    assert run.settings["wrappers"] == [
        "frame_stack=2",
        "normalize_observation",
    ]
    assert main(["resume", "run", "--steps", "96"]) == 0
    assert open_run("run").returns.shape == (2, 6)
    assert run.env_states.inner.mean.shape[:2] == (2, 2) if hasattr(run.env_states.inner, "mean") else True
    assert main(["evaluate", "run", "--episodes", "3"]) == 0
    with open("run/evaluation.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["episode"]) for row in rows] == [(s, e) for s in "01" for e in "012"]
    assert all(1 <= float(row["return"]) <= 20 for row in rows)
    out = capsys.readouterr().out
    assert "2 seeds × 3 episodes, greedy" in out
    assert main(["evaluate", "run", "--episodes", "3", "--stochastic"]) == 0
    assert "drawing from the policy" in capsys.readouterr().out


def test_a_run_is_repeated_exactly_from_its_settings():
    words = ["--env.half-length", "0.25", "--wrap", "frame_stack=2", "--seeds", "3,5,", "--steps", "2000"]
    words += [
        "--window-length",
        "1",
        "--processes",
        "1",
        "--num-envs",
        "142",
        "--hidden",
        "4",
        "--warmup-steps",
        "500",
        "--buffer-size",
        "7100",
    ]
    assert main(["train", "dqn", "CartPole-v1", *words, "--out", "run"]) == 0
    assert main(["train", "--config", "run/config.json", "--processes", "1", "--out", "again"]) == 0
    for name in ("returns.csv", "metrics.csv", "checkpoint/states.safetensors"):
        assert (Path("run") / name).read_bytes() == (Path("again") / name).read_bytes()
    # 1988 of 2000 steps are whole iterations; planned anew for 1988 an iteration would be twice as long.
    assert len(open_run("run").steps) == 2
    assert open_run("run").plan().num_iterations == 2
    assert (
        main(["train", "--config", "run/config.json", "--seeds", "1", "--gamma", "0.9", "--out", "other"])
        == 0
    )
    other = open_run("other")
    assert (other.seeds, other.config.gamma, other.config.hidden) == ((0,), 0.9, (4,))


@pytest.mark.parametrize("words", [["--config"], ["--config", "nothing.json"], ["--config", "."]])
def test_settings_that_are_not_there_are_a_sentence(words, capsys):
    assert main(["train", *words]) == 2
    assert capsys.readouterr().err.startswith("error: train: --config must")


def test_a_run_whose_settings_were_changed_does_not_go_on(capsys):
    assert trained("CartPole-v1", "--seeds", "2", "--steps", "32") == 0
    path = Path("run/config.json")
    written, before = json.loads(path.read_text()), Path("run/returns.csv").read_bytes()
    for name, value, message in (
        ("seeds", [0, 7], "have seeds = [0, 1], with which its checkpoint was made, got [0, 7]"),
        ("config", {"gamma": 0.5}, "have config.gamma = 0.99, with which its checkpoint was made, got 0.5"),
        ("config", {"hidden": [3]}, "have config.hidden = [64, 64]"),
        ("environment", "Acrobot-v1", "have environment = 'CartPole-v1'"),
    ):
        changed = {**written[name], **value} if isinstance(value, dict) else value
        path.write_text(json.dumps({**written, name: changed}))
        assert main(["resume", "run", "--steps", "64"]) == 2
        assert message in capsys.readouterr().err
        assert Path("run/returns.csv").read_bytes() == before


def test_without_its_clock_a_run_goes_on_and_without_a_table_it_is_said_which(capsys):
    assert trained("CartPole-v1", "--seeds", "2", "--steps", "32") == 0
    Path("run/times.csv").unlink()
    assert main(["resume", "run", "--steps", "64", "--processes", "1"]) == 0
    assert Path("run/times.csv").read_text().startswith("seed,step,seconds\n0,48,")
    Path("run/metrics.jsonl").unlink()
    capsys.readouterr()
    assert main(["resume", "run/config.json", "--steps", "96"]) == 2
    err = capsys.readouterr().err
    assert "metrics.jsonl must be there as the run wrote it, but is missing" in err
    assert err.count("The one before is used") <= 1
    assert "warnings.warn" not in err


def test_a_disk_that_is_full_at_the_end_is_a_sentence_that_says_how_to_go_on(monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder, "save", full)
    assert trained("CartPole-v1", "--seeds", "2", "--steps", "32") == 1
    out, err = capsys.readouterr()
    assert "interquartile mean" in out
    assert "the final agents could not be written into run: No space left on device. Make room there" in err
    assert "funcrl resume run" in err


def test_a_rejected_option_leaves_no_folder(tmp_path):
    for words in (["--checkpoint-every", "-3"], ["--keep-checkpoints", "0"], ["--track", "nothing"]):
        assert main(["train", "ppo", "CartPole-v1", *words, *TINY]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_is_not_taken_for_a_run(capsys):
    words = ["--over", "gamma=0.9,0.99", "--seeds", "2", "--steps", "32", "--processes", "1", *TINY]
    assert main(["sweep", "ppo", "CartPole-v1", *words, "--out", "sweep"]) == 0
    for command in (
        ["evaluate", "sweep"],
        ["compare", "sweep"],
        ["train", "--config", "sweep"],
    ):
        capsys.readouterr()
        assert main(command) == 2
        assert "must hold one run, got 'the sweep in sweep'" in capsys.readouterr().err


def test_episodes_without_a_limit_want_one(capsys):
    words = ["--seeds", "2", "--steps", "200", "--processes", "1", "--out", "run"]
    assert main(["train", "ucb", "bernoulli", *words]) == 0
    assert main(["evaluate", "run"]) == 2
    assert "--max-steps must be given" in capsys.readouterr().err
    assert main(["evaluate", "run", "--max-steps", "1", "--episodes", "3"]) == 0


def test_a_table_of_numbers_is_learnt_from_the_command_line():
    assert trained("Taxi-v3", "--wrap", "flatten", "--seeds", "2", "--steps", "32") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env.half-lenght", "1"], "half_lenght"),
        (["--env.half-length"], "--env.half-length must have a value"),
        (["--env.=1"], "must name a field"),
        (["--env.length=1", "--env.length=2"], "must stand once"),
        (["--env.half-length", "long"], "half_length"),
        (["--env.half-length", "1,2,3", "--seeds", "2"], "half_length"),
        (["--wrap", "flaten"], "--wrap must be one of"),
    ],
)
def test_bad_input_is_a_sentence(capsys, words, message):
    assert trained("CartPole-v1", *words) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err


def test_evaluating_what_is_not_there_is_a_sentence(capsys):
    assert main(["evaluate", "nowhere"]) == 2
    assert "nowhere must be the folder of a run" in capsys.readouterr().err
    assert trained("CartPole-v1", "--seeds", "2", "--steps", "32") == 0
    assert main(["evaluate", "run", "--episodes", "0"]) == 2
    assert "--episodes must be at least 1" in capsys.readouterr().err
    path = open_run("run").folder / "checkpoint" / "states.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    assert main(["evaluate", "run"]) == 2
    assert "must be a whole safetensors file" in capsys.readouterr().err
    path.unlink()
    assert main(["evaluate", "run"]) == 2
    assert "Where nothing trains it any more, write funcrl resume run" in capsys.readouterr().err
