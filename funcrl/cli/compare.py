"""`funcrl compare`."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from pathlib import Path

from funcrl.cli.arguments import parse_folder
from funcrl.cli.progress import say
from funcrl.core.checks import require
from funcrl.io import SavedRun, open_run
from funcrl.io.comparing import comparison, contestant, table, verdict

_FORMATS = (".png", ".pdf", ".svg")


@dataclasses.dataclass
class Options:
    """What `funcrl compare` takes beside the folders."""

    out: Path = Path("compare.png")
    """picture to write; its ending says the format (png, pdf, svg)"""
    target: float | None = None
    """a return that is good enough: adds the optimality gap, the mean of what is missing to it"""


def compare_command(words: list[str]) -> int:
    """Print what the seeds of several runs reached, and draw their curves and profiles.

    Args:
        words: What stands after `funcrl compare`.

    Returns:
        Exit status.
    """
    folders, options = parse_folder(
        "compare",
        "Compare runs by what their seeds reached: interquartile means with 95 % intervals, and how "
        "probably one is better than the first.",
        Options(),
        words,
        tuple[Path, ...],
    )
    require(len(folders) > 0, "compare", "DIR", "name at least one folder", "none")
    out, target = options.out, options.target
    require(out.suffix in _FORMATS, "compare", "--out", f"end in {', '.join(_FORMATS)}", str(out))
    require(
        os.access(out.parent, os.W_OK), "compare", "--out", "lie in a folder that can be written", str(out)
    )
    require(target is None or math.isfinite(target), "compare", "--target", "be finite", target)
    runs = [open_run(folder) for folder in folders]
    each = [contestant(run, label) for run, label in zip(runs, labels(folders), strict=True)]
    print(table(each, options.target))
    if len(each) > 1:
        print(f"\n{verdict(each)}")
    where = {run.settings["environment"] for run in runs}
    worlds = list(dict.fromkeys(_world(run) for run in runs))
    if len(worlds) > 1:
        say(f"\nThey learnt in different environments, so that returns say little: {'; '.join(worlds)}.")
    comparison(each, options.out, where.pop() if len(where) == 1 else "")
    print(f"\nwrote {options.out}", file=sys.stdout)
    return 0


def _world(run: SavedRun) -> str:
    """Return what a run has learnt in, as a person wrote it."""
    fields = [f"--env.{name} {value}" for name, value in run.settings.get("env", {}).items()]
    wrappers = [f"--wrap {word}" for word in run.settings.get("wrappers", [])]
    return " ".join([run.settings["environment"], *fields, *wrappers])


def labels(folders: tuple[Path, ...]) -> list[str]:
    """Return the shortest ends of paths by which folders can be told apart.

    >>> labels((Path("runs/ppo"), Path("runs/dqn"))), labels((Path("a/run"), Path("b/run")))
    (['ppo', 'dqn'], ['a/run', 'b/run'])
    """
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(part[-length:]) for part in parts]
        if len(set(ends)) == len(set(parts)):
            return ends
    return [str(folder) for folder in folders]
