"""Checkpoints, tables and pictures."""

import csv
import json
import math

import pytest
import safetensors
import safetensors.torch
import torch

from funcrl.algos import ppo
from funcrl.core import tree
from funcrl.io import Recorder, check_folder, free_folder, learning_curve, load, save
from funcrl.train import train
from tests.cli.conftest import leave_unpainted

TREE = {"a": torch.arange(3), "b": (torch.tensor(True), torch.tensor(1.5, dtype=torch.float64))}
SMALL = ppo.Config(num_envs=2, window_length=8, num_epochs=1, num_minibatches=1, hidden=(4,))


def test_every_dtype_comes_back(tmp_path):
    save(tmp_path / "x.safetensors", TREE, {"note": "hello"})
    again = load(tmp_path / "x.safetensors", like=TREE)
    for a, b in zip(tree.leaves(TREE), tree.leaves(again), strict=True):
        assert torch.equal(a, b)
        assert a.dtype == b.dtype
    with safetensors.safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata()["note"] == "hello"


def test_views_and_shared_tensors_are_saved_as_they_look(tmp_path):
    x = torch.arange(6.0).reshape(2, 3)
    save(
        tmp_path / "x.safetensors",
        {"row": x[1], "column": x[:, 1], "same": x[1], "wide": x[:, :1].expand(2, 3)},
    )
    again = load(tmp_path / "x.safetensors", like={"row": x[1], "column": x[:, 1], "same": x[1], "wide": x})
    assert again["column"].tolist() == [1.0, 4.0]
    assert again["wide"].tolist() == [[0.0] * 3, [3.0] * 3]


def test_loading_refuses_what_does_not_fit(tmp_path):
    path = tmp_path / "x.safetensors"
    save(path, TREE)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "y.safetensors", like=TREE)
    with pytest.raises(ValueError, match=r"load: .* must hold the leaves of `like`"):
        load(path, like={"a": TREE["a"]})
    with pytest.raises(ValueError, match=r"load: \['a'\] must be \(4,\)"):
        load(path, like=TREE | {"a": torch.arange(4)})
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="must be a whole safetensors file"):
        load(path, like=TREE)


