"""`funcrl watch`: where runs stand, read from outside."""

import json
import time
from pathlib import Path

import pytest

from funcrl.cli import main
from funcrl.io import only_writer
from funcrl.io.watching import sparkline, standings
from tests.cli.test_cli import TINY

pytestmark = pytest.mark.usefixtures("uncompiled", "unpainted")

TINY = [*TINY, "--num-epochs", "1"]
WORDS = ["train", "ppo", "CartPole-v1", *TINY, "--processes", "1"]


def test_it_says_how_far_runs_are_and_what_they_reach(tmp_path, capsys):
    assert main([*WORDS, "--seeds", "3", "--steps", "80", "--out", "done"]) == 0
    assert main([*WORDS, "--seeds", "4", "--lanes-per-group", "2", "--steps", "80", "--out", "half"]) == 0
    lines = (tmp_path / "half/metrics.jsonl").read_bytes().splitlines(keepends=True)
    # As it was after the first group and half of the second, in the middle of a line.
    (tmp_path / "half/metrics.jsonl").write_bytes(b"".join(lines[:6]) + lines[6][:20])
    (done,), (half,) = standings(Path("done")), standings(Path("half"))
    assert (done.state, done.done, done.step) == ("done", 1.0, 80)
    assert (half.state, half.done, half.step, len(half.returns)) == ("stopped", 0.75, 40, 2)
    assert half.returns[-1] == pytest.approx(json.loads(lines[5])["return_iqm"])
    with only_writer(Path("half")):
        (half,) = standings(Path("half"))
        assert half.state == "running"
        assert half.age < 60
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert main(["watch", "done", "half"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1] == "ppo CartPole-v1"
    assert out[2].split()[:4] == ["done", "done", "100%", "80"]
    assert out[3].split()[:4] == ["half", "stopped", "75%", "40"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_it_looks_again_until_nothing_is_written(tmp_path, capsys, monkeypatch):
    assert main([*WORDS, "--seeds", "2", "--steps", "40", "--out", "run"]) == 0
    capsys.readouterr()
    holds = only_writer(Path("run"))
    holds.__enter__()
    monkeypatch.setattr(time, "sleep", lambda seconds: holds.__exit__(None, None, None))
    assert main(["watch", "run"]) == 0
    assert capsys.readouterr().out.count("ppo CartPole-v1") == 2


def test_it_shows_programs_of_sweeps_and_shards_of_ranks(tmp_path, capsys, monkeypatch):
    words = ["sweep", "ppo", "CartPole-v1", *TINY[:4], *TINY[6:], "--seeds", "2", "--steps", "40"]
    words += ["--processes", "1"]
    assert main([*words, "--over", "gamma=.9,.8", "--over", "hidden=(4,),(3,)", "--out", "swept"]) == 0
    assert [(one.name, one.state) for one in standings(Path("swept"))] == [
        ("swept 1", "done"),
        ("swept 2", "done"),
    ]
    with monkeypatch.context() as patch:
        patch.setenv("RANK", "1")
        patch.setenv("WORLD_SIZE", "2")
        assert main([*WORDS, "--seeds", "5", "--steps", "40", "--out", "shared"]) == 0
    found = list(standings(Path("shared")))
    assert [(one.name, one.state, one.step) for one in found] == [
        ("shared 0–2", "not begun", 0),
        ("shared 3–4", "done", 40),
    ]


def test_bars_rise_with_numbers():
    assert sparkline([float(x) for x in range(8)], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0, 1.0], 8) == "▁▁"
    assert len(sparkline([float(x) for x in range(1000)], 24)) == 24


def test_among_others_a_folder_without_a_run_is_named_and_one_that_is_held_is_waited_for(
    tmp_path, capsys, monkeypatch
):
    assert main([*WORDS, "--seeds", "2", "--steps", "40", "--out", "run"]) == 0
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert main(["watch", "empty", "run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "empty: no run"
    holds = only_writer(Path("empty"))
    holds.__enter__()
    monkeypatch.setattr(time, "sleep", lambda seconds: holds.__exit__(None, None, None))
    assert main(["watch", "empty"]) == 2  # its process has ended without a run
    out, err = capsys.readouterr()
    assert out == "empty: about to begin\n"
    assert "empty must be the folder of a run" in err


def test_what_is_no_run_is_refused(tmp_path, capsys):
    for words, message in (
        (["away"], "watch: DIR must be a folder that is there, got 'away'"),
        (["--every", "0", "away"], "--every must be above 0"),
    ):
        assert main(["watch", *words]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/config.json").write_text("{")
    assert main(["watch", "bad"]) == 2
    (tmp_path / "bad/config.json").write_text('{"command": "funcrl plan"}')
    assert main(["watch", "bad"]) == 2
    assert "must hold a run or a sweep, got 'funcrl plan'" in capsys.readouterr().err
