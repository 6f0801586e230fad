"""Tables of a run, read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from funcrl.core.checks import require

Table = dict[str, np.ndarray]
"""columns by name"""


RUN = ("step", "return", "episodes")
"""columns that a run's `metrics.csv` has beside its figures, the first of which counts"""
FIT = ("epoch",)
"""likewise, of what has learnt from images"""


def read_table(
    path: Path, key: str, names: Sequence[int], has: Sequence[str] = RUN, function: str = "open_run"
) -> Table:
    """Return a `metrics.csv` as columns, one row a lane and iteration: the key, what it has besides, and figures.

    Args:
        path: The file.
        key: What names a lane: `"seed"` or `"lane"`.
        names: All there can be.
        has: `RUN` or `FIT`.
        function: Who complains.

    Raises:
        FileNotFoundError: When it is not there.
        ValueError: When it is not as it was written.
    """
    needed = {key, *has}
    try:
        with open(path, encoding="utf-8") as file:
            columns = file.readline().strip().split(",")
            rows = np.loadtxt(file, delimiter=",", ndmin=2)
    except ValueError:
        columns, rows = [], np.zeros((0, 0))
    fine = needed <= set(columns) and rows.shape[1] == len(columns)
    fine = fine and set(rows[:, columns.index(key)]) <= set(map(float, names))
    hold = f"be a table of numbers with {', '.join((key, *has))}, as it was written"
    require(fine, function, str(path), hold, "something else")
    kinds = {key: np.uint64, has[0]: np.int64}
    return {name: rows[:, i].astype(kinds.get(name, np.float32)) for i, name in enumerate(columns)}


def steps_of(table: Table, counted: str = "step") -> Tensor:
    """Return `[I]` environment steps, or what else is counted, of a lane after each iteration."""
    return torch.from_numpy(np.unique(table[counted]))


def matrix(table: Table, key: str, names: Sequence[int], column: str, counted: str = "step") -> Tensor:
    """Return a column as `[S, I]`; NaN for what a lane did not reach.

    Args:
        table: From `read_table`.
        key: What names a lane.
        names: S lanes, in their order.
        column: Of the table.
        counted: What goes on from row to row.
    """
    steps = steps_of(table, counted).numpy()
    found = np.full((len(names), len(steps)), np.nan, dtype=np.float32)
    places = {name: lane for lane, name in enumerate(names)}
    rows = [places[int(name)] for name in table[key]]
    found[rows, np.searchsorted(steps, table[counted])] = table[column]
    return torch.from_numpy(found)


def finished_table(folder: Path, by: str, names: Sequence[int], num_iterations: int) -> Table | None:
    """Return `metrics.csv` of a run that has come to its end with all its lanes; None where it has not.

    Args:
        folder: Of the run.
        by: What names a row: `"seed"` or `"lane"`.
        names: All of these.
        num_iterations: That each of them has.

    Raises:
        ValueError: When the table is damaged.
    """
    if not (folder / "checkpoint" / "states.safetensors").is_file():
        return None
    table = read_table(folder / "metrics.csv", by, names)
    return table if len(table[by]) == len(names) * num_iterations else None
