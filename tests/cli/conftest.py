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


def leave_unpainted(patch):
    """Let pictures be drawn and never painted: files without a byte.

    Painting would take longer than all else that most tests with pictures do.
    """
    patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path: Path(path).write_bytes(b""))


@pytest.fixture
def unpainted(monkeypatch):
    """See above."""
    leave_unpainted(monkeypatch)


def paint_quickly(patch):
    """Paint pictures as small as they can be, and where their parts happen to lie: to arrange them draws all of them once more."""
    from matplotlib.figure import Figure

    save = Figure.savefig

    def quickly(figure, path):
        figure.set_layout_engine("none")
        save(figure, path, dpi=30)

    patch.setattr(Figure, "savefig", quickly)


@pytest.fixture
def quickly_painted(monkeypatch):
    """See above."""
    paint_quickly(monkeypatch)
