"""Populations in files: saved after each generation, gone on from, told as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from funcrl.core import tree
from funcrl.io.checkpoint import encode, fill, read
from funcrl.io.files import write_atomically
from funcrl.io.plots import picture
from funcrl.train.carry import Report
from funcrl.train.population import Range
from funcrl.train.programs import make_run
from funcrl.train.search import Evolved, Generation, Task

FILE = "checkpoint/population.safetensors"
"""All that a population goes on from."""


def save_population(folder: Path, evolved: Evolved) -> None:
    """Write a population, in one step.

    Args:
        folder: Of the search.
        evolved: What there is after a generation.
    """
    past = evolved.generations
    tensors: dict[str, Any] = {
        "step": torch.tensor([one.step for one in past], dtype=torch.int64, device="cpu"),
        "scores": torch.stack([one.scores for one in past]),
        "parents": torch.stack([one.parents for one in past]),
    }
    for name, values in evolved.values.items():
        tensors[f"values.{name}"] = values
        tensors[f"past.{name}"] = torch.stack([one.values[name] for one in past])
    tensors |= {f"carry{path}": x for path, x in tree.named_leaves(evolved.carry).items()}
    tensors |= {f"figures{path}": x for path, x in tree.named_leaves(evolved.figures).items()}
    (folder / FILE).parent.mkdir(exist_ok=True)
    write_atomically(folder / FILE, encode(tensors))


def load_population(folder: Path, task: Task, ranges: dict[str, Range]) -> Evolved:
    """Return the population that `save_population` left.

    Args:
        folder: Of the search.
        task: What it learns.
        ranges: What is searched.

    Raises:
        ValueError: When the file is damaged, or of another population.
    """
    tensors = read(folder / FILE)
    steps, parents = tensors["step"].tolist(), tensors["parents"]
    values = {name: tensors[f"values.{name}"] for name in ranges}
    example = make_run(task.plan(values, range(parents.shape[1])), range(parents.shape[1])).carry
    inside = {path.removeprefix("carry"): x for path, x in tensors.items() if path.startswith("carry.")}
    carry = fill(str(folder / FILE), inside, example)
    shown = {path.removeprefix("figures"): x for path, x in tensors.items() if path.startswith("figures.")}
    metrics = {path[len(".metrics['") : -2]: x for path, x in shown.items() if path.startswith(".metrics")}
    generations = [
        Generation(
            number + 1,
            step,
            {name: tensors[f"past.{name}"][number] for name in ranges},
            tensors["scores"][number],
            parents[number],
        )
        for number, step in enumerate(steps)
    ]
    figures = Report(shown[".returns"], shown[".episodes"], metrics)
    return Evolved(tuple(generations), values, carry, figures)


def population_table(evolved: Evolved, path: Path) -> None:
    """Write `generation,step,lane,parent,score`, and every setting that is searched, a row a lane and generation."""
    names = list(evolved.values)
    lines = [",".join(["generation", "step", "lane", "parent", "score", *names])]
    for one in evolved.generations:
        columns = [one.values[name].tolist() for name in names]
        rows = zip(one.parents.tolist(), one.scores.tolist(), zip(*columns, strict=True), strict=True)
        for lane, (parent, score, settings) in enumerate(rows):
            cells = [f"{value:.9g}" for value in (score, *settings)]
            lines.append(",".join([str(one.number), str(one.step), str(lane), str(parent), *cells]))
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def lineage(evolved: Evolved, lane: int) -> list[int]:
    """Return where a lane's past lies: its place in each generation, the first one first."""
    places = [lane]
    for one in reversed(evolved.generations[:-1]):
        places.append(int(one.parents[places[-1]]))
    return places[::-1]


def best_lane(evolved: Evolved) -> int:
    """Return the lane of the highest score in the last generation."""
    return int(evolved.generations[-1].scores.nan_to_num(-torch.inf).argmax())


def population_picture(evolved: Evolved, ranges: dict[str, Range], title: str, path: Path) -> None:
    """Draw scores and settings over time, with the past of the best lane as a line.

    Args:
        evolved: The population.
        ranges: What is searched.
        title: What it is.
        path: Picture to write.
    """
    past, places = evolved.generations, lineage(evolved, best_lane(evolved))
    steps = [one.step for one in past]
    with picture(path, size=(4.6 * (len(ranges) + 1), 4.2), columns=len(ranges) + 1) as axes:
        columns = {"mean return of the last episodes": [one.scores for one in past]}
        columns |= {name: [one.values[name] for one in past] for name in ranges}
        for one, (name, rows) in zip(axes, columns.items(), strict=True):
            for step, row in zip(steps, rows, strict=True):
                one.plot([step] * len(row), row.tolist(), ".", color="0.75", markersize=4)
            line = [float(row[place]) for row, place in zip(rows, places, strict=True)]
            one.plot(steps, line, color="tab:blue", linewidth=2.0, label="the past of the best lane")
            one.set_xlabel("environment steps of a lane")
            one.set_ylabel(name)
            if name in ranges and ranges[name].log:
                one.set_yscale("log")
        axes[0].legend(loc="best", frameon=False)
        axes[0].set_title(title, loc="left", fontweight="bold")