def test_a_failing_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save(path, {"a": torch.zeros(2)})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save(path, {"a": torch.ones(2)})
    monkeypatch.undo()
    assert load(path, like={"a": torch.ones(2)})["a"].tolist() == [0.0, 0.0]
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_the_recorder_writes_tidy_returns_and_strict_json(tmp_path):
    check_folder(tmp_path / "run", replace=False)
    recorder = Recorder(tmp_path / "run", {"rate": math.inf, "hidden": (4,)})
    result = train(
        "ppo", "CartPole-v1", config=SMALL, seeds=[4, 2], num_steps=80, callback=recorder, backend="eager"
    )
    recorder.finish(result, {"algorithm": "ppo"})
    with open(tmp_path / "run" / "returns.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 5
    for i, row in enumerate(rows):
        assert (int(row["seed"]), int(row["step"])) == ((4, 2)[i % 2], 16 * (i // 2 + 1))
        expected = float(result.returns[i % 2, i // 2])
        assert float(row["return"]) == pytest.approx(expected, rel=1e-5, nan_ok=True)

    def refuse(constant):
        raise AssertionError(constant)

    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    parsed = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [line["step"] for line in parsed] == [16, 32, 48, 64, 80]
    assert parsed[-1]["entropy"] == pytest.approx(float(result.metrics["entropy"][:, -1].mean()))
    settings = json.loads((tmp_path / "run" / "config.json").read_text(), parse_constant=refuse)
    assert settings == {"rate": "inf", "hidden": [4]}
    again = load(tmp_path / "run" / "checkpoint" / "states.safetensors", like=result.states)
    assert torch.equal(
        again.params["actor"]["layers.0.weight"], result.states.params["actor"]["layers.0.weight"]
    )


RUN = '{"command": "funcrl train", "algorithm": "ppo", "seeds": [0]}'


def earlier_run(folder):
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "config.json").write_text(RUN)
    (folder / "checkpoint" / "states.safetensors").write_text("x")
    return folder


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_free_folder_is_made_and_a_taken_one_is_refused(tmp_path):
    folder = tmp_path / "a" / "run"
    assert free_folder(folder) == folder
    check_folder(folder, replace=False)
    assert folder.is_dir()
    folder.rmdir()
    earlier_run(folder)
    assert free_folder(folder) == tmp_path / "a" / "run-2"
    with pytest.raises(ValueError, match="--out must be an empty folder"):
        check_folder(folder, replace=False)
    check_folder(folder, replace=True)
    assert files(folder) == ["checkpoint", "checkpoint/states.safetensors", "config.json"]


@pytest.mark.parametrize("foreign", ["thesis.tex", "checkpoint/my_best.safetensors", "checkpoint/keep/a"])
def test_replacing_refuses_a_folder_with_anything_else_in_it(tmp_path, foreign):
    folder = earlier_run(tmp_path / "run")
    (folder / foreign).parent.mkdir(exist_ok=True)
    (folder / foreign).write_text("years of work")
    with pytest.raises(ValueError, match="hold nothing but an earlier run to be replaced"):
        check_folder(folder, replace=True)
    assert (folder / foreign).read_text() == "years of work"


def test_replacing_refuses_links_and_what_is_no_run(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "states.safetensors").write_text("elsewhere")
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "config.json").write_text(RUN)
    (linked / "checkpoint").symlink_to(other)
    somebodys = tmp_path / "somebodys"
    somebodys.mkdir()
    (somebodys / "config.json").write_text('{"editor": "vim"}')
    for folder in (linked, somebodys):
        with pytest.raises(ValueError, match="hold nothing but an earlier run to be replaced"):
            check_folder(folder, replace=True)
    assert (other / "states.safetensors").exists()


def test_folders_that_cannot_be_made_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="--out must be a folder"):
        check_folder(tmp_path / "file", replace=True)
    with pytest.raises(ValueError, match="--out must be a folder that can be made"):
        check_folder(tmp_path / "file" / "below", replace=False)


def test_an_earlier_run_is_left_alone_until_the_first_iteration_is_done(tmp_path):
    folder = earlier_run(tmp_path / "run")
    recorder = Recorder(folder, {})
    recorder.finish(None, {})
    assert (folder / "config.json").read_text() == RUN
    recorder = Recorder(folder, {"new": 1})
    train("ppo", "CartPole-v1", config=SMALL, seeds=[0], num_steps=16, callback=recorder, backend="eager")
    recorder.finish(None, {})
    assert "new" in (folder / "config.json").read_text()
    assert files(folder) == [
        "checkpoint",
        "config.json",
        "metrics.csv",
        "metrics.jsonl",
        "returns.csv",
        "times.csv",
    ]


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_the_picture_is_drawn(tmp_path, seeds):
    result = train("ppo", "CartPole-v1", config=SMALL, seeds=seeds, num_steps=64, backend="eager")
    learning_curve(result, "a title", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_shows_the_iqm_over_seeds(tmp_path, monkeypatch):
    leave_unpainted(monkeypatch)
    from matplotlib.axes import Axes

    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, *a, **k: drawn.append((a, k)) or plot(self, *a, **k))
    result = train("ppo", "CartPole-v1", config=SMALL, seeds=range(5), num_steps=64, backend="eager")
    result.returns[:] = torch.tensor([1.0, 2.0, 3.0, 4.0, 100.0])[:, None]
    learning_curve(result, "a title", tmp_path / "curve.png")
    (center,) = (a[1] for a, k in drawn if "mean of" in k.get("label", ""))
    assert center.tolist() == [3.0] * 4


def test_the_same_states_make_the_same_file(tmp_path):
    """In whichever order the text comes, and in whichever process: safetensors has an order of its own."""
    text = {name: name for name in ("environment", "algorithm", "seeds", "ä")}
    for number in range(20):
        save(tmp_path / str(number), {"a": torch.ones(3), "b": torch.zeros(())}, text)
    assert len({(tmp_path / str(number)).read_bytes() for number in range(20)}) == 1
    with safetensors.safe_open(tmp_path / "0", "pt") as file:
        assert {name: value for name, value in file.metadata().items() if name != "crc32"} == text


def test_a_number_that_was_changed_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    save(path, TREE)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="must be as it was written, got 'another checksum'"):
        load(path, like=TREE)
    safetensors.torch.save_file({"['a']": torch.ones(2)}, path)  # one of another program, without a checksum
    assert load(path, like={"a": torch.zeros(2)})["a"].tolist() == [1.0, 1.0]
