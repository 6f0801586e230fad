"""Runs beside each other: a table of what their seeds reached, and how sure it is which is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from funcrl import ops
from funcrl.core import random
from funcrl.core.checks import require
from funcrl.io.plots import binned, draw_statistic, finish, picture
from funcrl.io.runs import SavedRun

COLOURS = ("#1f5fa8", "#d1495b", "#2f8f4e", "#8a5fbf", "#e08e2b", "#3c4049", "#17a2a2", "#a05a2c")
"""Of the runs in a picture, in their order; that people who do not see red and green apart tell them too."""


@dataclass(frozen=True)
class Contestant:
    """One run, or one setting of a sweep."""

    label: str
    steps: Tensor
    """`[I]`"""
    returns: Tensor
    """`[S, I]`"""
    finals: Tensor
    """`[S]` what each seed reached: the mean return of its last 100 training episodes"""

    @property
    def known(self) -> Tensor:
        """What the seeds reached of which anything is known."""
        return self.finals[self.finals.isfinite()]


def contestant(run: SavedRun, label: str) -> Contestant:
    """Return a run's figures.

    Args:
        run: From `open_run`.
        label: Its name in tables and pictures.

    Raises:
        ValueError: When no episode has ended in it.
    """
    found = Contestant(label, run.steps, run.returns, run.final_returns())
    hold = "hold an episode that ended in at least one seed"
    require(len(found.known) > 0, "compare", str(run.folder), hold, "none")
    return found


def table(each: Sequence[Contestant], target: float | None = None) -> str:
    """Return what the seeds of each run reached, as text.

    Args:
        each: The runs; they are compared with the first.
        target: A return that is good enough, for the optimality gap; None to leave it out.
    """
    heads = ["", "seeds", "IQM", "95 % interval", "median", "mean"]
    heads += ["gap"] if target is not None else []
    heads += ["better than the first"] if len(each) > 1 else []
    rows = [heads]
    for number, one in enumerate(each):
        known = one.known
        low, high = ops.bootstrap_interval(random.key(0, known.device), known)
        row = [one.label, str(len(one.finals)), _short(ops.iqm(known)), f"[{_short(low)}, {_short(high)}]"]
        row += [_short(ops.median(known)), _short(known.mean())]
        row += [_short(ops.optimality_gap(known, target))] if target is not None else []
        if len(each) > 1:
            row.append(_chance(one, each[0]) if number else "")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [
        "  ".join(
            f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _chance(one: Contestant, first: Contestant) -> str:
    samples = [one.known, first.known]
    found = ops.probability_of_improvement(*samples)
    low, high = ops.stratified_interval(
        random.key(0, one.finals.device), samples, ops.probability_of_improvement
    )
    return f"{float(found):.0%} [{float(low):.0%}, {float(high):.0%}]"


def _short(value: Tensor) -> str:
    return f"{float(value):.2f}"


def verdict(each: Sequence[Contestant]) -> str:
    """Say in a sentence which run is best, and whether it can be told from the second.

    The two are told apart where the 95 % interval of the difference of their interquartile means does
    not hold zero.

    Args:
        each: At least two runs.
    """
    ranked = sorted(each, key=lambda one: float(ops.iqm(one.known)), reverse=True)
    best, second = ranked[:2]
    low, high = ops.stratified_interval(
        random.key(0, best.finals.device), [best.known, second.known], lambda x, y: ops.iqm(x) - ops.iqm(y)
    )
    difference = (
        f"{float(ops.iqm(best.known) - ops.iqm(second.known)):.2f} [{float(low):.2f}, {float(high):.2f}]"
    )
    if float(low) > 0:
        return f"{best.label} is best: its interquartile mean lies {difference} above that of {second.label}."
    return (
        f"{best.label} has the highest interquartile mean, but cannot be told from {second.label} with these "
        f"seeds: the difference is {difference}."
    )


def comparison(
    each: Sequence[Contestant],
    path: str | Path,
    title: str = "",
    reached: str = "mean return of the last 100 episodes",
) -> None:
    """Draw the curves of runs with their intervals, and beside them the profiles of what their seeds reached.

    Args:
        each: The runs.
        path: Picture to write; its ending says the format.
        title: What is compared.
        reached: What each seed's final figure is.

    Raises:
        ModuleNotFoundError: Without matplotlib, which `pip install "funcrl[cli]"` brings.
    """
    with picture(path, size=(12.0, 4.8), columns=2) as (curves, profiles):
        known = torch.cat([one.known for one in each])
        margin = 0.03 * float(known.max() - known.min()) or 1.0
        thresholds = torch.linspace(
            float(known.min()) - margin, float(known.max()) + margin, 400, dtype=torch.float32, device="cpu"
        )
        for number, one in enumerate(each):
            colour = COLOURS[number % len(COLOURS)]
            steps, lanes = binned(one.steps, one.returns)
            draw_statistic(curves, steps, lanes, ops.iqm, f"{one.label} ({len(one.finals)} seeds)", colour)
            draw_profile(profiles, one.known, thresholds, colour)
        curves.set_title(title or "interquartile mean, 95 % interval", loc="left", fontweight="bold")
        curves.set_ylabel("return of finished episodes")
        finish(curves)
        profiles.set_title("share of seeds that reach more", loc="left", fontweight="bold")
        profiles.set_xlabel(reached)
        profiles.set_ylim(-0.02, 1.02)
        profiles.grid(axis="y", color="0.9")
        profiles.set_axisbelow(True)


def draw_profile(axes: object, values: Tensor, thresholds: Tensor, colour: str) -> None:
    """Draw a performance profile and its point-by-point 95 % interval.

    Args:
        axes: Of matplotlib.
        values: `[S]`.
        thresholds: `[K]`.
        colour: Of line and band.
    """
    above = (values[:, None] > thresholds).to(torch.float32)
    profile = ops.performance_profile(values, thresholds)
    if len(values) > 1:
        low, high = ops.bootstrap_interval(random.key(0, values.device), above, statistic=ops.mean)
        axes.fill_between(thresholds, low, high, color=colour, alpha=0.18, linewidth=0)  # type: ignore[attr-defined]
    axes.plot(thresholds, profile, color=colour, linewidth=2.0)  # type: ignore[attr-defined]
