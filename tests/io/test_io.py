"""Checkpoints, tables and pictures."""

import csv
import json
import math

import pytest
import safetensors.torch
import torch

from funcrl.algos import ppo
from funcrl.core import tree
from funcrl.io import Recorder, claim_folder, free_folder, learning_curve, load, save
from funcrl.train import train

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
    claim_folder(tmp_path / "run", replace=False)
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


def test_folders_are_claimed_with_care(tmp_path):
    folder = tmp_path / "a" / "run"
    assert free_folder(folder) == folder
    claim_folder(folder, replace=False)
    (folder / "config.json").write_text("{}")
    (folder / "checkpoint" / "states.safetensors").write_text("x")
    assert free_folder(folder) == tmp_path / "a" / "run-2"
    with pytest.raises(ValueError, match="--out must be an empty folder"):
        claim_folder(folder, replace=False)
    assert (folder / "config.json").exists()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(
        ValueError, match=r"hold nothing but an earlier run to be replaced, got \['thesis.tex'\]"
    ):
        claim_folder(folder, replace=True)
    assert (folder / "config.json").exists()
    (folder / "thesis.tex").unlink()
    claim_folder(folder, replace=True)
    assert sorted(path.name for path in folder.rglob("*")) == ["checkpoint"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="--out must be a folder"):
        claim_folder(tmp_path / "file", replace=True)


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_the_picture_is_drawn(tmp_path, seeds):
    result = train("ppo", "CartPole-v1", config=SMALL, seeds=seeds, num_steps=64, backend="eager")
    learning_curve(result, "a title", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_shows_the_iqm_over_seeds(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, *a, **k: drawn.append((a, k)) or plot(self, *a, **k))
    result = train("ppo", "CartPole-v1", config=SMALL, seeds=range(5), num_steps=64, backend="eager")
    result.returns[:] = torch.tensor([1.0, 2.0, 3.0, 4.0, 100.0])[:, None]
    learning_curve(result, "a title", tmp_path / "curve.png")
    (center,) = (a[1] for a, k in drawn if "mean of" in k.get("label", ""))
    assert center.tolist() == [3.0] * 4
