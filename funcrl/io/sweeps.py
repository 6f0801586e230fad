"""Tables and pictures of sweeps."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from funcrl import ops
from funcrl.core import random
from funcrl.io.comparing import COLOURS, Contestant
from funcrl.io.files import write_atomically
from funcrl.io.plots import picture
from funcrl.io.tables import finished_table, matrix
from funcrl.train import Plan, Report, Result, SweepResult
from funcrl.train.outcome import make_result

_MOST_PANELS = 4


def sweep_table(result: SweepResult, path: Path) -> None:
    """Write one tidy table of all lanes: `lane,seed,<every swept field>,step,return,episodes`.

    Args:
        result: Of `sweep`.
        path: CSV file to write.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(result.settings[0])
    writer.writerow(["lane", "seed", *names, "step", "return", "episodes"])
    size = max((max(one.lanes, default=0) for one in result.results), default=0) + 1
    for number, (setting, one) in enumerate(zip(result.settings, result.results, strict=True)):
        values = [setting[name] for name in names]
        steps = one.steps.tolist()
        rows = zip(one.lanes, one.seeds, one.returns.tolist(), one.episodes.tolist(), strict=True)
        for place, seed, returns, episodes in rows:
            for step, earned, ended in zip(steps, returns, episodes, strict=True):
                writer.writerow([number * size + place, seed, *values, step, f"{earned:.9g}", f"{ended:.9g}"])
    write_atomically(path, text.getvalue().encode())


def program_folder(folder: Path, number: int) -> Path:
    """Return where a sweep has the tables and checkpoints of one of its programs, counted from 1."""
    return folder / "programs" / str(number)


def result_of(folder: Path, plan: Plan) -> Result | None:
    """Return what a program of a sweep that has come to its end has left; None where it has not.

    Args:
        folder: Of the program.
        plan: What was to be done.

    Raises:
        ValueError: When the table is damaged.
    """
    names = range(len(plan.seeds))
    table = finished_table(folder, "lane", names, plan.num_iterations)
    if table is None:
        return None
    shown = {name: matrix(table, "lane", names, name) for name in table if name not in ("lane", "step")}
    figures = Report(shown.pop("return"), shown.pop("episodes"), shown)
    return make_result(plan, tuple(names), ((), ()), figures, 0.0, 0.0, plan.num_iterations)


def contestants(result: SweepResult) -> list[Contestant]:
    """Return every setting of which anything is known, named by its values."""
    each = [
        Contestant(label(setting), one.steps, one.returns, one.final_returns())
        for setting, one in zip(result.settings, result.results, strict=True)
    ]
    return [one for one in each if len(one.known) > 0]


def label(setting: dict[str, Any]) -> str:
    """Return a setting as a person reads it.

    >>> label({"learning_rate": 0.001, "env.half_length": 0.5})
    'learning_rate=0.001, env.half_length=0.5'
    """
    return ", ".join(f"{name}={_short(value)}" for name, value in setting.items())


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def sensitivity(result: SweepResult, title: str, path: str | Path) -> None:
    """Draw what the seeds reach against the values of the field that has most, with 95 % intervals.

    The values of the next field are lines; what else differs is a panel each, four at most.

    Args:
        result: Of `sweep`.
        title: What it is.
        path: Picture to write; its ending says the format.

    Raises:
        ModuleNotFoundError: Without matplotlib, which `pip install "funcrl[cli]"` brings.
    """
    names = list(result.settings[0])
    values = {name: list(dict.fromkeys(setting[name] for setting in result.settings)) for name in names}
    across, *rest = sorted(names, key=lambda name: -len(values[name]))
    line, panel_names = (rest[0] if rest else None), rest[1:]
    panels = list(dict.fromkeys(tuple(s[name] for name in panel_names) for s in result.settings))
    panels = panels[:_MOST_PANELS]
    # Numbers stand where they belong; anything else in the order in which it was written.
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values[across])
    places = {value: float(value) if numeric else i for i, value in enumerate(values[across])}
    with picture(path, size=(max(6.5, 4.4 * len(panels)), 4.6), columns=len(panels)) as axes:
        every = [axes] if len(panels) == 1 else list(axes)
        for panel, one in zip(panels, every, strict=True):
            for number, line_value in enumerate(values[line] if line else [None]):
                fixed = dict(zip(panel_names, panel, strict=True)) | ({line: line_value} if line else {})
                colour = COLOURS[number % len(COLOURS)]
                _draw_line(
                    one, result, across, fixed, places, colour, label({line: line_value}) if line else ""
                )
            _label_panel(one, across, places, numeric)
            one.set_title(
                label(dict(zip(panel_names, panel, strict=True))) or title, loc="left", fontweight="bold"
            )
            if line:
                one.legend(loc="best", frameon=False)
        if panel_names:
            every[0].figure.suptitle(title, x=0.01, ha="left", fontweight="bold")


def _draw_line(
    axes: Any,
    result: SweepResult,
    across: str,
    fixed: dict[str, Any],
    places: dict[Any, float],
    colour: str,
    name: str,
) -> None:
    points = []
    for setting, one in zip(result.settings, result.results, strict=True):
        finals = one.final_returns()
        known = finals[finals.isfinite()]
        if len(known) and all(setting[key] == value for key, value in fixed.items()):
            low, high = ops.bootstrap_interval(random.key(0, known.device), known)
            points.append((places[setting[across]], float(ops.iqm(known)), float(low), float(high)))
    if not points:
        return
    x, middle, low, high = torch.tensor(sorted(points), dtype=torch.float64, device="cpu").T
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x, middle, color=colour, marker="o", linewidth=2.0, label=name)


def _label_panel(axes: Any, across: str, places: dict[Any, float], numeric: bool) -> None:
    positions = list(places.values())
    if numeric and min(positions) > 0 and max(positions) / min(positions) >= 8:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(positions, [_short(value) for value in places])
    axes.set_xlabel(across)
    axes.set_ylabel("interquartile mean of the last 100 episodes")
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)


def ranked(each: Sequence[Contestant]) -> list[Contestant]:
    """Return settings by what their seeds reached, the best first."""
    return sorted(each, key=lambda one: -float(ops.iqm(one.known)))
