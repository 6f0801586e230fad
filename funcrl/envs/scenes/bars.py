"""A picture of a bandit: a bar for the true mean of each arm, and what the last pull paid."""

from __future__ import annotations

import math

import numpy as np

from funcrl.envs.drawing import BLUE, GREEN, INK, RED, Canvas, Frame

_WIDTH, _HEIGHT = 640.0, 400.0
_LEFT, _RIGHT, _BOTTOM, _TOP = 64.0, 620.0, 52.0, 340.0
"""where the bars are, in pixels"""
_MOST_LABELS = 20
"""more arms than this have no room for words"""


def picture(means: list[float], reward: float | None, std: float = 0.0) -> Frame:
    """Return a picture of the arms, `[H, W, 3]`, with the best of them in green.

    Args:
        means: Mean reward of each arm.
        reward: What the last pull paid; None before one.
        std: Standard deviation of the rewards, a pale band about each mean.
    """
    std = std if math.isfinite(std) else 0.0
    low, high = min(0.0, *means) - 2 * std, max(0.0, *means) + 2 * std
    step = _tick((high - low) / 5)
    # Whole steps, but not one more for a rounding error; at least one where all means are 0.
    first, last = math.floor(low / step + 1e-5), math.ceil(high / step - 1e-5)
    last = max(last, first + 1)
    low, high = step * first, step * last
    canvas = Canvas((0, _WIDTH), (0, _HEIGHT), width=int(_WIDTH))

    def height(value: float) -> float:
        return _BOTTOM + (min(max(value, low), high) - low) / (high - low) * (_TOP - _BOTTOM)

    for mark in (step * number for number in range(first, last + 1)):
        canvas.line([(_LEFT, height(mark)), (_RIGHT, height(mark))], "#e2e2e2", 1)
        canvas.text((_LEFT - 10, height(mark)), f"{mark:.6g}", 15, "#666666", "rm")
    best, width = int(np.argmax(means)), (_RIGHT - _LEFT) / len(means)
    for arm, mean in enumerate(means):
        left, right = _LEFT + (arm + 0.15) * width, _LEFT + (arm + 0.85) * width
        if std:
            canvas.rectangle(left, height(mean - std), right, height(mean + std), "#e6ebf2")
        bottom, top = sorted((height(0.0), height(mean)))
        canvas.rectangle(left, bottom, right, top, GREEN if arm == best else BLUE)
        canvas.line([(left, height(mean)), (right, height(mean))], INK, 2)
        if len(means) <= _MOST_LABELS:
            canvas.text(((left + right) / 2, _BOTTOM - 18), str(arm), 16)
    canvas.line([(_LEFT, height(0.0)), (_RIGHT, height(0.0))], INK, 2)
    below = "mean reward of each arm" + (", and one standard deviation about it" if std else "")
    canvas.text(((_LEFT + _RIGHT) / 2, 14), below, 16, "#666666")
    canvas.text((_LEFT, 376), f"best arm {best}: {means[best] + 0.0:.3g} on average", 20, GREEN, "lm")
    if reward is not None:
        if std:
            canvas.line([(_LEFT, height(reward)), (_RIGHT, height(reward))], RED, 2)
        canvas.text((_RIGHT, 376), f"the last pull paid {reward:.3g}", 20, RED, "rm")
    return canvas.frame()


def _tick(wanted: float) -> float:
    """Return the round number, 1, 2 or 5 times a power of ten, that is next above."""
    power = 10.0 ** math.floor(math.log10(wanted)) if wanted > 0 else 1.0
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= wanted)
