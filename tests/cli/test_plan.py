"""`funcrl plan`, and `funcrl train` on a bandit, as a person meets them."""

import json
import os

import pytest

from tests.cli.test_cli import run


def test_a_plan_is_printed_and_left_in_a_folder(capsys, tmp_path, unpainted, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "plan", "value_iteration", "CliffWalking-v1", "--gamma", "1")
    assert status == 0
    for text in ("converged after 15 sweeps", "-13.000000", "  →↓", "-12.00", "C      G", "γ = 1"):
        assert text in out
    folder = tmp_path / "runs" / "value_iteration-CliffWalking-v1"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "plan.png", "values.csv"]
    settings = json.loads((folder / "config.json").read_text())
    assert settings["config"]["gamma"] == 1.0
    # A second plan does not touch the first; --replace does.
    assert run(capsys, "plan", "policy_iteration", "CliffWalking-v1", "--out", str(folder))[0] == 2
    assert json.loads((folder / "config.json").read_text()) == settings
    status, *_ = run(capsys, "plan", "policy_iteration", "CliffWalking-v1", "--out", str(folder), "--replace")
    assert status == 0
    assert json.loads((folder / "config.json").read_text())["algorithm"] == "policy_iteration"


def test_what_has_no_grid_is_a_table(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "plan", "policy_iteration", "Taxi-v3")
    assert status == 0
    assert "best actions" in out
    assert "480 more states" in out
    assert not (tmp_path / "runs" / "policy_iteration-Taxi-v3" / "plan.png").exists()


def test_gymnasiums_own_tables_are_read(capsys, tmp_path, unpainted, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "plan", "value_iteration", "gymnasium:FrozenLake-v1", "--gamma", "0.99")
    assert status == 0
    assert "0.542026" in out


def test_values_that_have_not_converged_are_said_to_be_so(capsys, tmp_path, unpainted, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "plan", "value_iteration", "CliffWalking-v1", "--max-sweeps", "3")
    assert status == 1
    assert "NOT converged" in out
    assert "warning: solve" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["value_iteratio", "CliffWalking-v1"], "Did you mean 'value_iteration'"),
        (["q_learning", "CliffWalking-v1"], "funcrl train q_learning"),
        (["value_iteration", "CartPole-v1"], "lists its outcomes"),
        (["value_iteration", "CliffWalkin-v1"], "Did you mean 'CliffWalking-v1'"),
        (["value_iteration", "CliffWalking-v1", "--gamma", "2"], "gamma must lie in [0, 1], got 2"),
        (["value_iteration", "CliffWalking-v1", "--max-sweeps", "0"], "max_sweeps must be at least 1"),
        (["value_iteration"], "ENVIRONMENT"),
    ],
)
def test_bad_input_ends_with_2_and_leaves_nothing(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, "plan", *words)
    assert status == 2
    assert message in " ".join(err.replace("│", " ").split())
    assert not any(files for _, _, files in os.walk(tmp_path))


def test_planners_are_no_algorithms_to_train(capsys):
    status, _, err = run(capsys, "train", "value_iteration", "CliffWalking-v1")
    assert status == 2
    assert "funcrl plan value_iteration" in err


def test_help_teaches(capsys):
    for words in (["plan"], ["plan", "--help"], ["plan", "value_iteration", "--help"]):
        _, out, _ = run(capsys, *words)
        assert "CliffWalking-v1" in out
    _, out, _ = run(capsys, "list")
    for text in ("algorithms for funcrl plan", "value_iteration", "BernoulliBandit-v0, bernoulli"):
        assert text in out


def test_a_bandit_reports_its_regret(capsys, tmp_path, uncompiled, unpainted):
    status, out, _ = run(capsys, "train", "epsilon_greedy", "bernoulli", "--seeds", "5", "--steps", "300")
    assert status == 0
    for text in ("cumulative regret", "mean  ", "95 % interval", "best", "worst"):
        assert text in out
    folder = tmp_path / "runs" / "epsilon_greedy-bernoulli"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [100, 200, 300]
    assert f"{rows[-1]['cumulative_regret']:.2f}" in out
    assert (folder / "curve.png").exists()
