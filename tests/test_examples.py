"""Every example runs, with a small budget."""

import functools
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from funcrl.algos import ppo
from tests.cli.conftest import paint_quickly

EXAMPLES = Path(__file__).parent.parent / "examples"
TESTED_ELSEWHERE = {"pictures.py"}
QUICK = ["--backend", "eager", "--seeds", "2", "--steps", "40"]
SMALL = {
    "autoencoder.py": (
        ["--backend", "aot_eager", "--seeds", "2", "--epochs", "1"],
        "the mean image: 0.0744",
        "autoencoder.png",
    ),
    "bandits.py": ([*QUICK[:-1], "10"], "Lai & Robbins: 2.252 ln t", "bandits.png"),
    "cliff_walking.py": (QUICK, "value_iteration    V(start) = -13.000000", "cliff_walking.png"),
    "grid_navigation.py": (
        ["--backend", "eager", "--seeds", "2", "--steps", "1024", "--episodes", "5"],
        "success on 5 unseen layouts",
        "grid_navigation.png",
    ),
    "memory.py": (
        ["--backend", "eager", "--seeds", "2", "--steps", "0"],
        "T-maze of length 20, without a memory: interquartile mean",
        "memory.png",
    ),
    "own_environment.py": (
        ["--backend", "eager", "--steps", "512"],
        "interquartile mean",
        "own_environment.png",
    ),
    "transfer.py": (
        [
            "--backend",
            "eager",
            "--seeds",
            "2",
            "--steps",
            "1024",
            "--images",
            "300",
            "--epochs",
            "1",
            "--episodes",
            "5",
        ],
        "from scratch: success",
        "transfer.png",
    ),
    "split_network.py": (
        ["--windows", "1", "--hidden", "8,8"],
        "the agent has 773 numbers, of which each of 2 ranks holds",
        "split_network.png",
    ),
    "overestimation.py": (QUICK, "Q* at the first table: 0.000 for going home, -0.100", "overestimation.png"),
}


def test_every_example_is_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*SMALL} | TESTED_ELSEWHERE


@pytest.mark.parametrize("name", SMALL)
def test_an_example_runs(name, tmp_path, monkeypatch, capfd):
    words, expected, picture = SMALL[name]
    command = [str(EXAMPLES / name), *words]
    if name == "bandits.py":  # as a person calls it; the others here, where torch is imported already
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stderr
        said = done.stdout
    else:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", command)
        copies = functools.partial(torch.multiprocessing.start_processes, start_method="fork")
        monkeypatch.setattr(torch.multiprocessing, "spawn", copies)
        paint_quickly(monkeypatch)
        if name == "split_network.py":
            # Its window is as long as those of users, and has no word of its own.
            configured = ppo.Config
            few = {"window_length": 16, "num_epochs": 1}
            monkeypatch.setattr(ppo, "Config", lambda **given: configured(**(given | few)))
        runpy.run_path(command[0], run_name="__main__")
        said = capfd.readouterr().out
    assert expected in said
    assert {path.name for path in tmp_path.iterdir()} == {picture}
