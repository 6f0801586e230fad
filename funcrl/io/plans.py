"""The folder that `funcrl plan` leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from funcrl.io.files import json_text, write_atomically
from funcrl.io.folders import clear
from funcrl.train import Solution


def write_plan(folder: Path, settings: dict[str, Any], solution: Solution, lane: int = 0) -> list[str]:
    """Write what a planner found: `values.csv`, a row a state and action, and `config.json`.

    Args:
        folder: A folder that `check_folder` has approved.
        settings: What to put into `config.json`.
        solution: From `funcrl.train.solve`.
        lane: Which of its lanes.

    Returns:
        Names of the files.
    """
    values, policy = solution.values[lane].tolist(), solution.policy[lane].tolist()
    lines = ["state,action,value,action_value,probability"]
    for state, row in enumerate(solution.action_values[lane].tolist()):
        for action, action_value in enumerate(row):
            share = policy[state][action]
            lines.append(f"{state},{action},{values[state]:.12g},{action_value:.12g},{share:.6g}")
    clear(folder)
    write_atomically(folder / "config.json", json_text(settings, indent=2).encode())
    write_atomically(folder / "values.csv", ("\n".join(lines) + "\n").encode())
    return ["config.json", "values.csv"]
