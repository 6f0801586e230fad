"""`funcrl sweep` as a person meets it."""

import csv
import json

import pytest

from funcrl.cli import main
from funcrl.cli.progress import ProgressBar
from funcrl.cli.sweep import parse_over

TINY = ["--num-envs", "2", "--window-length", "8", "--num-epochs", "1", "--num-minibatches", "1"]


pytestmark = pytest.mark.usefixtures("uncompiled")


def test_a_sweep_leaves_a_tidy_table_and_a_picture_and_says_which_is_best(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "--over",
        "learning-rate=1e-4,1e-2",
        "--over",
        "hidden=(4,),(8,)",
        "--over",
        "num-epochs=2",
        "--seeds",
        "3",
        "--steps",
        "96",
    ]
    assert main(["sweep", "ppo", "CartPole-v1", *words, *TINY, "--processes", "1"]) == 0
    out, err = capsys.readouterr()
    assert "4 settings × 3 seeds in 2 programs" in err
    assert "ppo CartPole-v1 (2 of 2)" in err
    assert "learning_rate=0.01, hidden=(8,)" in out
    assert "is best" in out or "cannot be told from" in out
    folder = tmp_path / "runs" / "ppo-CartPole-v1-sweep"
    with open(folder / "sweep.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "lane",
        "seed",
        "learning_rate",
        "hidden",
        "num_epochs",
        "step",
        "return",
        "episodes",
    ]
    assert len(rows) == 4 * 3 * 6
    assert {(row["lane"], row["seed"], row["hidden"]) for row in rows} >= {
        ("0", "0", "(4,)"),
        ("11", "2", "(8,)"),
    }
    assert (folder / "sweep.png").stat().st_size > 10_000
    settings = json.loads((folder / "config.json").read_text())
    assert settings["over"] == ["learning-rate=1e-4,1e-2", "hidden=(4,),(8,)", "num-epochs=2"]
    assert settings["seeds"] == [0, 1, 2]
    assert list(folder.glob("programs/*/checkpoint/*.json")) == []
    assert main(["sweep", "ppo", "CartPole-v1", *words, *TINY, "--out", str(folder)]) == 2
    assert "--out must be an empty folder" in capsys.readouterr().err
    short = [*words[:-1], "48", "--replace", "--out", str(folder)]
    assert main(["sweep", "ppo", "CartPole-v1", *short, *TINY, "--processes", "1"]) == 0
    with open(folder / "sweep.csv") as file:
        assert len(list(csv.DictReader(file))) == 4 * 3 * 3


SWEEP = ["sweep", "ppo", "CartPole-v1", "--over", "gamma=0.9,0.99", "--over", "hidden=(4,),(8,)", *TINY]
SWEEP += ["--seeds", "2", "--steps", "64", "--lanes-per-group", "2", "--processes", "1"]
SWEEP += ["--checkpoint-every", "1e-9"]


@pytest.mark.usefixtures("unpainted")
def test_a_sweep_that_was_cut_off_goes_on_to_the_same_end(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*SWEEP, "--out", "whole"]) == 0
    call, shown = ProgressBar.__call__, []

    def interrupted(bar, progress):
        shown.append(progress.step)
        call(bar, progress)
        if len(shown) in (2, 7, 8, 17):  # of 4 for each setting: in the first, the second, the last
            raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBar, "__call__", interrupted)
    assert main([*SWEEP, "--out", "cut"]) == 130
    assert "Go on with: funcrl resume cut" in capsys.readouterr().err
    assert not (tmp_path / "cut" / "sweep.csv").exists()
    statuses = [main(["resume", "cut"]) for _ in range(4)]
    assert statuses == [130, 130, 130, 0]
    assert len(shown) < 2 * 16
    for name in ("sweep.csv", "programs/1/metrics.csv", "programs/2/metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    before = len(shown)
    assert main(["resume", "cut"]) == 0
    assert len(shown) == before  # nothing is left to train
    assert "gamma=0.99" in capsys.readouterr().out


@pytest.mark.usefixtures("unpainted")
def test_a_sweep_whose_settings_were_changed_does_not_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ProgressBar, "close", lambda bar: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([*SWEEP, "--out", "cut"])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cut" / "config.json"
    path.write_text(path.read_text().replace("gamma=0.9,0.99", "gamma=0.5,0.99"))
    assert main(["resume", "cut"]) == 2
    assert "have over = " in capsys.readouterr().err
    for command in (["evaluate", "cut"], ["extract", "cut", "--seeds", "0"]):
        assert main(command) == 2
        assert "got 'the sweep in cut'. Go on with it: funcrl resume cut" in capsys.readouterr().err
    for command in (["evaluate", "cut/programs/1"], ["resume", "cut/programs/1"]):
        assert main(command) == 2
        assert "got 'a part of the sweep in cut'. Write cut" in capsys.readouterr().err
    assert main(["resume", "cut", "--steps", "1k"]) == 2
    assert "--steps must be left out for a sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--over must name a field and its values"),
        (["--over", "gamma"], "--over must be FIELD=VALUE,VALUE, got 'gamma'"),
        (["--over", "gamma="], "--over must be FIELD=VALUE,VALUE"),
        (["--over", "gamma=0.9,0.99", "--over", "gamma=1"], "--over must name each field once"),
        (["--over", "gamma=high"], "gamma"),
        (["--over", "gama=0.9"], "must be a field of ppo.Config"),
        (["--over", "hidden=64,32"], "hidden"),
        (["--over", "gamma=0.9", "--steps", "1e-3"], "--steps must be a whole number"),
    ],
)
def test_bad_input_is_a_sentence_and_leaves_nothing(tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "ppo", "CartPole-v1", *words, *TINY]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_values_are_read_as_python_writes_them_or_as_words():
    assert parse_over(("a-b=1e-4, 2", "env.c=[1,2],x")) == {"a_b": [1e-4, 2], "env.c": [[1, 2], "x"]}


def test_help_teaches(capsys):
    assert main(["sweep", "--help"]) == 0
    assert "--over learning_rate=1e-4,3e-4,1e-3" in capsys.readouterr().out
    assert main(["sweep"]) == 2
