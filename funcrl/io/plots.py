"""Pictures of results."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from funcrl import ops
from funcrl.core import random
from funcrl.train import Result

_MAX_POINTS = 150


_BLUE = "#1f5fa8"
_STYLE: dict[Any, Any] = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
_FEW_LANES = 64
"""lanes that are drawn one by one behind their mean"""


@contextlib.contextmanager
def picture(
    path: str | Path, size: tuple[float, float] = (8.0, 4.8), rows: int = 1, columns: int = 1
) -> Iterator[Any]:
    """Give the axes of a picture to draw on, and write it to a file at the end.

    Args:
        path: Picture to write, in a folder that is made where it is not there; its ending says the format.
        size: Width and height in inches.
        rows: Number of axes one below the other.
        columns: Number of axes side by side; an array of axes is given where there are several.

    Raises:
        ModuleNotFoundError: Without matplotlib, which `pip install "funcrl[cli]"` brings.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure.subplots(rows, columns)
        figure.savefig(path)


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
    steps, lanes = binned(result.steps, result.returns)
    with picture(path) as axes:
        _draw_lanes(axes, steps, lanes, ops.iqm, f"interquartile mean of {len(lanes)} seeds")
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_ylabel("return of finished episodes")
        finish(axes)


def regret_curve(result: Result, title: str, path: str | Path, lower_bound: float | None = None) -> None:
    """Draw the mean cumulative regret over seeds with its 95 % interval, and the bound of Lai & Robbins.

    The mean, not the interquartile mean: what a bandit algorithm is judged by is the expected regret,
    and the few seeds that were unlucky are a large part of it.

    Args:
        result: Of a training on a bandit; what to draw.
        title: What it is.
        path: Picture to write; its ending says the format.
        lower_bound: Constant c of the bound c ln t; None to leave it out.

    Raises:
        ModuleNotFoundError: Without matplotlib, which `pip install "funcrl[cli]"` brings.
    """
    steps, lanes = result.steps, result.metrics["cumulative_regret"]
    with picture(path) as axes:
        _draw_lanes(axes, steps, lanes, ops.mean, f"mean of {len(lanes)} seeds")
        if lower_bound is not None:
            label = f"{lower_bound:.3g} ln t, Lai & Robbins: least slope in ln t"
            bound = lower_bound * torch.log(steps.to(torch.float32))
            axes.plot(steps, bound, color="0.35", linestyle="--", linewidth=1.4, label=label)
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_ylabel("cumulative regret")
        axes.set_ylim(bottom=0)
        finish(axes)


def epoch_curve(metrics: dict[str, Tensor], name: str, title: str, path: str | Path) -> None:
    """Draw a figure over epochs: the interquartile mean over seeds with its 95 % interval, and every lane faintly.

    Of `test_accuracy`, what was reached on the images that were learnt from is drawn beside it.

    Args:
        metrics: `[S, E]` by name, see `supervised.Fit`.
        name: Which of them.
        title: What it is.
        path: Picture to write; its ending says the format.

    Raises:
        ModuleNotFoundError: Without matplotlib, which `pip install "funcrl[cli]"` brings.
    """
    lanes = metrics[name].cpu()
    epochs = torch.arange(1, lanes.shape[1] + 1, device=lanes.device)
    learnt = name.removeprefix("test_")
    with picture(path) as axes:
        _draw_lanes(
            axes, epochs, lanes, ops.iqm, f"{in_words(name)}, interquartile mean of {len(lanes)} seeds"
        )
        if learnt != name and learnt in metrics:
            label = f"{learnt} while learning"
            marker = "o" if len(epochs) == 1 else None
            middle = ops.iqm(metrics[learnt].cpu(), dim=0)
            axes.plot(epochs, middle, color="0.35", linestyle="--", linewidth=1.4, marker=marker, label=label)
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_ylabel(learnt)
        finish(axes, "epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)


def in_words(name: str) -> str:
    """Return the name of a figure as people write it.

    >>> in_words("test_accuracy")
    'test accuracy'
    """
    return name.replace("_", " ")


def _draw_lanes(
    axes: Any, steps: Tensor, lanes: Tensor, statistic: Callable[..., Tensor], label: str
) -> None:
    """Draw each lane faintly, a statistic over all of them, and its interval."""
    axes.plot(steps, lanes[:_FEW_LANES].T, color=_BLUE, alpha=0.13, linewidth=0.7)
    axes.plot([], [], color=_BLUE, alpha=0.35, linewidth=0.7, label="one seed")
    draw_statistic(axes, steps, lanes, statistic, label, _BLUE, "95 % bootstrap interval")


def draw_statistic(
    axes: Any,
    steps: Tensor,
    lanes: Tensor,
    statistic: Callable[..., Tensor],
    label: str,
    colour: str,
    label_of_band: str | None = None,
) -> None:
    """Draw a statistic over lanes, and its 95 % interval as a band.

    Args:
        axes: Of matplotlib.
        steps: `[I]` where.
        lanes: `[S, I]`.
        statistic: `(values, dim=...)`.
        label: What it is, for the legend.
        colour: Of line and band.
        label_of_band: Likewise, of the band; None to leave it out of the legend.
    """
    if len(lanes) > 1:
        num_resamples = max(200, min(2000, 200_000 // len(lanes)))
        low, high = ops.bootstrap_interval(
            random.key(0, lanes.device), lanes, num_resamples=num_resamples, statistic=statistic
        )
        # Where some lanes have no value yet there is no statistic, and no interval of it either.
        unknown = statistic(lanes, dim=0).isnan()
        low, high = (end.masked_fill(unknown, torch.nan) for end in (low, high))
        axes.fill_between(steps, low, high, color=colour, alpha=0.22, linewidth=0, label=label_of_band)
    marker = "o" if len(steps) == 1 else None
    axes.plot(steps, statistic(lanes, dim=0), color=colour, linewidth=2.2, marker=marker, label=label)


def finish(axes: Any, label: str = "environment steps per seed") -> None:
    """Label the axes of a curve over steps, or what else is counted, and show its legend."""
    from matplotlib.ticker import EngFormatter

    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.01)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(loc="best", frameon=False)


def binned(steps: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
    """Average iterations into bins of equal size; the last bin may be smaller."""
    size = -(-len(steps) // _MAX_POINTS)
    last = torch.arange(size, len(steps) + size, size, device=steps.device).clamp(max=len(steps)) - 1
    rows = [part.nanmean(dim=1) for part in torch.split(returns, size, dim=1)]
    return steps[last], torch.stack(rows, dim=1)
