"""Trackers: what they are told, and what becomes of those that fail."""

import pytest

from funcrl.cli import main
from funcrl.io import Recorder, check_folder, make_tracker
from funcrl.io.folders import clear
from funcrl.train import train
from tests.cli.conftest import leave_unpainted, run_eagerly
from tests.io.test_io import SMALL


class Remembers:
    """A tracker of one's own."""

    def __init__(self):
        self.told = []

    def begin(self, folder, settings):
        self.told.append(("begin", folder, settings))

    def log(self, step, seeds, figures):
        self.told.append((step, seeds, figures))

    def end(self):
        self.told.append("end")


class Raises(Remembers):
    def log(self, step, seeds, figures):
        super().log(step, seeds, figures)
        raise OSError("the wire is cut")


def run(folder, *trackers, steps=48):
    recorder = Recorder(folder, {"command": "", "algorithm": "ppo"}, trackers=trackers)
    given = {"config": SMALL, "seeds": [4, 2], "num_steps": steps, "backend": "eager"}
    result = train("ppo", "CartPole-v1", callback=recorder, **given)
    recorder.finish(result, {})
    return result


def test_a_tracker_is_told_every_iteration(tmp_path):
    tracker = Remembers()
    result = run(tmp_path, tracker)
    begin, *rows, end = tracker.told
    assert begin == ("begin", tmp_path, {"command": "", "algorithm": "ppo"})
    assert end == "end"
    assert [(step, seeds) for step, seeds, _ in rows] == [(16 * i, (4, 2)) for i in (1, 2, 3)]
    assert rows[-1][2]["entropy"] == pytest.approx(float(result.metrics["entropy"][:, -1].mean()))


def test_one_that_raises_is_left_out_and_training_goes_on(tmp_path):
    raises, other = Raises(), Remembers()
    with pytest.warns(
        RuntimeWarning, match="tracker Raises must not raise, but its log raised OSError: the wire is cut"
    ):
        result = run(tmp_path, raises, other)
    assert len(result.steps) == 3
    assert len(raises.told) == 2
    assert len(other.told) == 5
    assert (tmp_path / "returns.csv").read_text().count("\n") == 1 + 2 * 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", "--track must be one of tensorboard, wandb, or module:class of your own"),
        ("nowhere:Class", "No module named 'nowhere'"),
        ("tests.io.test_trackers:Nothing", "has no attribute 'Nothing'"),
        (
            "builtins:dict",
            "--track must have begin, log and end, got 'builtins:dict without begin, log, end'",
        ),
    ],
)
def test_what_is_no_tracker_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        make_tracker(name)


def test_one_of_ones_own_from_the_command_line(tmp_path, monkeypatch, capsys):
    run_eagerly(monkeypatch, tmp_path)
    leave_unpainted(monkeypatch)
    words = ["--seeds", "2", "--steps", "48", "--num-envs", "2", "--window-length", "8", "--processes", "1"]
    words += ["--num-epochs", "1", "--num-minibatches", "1", "--out", "run"]
    assert main(["train", "ppo", "CartPole-v1", *words, "--track", "tests.io.test_trackers:Remembers"]) == 0
    assert main(["train", "ppo", "CartPole-v1", *words, "--replace", "--track", "tensorbord"]) == 2
    assert "--track must be one of" in capsys.readouterr().err


def test_tensorboard_has_the_figures(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = run(tmp_path, make_tracker("tensorboard"))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = events.Scalars("entropy")
    assert [event.step for event in found] == [16, 32, 48]
    assert found[-1].value == pytest.approx(float(result.metrics["entropy"][:, -1].mean()))


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run(tmp_path, make_tracker("wandb"))
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    (tmp_path / "config.json").write_text('{"command": "", "algorithm": "ppo"}')
    check_folder(tmp_path, replace=True)
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
