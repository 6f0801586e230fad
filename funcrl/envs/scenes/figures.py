"""What stands in the cells of a grid: an agent with eyes, a flag, a person."""

from __future__ import annotations

from funcrl.envs.drawing import BLUE, GREEN, INK, Canvas, Color, Point


def agent(canvas: Canvas, center: Point, radius: float = 0.34) -> None:
    """Draw the one who acts: a blue disc that looks at us."""
    canvas.circle(center, radius, BLUE)
    part = radius / 0.34
    for side in (-0.13, 0.13):
        eye = (center[0] + side * part, center[1] + 0.08 * part)
        canvas.circle(eye, 0.09 * part, "white")
        canvas.circle(eye, 0.045 * part, INK)


def flag(canvas: Canvas, corner: Point, size: float = 1.0, color: Color = GREEN) -> None:
    """Draw a flag into a square cell.

    Args:
        canvas: Where.
        corner: Lower left one of the cell.
        size: Side of the cell.
        color: Of the cloth.
    """
    x, y = corner
    pole = x + 0.3 * size
    canvas.line([(pole, y + 0.12 * size), (pole, y + 0.88 * size)], INK, 3)
    cloth = [(0.3, 0.88), (0.82, 0.68), (0.3, 0.48)]
    canvas.polygon([(x + along * size, y + up * size) for along, up in cloth], color)


def person(canvas: Canvas, foot: Point, height: float, color: Color) -> None:
    """Draw a person who stands on a point."""
    x, y = foot
    canvas.rod((x, y + 0.16 * height), (x, y + 0.5 * height), 0.32 * height, color)
    canvas.circle((x, y + 0.8 * height), 0.18 * height, color)
