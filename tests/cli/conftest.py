"""What tests of the command line share."""

from pathlib import Path

import pytest

from funcrl.core import jit
from funcrl.train import collect


def run_eagerly(patch, folder):
    """Work in a folder, with programs that run eagerly: commands are about what is around them."""
    compile_before = jit._compile
    patch.setattr(jit, "_compile", lambda *given: compile_before(*given[:-1], "eager"))
    # Nor need steps be traced to be taken apart: those of a training that is eager from the start are not.
    whole = (lambda key: [key]), (lambda step: lambda given, noise: step(given, noise[0]))
    patch.setattr(collect, "hoist", lambda step, given, key: (whole[0], whole[1](step)))
    patch.chdir(folder)


@pytest.fixture
def uncompiled(monkeypatch, tmp_path):
    """A folder of its own to work in, and programs that run eagerly."""
    run_eagerly(monkeypatch, tmp_path)


@pytest.fixture
def unpainted(monkeypatch):
    """Pictures that are drawn and never painted: files without a byte.

    Painting would take longer than all else that most of these tests do.
    """
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path: Path(path).write_bytes(b""))
