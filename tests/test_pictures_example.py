"""The example that draws episodes, with a small budget."""

import runpy
import sys
from pathlib import Path

from PIL import Image

EXAMPLE = Path(__file__).parents[1] / "examples" / "pictures.py"


def test_it_writes_an_animation_and_a_sheet_of_each(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--out", str(tmp_path / "new"), "--steps", "16"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    # Every second step of 16 and the first state; the robot is at its goal after 14 moves.
    expected = {"cartpole_v1": 9, "gridnavigation_v0": 15, "driving_v0": 9}
    for stem, count in expected.items():
        with Image.open(tmp_path / "new" / f"{stem}.gif") as animation:
            assert animation.n_frames == count
        with Image.open(tmp_path / "new" / f"{stem}.png") as sheet:
            assert sheet.size[0] == 4 * 328 + 8
    assert capsys.readouterr().out.count("pictures in") == 3
