"""Comparing runs on the command line."""

import json

import pytest

from funcrl.cli import main

SETTINGS = {
    "command": "funcrl train",
    "algorithm": "ppo",
    "environment": "CartPole-v1",
    "config": {},
    "num_steps": 1536,
    "asked_steps": 1536,
    "device": "cpu",
    "lanes_per_group": 4,
    "processes": 1,
}


def made(folder, finals, environment="CartPole-v1"):
    """A run whose seeds earn these returns from the first iteration on."""
    folder.mkdir()
    settings = SETTINGS | {"seeds": list(range(len(finals))), "environment": environment}
    (folder / "config.json").write_text(json.dumps(settings))
    rows = [f"{seed},{512 * i},{final},5,0.1" for i in (1, 2, 3) for seed, final in enumerate(finals)]
    (folder / "metrics.csv").write_text("\n".join(["seed,step,return,episodes,entropy", *rows]) + "\n")
    return folder


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "low", [10.0, 11.0, 12.0, 13.0])
    made(tmp_path / "high", [20.0, 21.0, 22.0, "nan"])
    made(tmp_path / "close", [9.0, 11.0, 12.5, 14.0])
    return tmp_path


def test_the_better_run_is_named_with_its_interval(runs, capsys):
    assert main(["compare", "low", "high", "--target", "15", "--out", "a.svg"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert rows[1][:3] == ["low", "4", "11.50"]
    assert rows[1][-1] == "3.50"
    assert rows[2][:3] == ["high", "4", "21.00"]
    assert rows[2][-3:] == ["100%", "[100%,", "100%]"]
    assert "high is best: its interquartile mean lies 9.50 [" in out
    assert (runs / "a.svg").read_text().startswith("<?xml")


def test_what_cannot_be_told_apart_is_said_so(runs, capsys):
    assert main(["compare", "low", "close"]) == 0
    out = capsys.readouterr().out
    assert "close has the highest interquartile mean, but cannot be told from low with these seeds" in out
    assert (runs / "compare.png").exists()


def test_one_run_alone_and_other_environments(runs, unpainted, capsys):
    assert main(["compare", "low"]) == 0
    assert "better than" not in capsys.readouterr().out
    made(runs / "other", [1.0, 2.0], "Acrobot-v1")
    assert main(["compare", "low", "other"]) == 0
    assert (
        "different environments, so that returns say little: CartPole-v1; Acrobot-v1"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "c.xyz"], "--out must end in .png, .pdf, .svg"),
        (["--out", "nowhere/c.png"], "--out must lie in a folder that can be written"),
        (["--target", "nan"], "--target must be finite"),
    ],
)
def test_options_that_cannot_be_are_refused_before_the_table(runs, capsys, words, message):
    assert main(["compare", "low", "high", *words]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""


def test_what_is_no_run_is_refused(runs, capsys):
    assert main(["compare", "low", "nowhere"]) == 2
    assert "nowhere must be the folder of a run" in capsys.readouterr().err
    made(runs / "silent", ["nan", "nan"])
    assert main(["compare", "low", "silent"]) == 2
    assert "silent must hold an episode that ended in at least one seed" in capsys.readouterr().err
    (runs / "high" / "metrics.csv").write_text("seed,step\n1,x\n")
    assert main(["compare", "low", "high"]) == 2
    assert "metrics.csv must be a table of numbers" in capsys.readouterr().err
    (runs / "high" / "metrics.csv").unlink()
    assert main(["compare", "low", "high"]) == 2
    assert "metrics.csv" in capsys.readouterr().err
