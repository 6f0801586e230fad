"""Pictures of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from funcrl import ops
from funcrl.core import random
from funcrl.train import Result

_MAX_POINTS = 150


def learning_curve(result: Result, title: str, path: str | Path) -> None:
    """Draw the interquartile mean over seeds with its 95 % interval, and every lane faintly.

    Long runs are averaged into at most 150 points, so that the picture shows learning rather than
    the noise of single episodes.

    Args:
        result: What to draw.
        title: What it is.
        path: Picture to write; its ending says the format.

    Raises:
        ModuleNotFoundError: Without matplotlib, which `pip install "funcrl[cli]"` brings.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps, lanes = _binned(result.steps, result.returns)
    center = ops.iqm(lanes, dim=0)
    num_resamples = max(200, min(2000, 200_000 // len(lanes)))
    low, high = ops.bootstrap_interval(random.key(0), lanes, num_resamples=num_resamples)

    style: dict[Any, Any] = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(style):
        figure = Figure(figsize=(8, 4.8), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        blue = "#1f5fa8"
        axes.plot(steps, lanes[:64].T, color=blue, alpha=0.13, linewidth=0.7)
        axes.plot([], [], color=blue, alpha=0.35, linewidth=0.7, label="one seed")
        if len(lanes) > 1:
            axes.fill_between(
                steps, low, high, color=blue, alpha=0.28, linewidth=0, label="95 % bootstrap interval"
            )
        axes.plot(steps, center, color=blue, linewidth=2.2, label=f"interquartile mean of {len(lanes)} seeds")
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_xlabel("environment steps per seed")
        axes.set_ylabel("return of finished episodes")
        axes.xaxis.set_major_formatter(mpl.ticker.EngFormatter(sep=""))
        axes.margins(x=0.01)
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
        axes.legend(loc="best", frameon=False)
        figure.savefig(path)


def _binned(steps: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
    """Average iterations into bins of equal size; the last bin may be smaller."""
    size = -(-len(steps) // _MAX_POINTS)
    last = torch.arange(size, len(steps) + size, size).clamp(max=len(steps)) - 1
    rows = [part.nanmean(dim=1) for part in torch.split(returns, size, dim=1)]
    return steps[last], torch.stack(rows, dim=1)
