"""Pictures of environments, drawn in world coordinates with Pillow."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcrl.core.checks import require

Frame = NDArray[np.uint8]
"""`[H, W, 3]`, red, green and blue from 0 to 255"""
Point = tuple[float, float]
Color = str | tuple[int, int, int]

INK, GROUND, BLUE, RED, GREEN, YELLOW = "#222222", "#b8b8b8", "#3b6ea8", "#c44e52", "#55a868", "#e0a83a"

# Everything is drawn this many times larger and then averaged, which smooths the edges.
_SCALE = 2


def _pillow() -> tuple[ModuleType, ModuleType]:
    try:
        from PIL import Image, ImageDraw
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "render: Pillow is missing. Write: pip install 'funcrl[render]'", name="PIL"
        ) from error
    return Image, ImageDraw


@functools.cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def metadata(env: Any) -> dict[str, Any]:
    """Return what Gymnasium wants to know of an environment's pictures: modes and frames per second.

    >>> metadata(object())
    {'render_modes': [], 'render_fps': 30}
    """
    modes = ["rgb_array"] if hasattr(env, "render") else []
    return {"render_modes": modes, "render_fps": getattr(env, "render_fps", 30)}


def check_mode(function: str, env: Any, mode: str | None) -> None:
    """Check that an environment can draw itself in that mode.

    Raises:
        ValueError: When it cannot.
    """
    modes = (None, *metadata(env)["render_modes"])
    hold = f"be {' or '.join(map(repr, modes))} for {type(env).__name__}"
    wraps = mode == "human" and len(modes) > 1
    instead = "Write render_mode='rgb_array' and put Gymnasium's HumanRendering around it." if wraps else ""
    require(mode in modes, function, "render_mode", hold, mode, instead)


def check_frame(function: str, frame: Any) -> Frame:
    """Return a picture that something has drawn, if it is one.

    Raises:
        ValueError: When it is something else than red, green and blue in bytes.

    >>> check_frame("render", np.zeros((2, 3), dtype=np.uint8))
    Traceback (most recent call last):
    ValueError: render: the picture must be an array [H, W, 3] of uint8, got (2, 3) of uint8.
    """
    is_array = isinstance(frame, np.ndarray)
    fine = is_array and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3 and frame.size > 0
    found = f"{frame.shape} of {frame.dtype}" if is_array else type(frame).__name__
    if not fine:
        raise ValueError(f"{function}: the picture must be an array [H, W, 3] of uint8, got {found}.")
    return frame  # type: ignore[no-any-return]


class Canvas:
    """A picture of a rectangle of the world; x grows to the right and y upwards.

    The scale is the same along both axes.
    """

    def __init__(
        self, x: tuple[float, float], y: tuple[float, float], width: int = 480, background: Color = "white"
    ) -> None:
        """Begin an empty picture.

        Args:
            x: Left and right end of what is seen, in the world's units.
            y: Lower and upper end.
            width: Of the picture in pixels; the height follows.
            background: Colour by name, `"#rrggbb"` or a triple.
        """
        self._image_module, draw_module = _pillow()
        self._left, self._top = x[0], y[1]
        self._pixels = width / (x[1] - x[0])
        self._size = (width, max(1, round(self._pixels * (y[1] - y[0]))))
        scaled = (self._size[0] * _SCALE, self._size[1] * _SCALE)
        self._image: Any = self._image_module.new("RGB", scaled, background)
        self._draw: Any = draw_module.Draw(self._image)

    def _at(self, point: Point) -> Point:
        scale = self._pixels * _SCALE
        return ((float(point[0]) - self._left) * scale, (self._top - float(point[1])) * scale)

    def polygon(self, points: Iterable[Point], color: Color) -> None:
        """Fill a polygon."""
        self._draw.polygon([self._at(point) for point in points], fill=color)

    def rectangle(
        self, left: float, bottom: float, right: float, top: float, color: Color, radius: float = 0.0
    ) -> None:
        """Fill a rectangle whose sides are parallel to the axes; `radius` rounds its corners."""
        if radius == 0:
            self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], color)
            return
        corners = [self._at((left, top)), self._at((right, bottom))]
        self._draw.rounded_rectangle(corners, radius=radius * self._pixels * _SCALE, fill=color)

    def line(self, points: Iterable[Point], color: Color = INK, width: float = 2.0) -> None:
        """Draw a line from point to point, `width` pixels wide."""
        self._draw.line(
            [self._at(point) for point in points], fill=color, width=round(width * _SCALE), joint="curve"
        )

    def circle(self, center: Point, radius: float, color: Color) -> None:
        """Fill a circle; the radius is in the world's units."""
        x, y = self._at(center)
        r = radius * self._pixels * _SCALE
        self._draw.ellipse([x - r, y - r, x + r, y + r], fill=color)

    def rod(self, start: Point, end: Point, width: float, color: Color) -> None:
        """Draw a line with round ends; unlike `line`, the width is in the world's units."""
        along = math.atan2(end[1] - start[1], end[0] - start[0])
        x, y = -math.sin(along) * width / 2, math.cos(along) * width / 2
        sides = [(start, 1), (end, 1), (end, -1), (start, -1)]
        self.polygon([(point[0] + sign * x, point[1] + sign * y) for point, sign in sides], color)
        self.circle(start, width / 2, color)
        self.circle(end, width / 2, color)

    def text(self, at: Point, words: str, height: float, color: Color = INK, anchor: str = "mm") -> None:
        """Write words; the height of the letters is in the world's units.

        Args:
            at: Where.
            words: What.
            height: Of a capital letter and what hangs below, about.
            color: See `Canvas`.
            anchor: What of the words is there: `"lm"` their left end, `"mm"` the middle, `"rm"` the right end.
        """
        font = _font(max(1, round(height * self._pixels * _SCALE)))
        self._draw.text(self._at(at), words, fill=color, font=font, anchor=anchor)

    def frame(self) -> Frame:
        """Return what has been drawn, `[H, W, 3]`."""
        small = self._image.resize(self._size, self._image_module.Resampling.BOX)
        return np.array(small, dtype=np.uint8)
