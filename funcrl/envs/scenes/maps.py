"""Pictures of worlds that are maps of letters: a frozen lake, the way along a cliff."""

from __future__ import annotations

import math
from collections.abc import Sequence

from funcrl.envs.drawing import INK, Canvas, Frame, Point
from funcrl.envs.scenes import figures

ICE, EARTH = "#e4f1f8", "#e3d7bd"
_SEAMS = {ICE: "#b9cdd9", EARTH: "#cbbd9d"}
_GRASS = "#cfe8d5"
_WATER, _SHORE = "#1d4f7c", "#8db9d6"
_ROCK, _DEPTH = "#7d7466", "#33302c"
_MAT, _WEAVE = "#b98b5e", "#cda57c"
_EDGE, _HOLE = 0.08, 0.37
"""width of the frame, and radius of a hole, where a cell is 1 wide"""
_WIDTH, _LARGEST = 720, 120
"""pixels: of a whole picture, about, and of a cell at most"""


def picture(desc: Sequence[str], position: int, floor: str) -> Frame:
    """Return a picture of a map with the agent on it, `[H, W, 3]`.

    Args:
        desc: One string a row: S start (a mat), F floor, H hole, G goal (a flag), C cliff.
        position: Number of columns · row + column, row 0 at the top.
        floor: Colour of the ground, `ICE` or `EARTH`.
    """
    rows, columns = len(desc), len(desc[0])
    cell = max(8, min(_LARGEST, _WIDTH // max(rows, columns)))
    width = round(cell * (columns + 2 * _EDGE))
    canvas = Canvas((-_EDGE, columns + _EDGE), (-_EDGE, rows + _EDGE), width, background=INK)
    for row, letters in enumerate(desc):
        for column, letter in enumerate(letters):
            _tile(canvas, (column, rows - 1 - row), letter, floor)
    row, column = divmod(position, columns)
    at = (column, rows - 1 - row)
    if desc[row][column] == "H":
        _sunk(canvas, at)
    elif desc[row][column] == "G":  # small and low, so that the flag is seen above the head
        figures.agent(canvas, (at[0] + 0.62, at[1] + 0.3), 0.24)
    else:
        figures.agent(canvas, (at[0] + 0.5, at[1] + 0.5), 0.32)
    return canvas.frame()


def _tile(canvas: Canvas, corner: Point, letter: str, floor: str) -> None:
    x, y = corner
    canvas.rectangle(x, y, x + 1, y + 1, _SEAMS[floor])
    canvas.rectangle(x + 0.015, y + 0.015, x + 0.985, y + 0.985, _GRASS if letter == "G" else floor)
    if letter == "C":
        _cliff(canvas, corner)
    elif letter == "H":
        canvas.circle((x + 0.5, y + 0.5), 0.42, _SHORE)
        canvas.circle((x + 0.5, y + 0.5), _HOLE, _WATER)
    elif letter == "S":
        canvas.rectangle(x + 0.08, y + 0.08, x + 0.92, y + 0.92, _MAT, radius=0.1)
        canvas.rectangle(x + 0.16, y + 0.16, x + 0.84, y + 0.84, _WEAVE, radius=0.06)
    elif letter == "G":
        figures.flag(canvas, corner)
    elif floor == ICE:
        canvas.line([(x + 0.18, y + 0.62), (x + 0.42, y + 0.86)], "white", 2)
        canvas.line([(x + 0.28, y + 0.6), (x + 0.38, y + 0.7)], "white", 2)


def _cliff(canvas: Canvas, corner: Point) -> None:
    """Draw a cell in which there is no ground: a jagged edge, and darkness below."""
    x, y = corner
    edge = [(0.0, 0.8), (0.17, 0.66), (0.3, 0.76), (0.5, 0.6), (0.68, 0.74), (0.84, 0.64), (1.0, 0.8)]
    canvas.polygon([(x, y), *((x + along, y + up + 0.14) for along, up in edge), (x + 1, y)], _ROCK)
    canvas.polygon([(x, y), *((x + along, y + up - 0.08) for along, up in edge), (x + 1, y)], _DEPTH)


def _sunk(canvas: Canvas, corner: Point) -> None:
    """Draw the agent up to its eyes in the water."""
    x, y = corner
    figures.agent(canvas, (x + 0.5, y + 0.46), 0.26)
    # What is below the surface: the hole from some degrees under its middle on down.
    around = [math.radians(degree) for degree in range(195, 346, 5)]
    below = [(x + 0.5 + _HOLE * math.cos(a), y + 0.5 + _HOLE * math.sin(a)) for a in around]
    canvas.polygon(below, _WATER)
    canvas.line([below[0], below[-1]], _SHORE, 2)
