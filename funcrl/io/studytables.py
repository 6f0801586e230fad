"""What a study has found, as a table and a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from funcrl.io.files import write_atomically
from funcrl.io.plots import picture
from funcrl.train.population import Range


def study_table(study: Any, path: Path) -> None:
    """Write `trial,state,value`, and every setting that was searched, a row a trial.

    Args:
        study: Optuna's.
        path: CSV file to write.
    """
    trials = study.get_trials(deepcopy=False)
    names = sorted({name for trial in trials for name in trial.params})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "value", *names])
    for trial in trials:
        value = "" if trial.value is None else f"{trial.value:.9g}"
        writer.writerow(
            [trial.number, trial.state.name.lower(), value, *[trial.params.get(name, "") for name in names]]
        )
    write_atomically(path, text.getvalue().encode())


def study_picture(study: Any, ranges: Mapping[str, Range], title: str, path: Path) -> None:
    """Draw what trials reached against each number that was searched, later ones darker.

    Args:
        study: Optuna's.
        ranges: What was searched.
        title: What it is.
        path: Picture to write.
    """
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.value is not None]
    best = max(trials, key=lambda trial: trial.value)
    with picture(path, size=(max(6.5, 4.4 * len(ranges)), 4.2), columns=len(ranges)) as axes:
        each = [axes] if len(ranges) == 1 else list(axes)
        for one, (name, where) in zip(each, ranges.items(), strict=True):
            shades = [0.25 + 0.75 * number / len(trials) for number in range(len(trials))]
            places, values = [t.params[name] for t in trials], [t.value for t in trials]
            one.scatter(places, values, c=shades, cmap="Blues", vmin=0.0, vmax=1.0, s=24)
            one.scatter(
                [best.params[name]], [best.value], color="tab:red", s=60, marker="*", label="the best"
            )
            if where.log:
                one.set_xscale("log")
            one.set_xlabel(name)
            one.set_ylabel("mean return of the last 100 episodes")
        each[0].set_title(title, loc="left", fontweight="bold")
        each[-1].legend(loc="best", frameon=False)
