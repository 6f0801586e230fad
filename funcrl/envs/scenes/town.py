"""A picture of the taxi's town: streets, walls, four landmarks, the passenger and the taxi."""

from __future__ import annotations

from funcrl.envs.drawing import BLUE, GREEN, INK, RED, YELLOW, Canvas, Frame, Point
from funcrl.envs.scenes import figures

_ABOARD = 4
_STREET, _SEAM = "#f2f2ef", "#dcdcd8"
_LANDMARKS = (((0, 4), RED, "R"), ((4, 4), GREEN, "G"), ((0, 0), "#d3ab1c", "Y"), ((3, 0), BLUE, "B"))
"""lower left corner of the cell, colour, letter"""
_WALLS = ((2, 3), (1, 0), (3, 0))
"""lower end of each; all are two cells long"""
_PASSENGER = "#6b3f8f"


def picture(row: int, column: int, passenger: int, destination: int, is_fickle: bool) -> Frame:
    """Return a picture of the town, `[H, W, 3]`; a flag waves at the destination.

    Args:
        row: Of the taxi, 0 at the top.
        column: Of the taxi.
        passenger: Number of the landmark where the passenger is, or 4: in the taxi.
        destination: Number of the landmark.
        is_fickle: Whether the passenger will still want to go elsewhere; a question mark says so.
    """
    canvas = Canvas((-0.2, 5.2), (-0.2, 5.2), width=540, background=INK)
    for x in range(5):
        for y in range(5):
            canvas.rectangle(x, y, x + 1, y + 1, _SEAM)
            canvas.rectangle(x + 0.02, y + 0.02, x + 0.98, y + 0.98, _STREET)
    for (x, y), color, letter in _LANDMARKS:
        canvas.rectangle(x + 0.06, y + 0.06, x + 0.94, y + 0.94, color, radius=0.12)
        canvas.rectangle(x + 0.13, y + 0.13, x + 0.87, y + 0.87, "white", radius=0.08)
        canvas.text((x + 0.5, y + 0.24), letter, 0.22, color)
    for x, y in _WALLS:
        canvas.rod((x, y + 0.04), (x, y + 1.96), 0.1, INK)
    corner = _LANDMARKS[destination][0]
    figures.flag(canvas, (corner[0] + 0.38, corner[1] + 0.42), 0.52, INK)
    _taxi(canvas, (column, 4 - row), passenger == _ABOARD)
    thought = (column + 0.5, 4 - row + 0.7)
    if passenger != _ABOARD:
        x, y = _LANDMARKS[passenger][0]
        figures.person(canvas, (x + 0.26, y + 0.44), 0.4, _PASSENGER)
        thought = (x + 0.42, y + 0.74)
    if is_fickle:
        canvas.text(thought, "?", 0.24, _PASSENGER)
    return canvas.frame()


def _taxi(canvas: Canvas, corner: Point, is_taken: bool) -> None:
    """Draw the taxi from the side, with a head at the window where it is taken."""
    x, y = corner
    cabin = [(0.18, 0.24), (0.27, 0.54), (0.73, 0.54), (0.82, 0.24)]
    window = [(0.26, 0.28), (0.325, 0.5), (0.675, 0.5), (0.74, 0.28)]
    canvas.polygon([(x + along, y + up) for along, up in cabin], YELLOW)
    canvas.polygon([(x + along, y + up) for along, up in window], "white")
    if is_taken:
        canvas.circle((x + 0.5, y + 0.41), 0.075, _PASSENGER)
        canvas.rectangle(x + 0.39, y + 0.2, x + 0.61, y + 0.33, _PASSENGER, radius=0.06)
    canvas.rectangle(x + 0.06, y + 0.12, x + 0.94, y + 0.29, YELLOW, radius=0.06)
    for along in (0.28, 0.72):
        canvas.circle((x + along, y + 0.13), 0.09, INK)
        canvas.circle((x + along, y + 0.13), 0.04, _STREET)
