"""Every example runs, with a small budget."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
TESTED_ELSEWHERE = {"pictures.py"}
SMALL = {"own_environment.py": (["--steps", "512"], "interquartile mean")}


def test_every_example_is_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SMALL) | TESTED_ELSEWHERE


@pytest.mark.compiled
@pytest.mark.parametrize("name", SMALL)
def test_an_example_runs(name, tmp_path):
    words, expected = SMALL[name]
    command = [sys.executable, str(EXAMPLES / name), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
