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


def read_table(path: Path, key: str, names: Sequence[int]) -> Table:
    """Return a `metrics.csv` as columns, one row a lane and iteration: the key, step, return, episodes, metrics.

    Args:
        path: The file.
        key: What names a lane: `"seed"` or `"lane"`.
        names: All there can be.

    Raises:
        FileNotFoundError: When it is not there.
        ValueError: When it is not as it was written.
    """
    needed = {key, "step", "return", "episodes"}
    try:
        with open(path, encoding="utf-8") as file:
            columns = file.readline().strip().split(",")
            rows = np.loadtxt(file, delimiter=",", ndmin=2)
    except ValueError:
        columns, rows = [], np.zeros((0, 0))
    fine = needed <= set(columns) and rows.shape[1] == len(columns)
    fine = fine and set(rows[:, columns.index(key)]) <= set(map(float, names))
    hold = f"be a table of numbers with {key}, step, return and episodes, as it was written"
    require(fine, "open_run", str(path), hold, "something else")
    kinds = {key: np.uint64, "step": np.int64}
    return {name: rows[:, i].astype(kinds.get(name, np.float32)) for i, name in enumerate(columns)}


def steps_of(table: Table) -> Tensor:
    """Return `[I]` environment steps of a lane after each iteration."""
    return torch.from_numpy(np.unique(table["step"]))


def matrix(table: Table, key: str, names: Sequence[int], column: str) -> Tensor:
    """Return a column as `[S, I]`; NaN for what a lane did not reach.

    Args:
        table: From `read_table`.
        key: What names a lane.
        names: S lanes, in their order.
        column: Of the table.
    """
    steps = steps_of(table).numpy()
    found = np.full((len(names), len(steps)), np.nan, dtype=np.float32)
    places = {name: lane for lane, name in enumerate(names)}
    rows = [places[int(name)] for name in table[key]]
    found[rows, np.searchsorted(steps, table["step"])] = table[column]
    return torch.from_numpy(found)
