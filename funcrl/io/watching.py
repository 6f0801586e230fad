"""Where runs stand, read from their folders while they go on, without a word to the processes that write them."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funcrl.core.checks import require
from funcrl.io.folders import SHARDS
from funcrl.io.locks import is_held
from funcrl.io.settings import read_json, run_folder
from funcrl.io.sharded import is_sharded, open_sharded

_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Standing:
    """Where a run, or a part of one, stands."""

    name: str
    label: str
    """algorithm and environment"""
    done: float
    """share of all steps of all seeds, in [0, 1]"""
    step: int
    """environment steps of a seed, of those that run now"""
    returns: tuple[float, ...]
    """interquartile mean after each iteration, NaN before the first episode ended"""
    age: float
    """seconds since something was written; infinity before that"""
    is_written: bool
    """whether a process holds it"""

    @property
    def state(self) -> str:
        """In a word: done, running, waiting or stopped."""
        if self.done >= 1.0:
            return "done"
        if self.is_written:
            return "running" if self.returns or self.step else "compiling"
        return "stopped" if self.step else "not begun"

    def line(self, width: int = 24) -> str:
        """Return it as a line for a terminal."""
        known = [x for x in self.returns if x == x]
        last = f"{known[-1]:10.4g}" if known else f"{'–':>10}"
        age = "" if self.state != "running" else f"  {_span(self.age)} ago"
        row = f"  {self.name:<28.28} {self.state:<10}{self.done:5.0%}{self.step:>12,}{last}  "
        return row + f"{sparkline(known, width):<{width}}" + age


def sparkline(values: list[float], width: int) -> str:
    """Return numbers as a row of bars, averaged where there are more than fit.

    >>> sparkline([0.0, 1.0, 2.0, 3.0, 3.0, 3.0], 3)
    '▁▇█'
    """
    if not values:
        return ""
    count = min(width, len(values))
    ends = [len(values) * i // count for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(ends)]
    low, high = min(means), max(means)
    return "".join(_BARS[round((x - low) / (high - low) * 7) if high > low else 0] for x in means)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def standings(folder: Path, name: str | None = None) -> Iterator[Standing]:
    """Yield where the runs in a folder stand: one, a shard each, or a program of a sweep each.

    Args:
        folder: What `funcrl train` or `funcrl sweep` writes into.
        name: What to call it; its path by default.

    Raises:
        FileNotFoundError: When there is no run in it.
        ValueError: When its settings are damaged.
    """
    folder = run_folder(folder)
    name = str(folder) if name is None else name
    if is_sharded(folder):
        run = open_sharded(folder, "watch")
        for number, lanes in enumerate(run.shards):
            seeds = [run.settings["seeds"][lane] for lane in lanes]
            yield _standing(
                run.part(number), f"{name} {seeds[0]}–{seeds[-1]}", {**run.settings, "seeds": seeds}
            )
        return
    settings = read_json(folder, "watch")
    if "over" in settings and "program" not in settings:
        parts = sorted(
            (folder / "programs").glob("*"), key=lambda path: int(path.name) if path.name.isdecimal() else 0
        )
        for part in parts:
            if (part / "config.json").is_file() or (part / SHARDS).is_dir():
                yield from standings(part, f"{name} {part.name}")
        return
    hold = "hold a run or a sweep"
    whole = {"algorithm", "environment", "seeds", "num_steps"} <= settings.keys() and "search" not in settings
    require(whole, "watch", str(folder), hold, settings.get("command", "something else"))
    yield _standing(folder, name, settings)


def _standing(folder: Path, name: str, settings: dict[str, Any]) -> Standing:
    label = f"{settings['algorithm']} {settings['environment']}"
    steps = int(settings.get("continued_to", settings["num_steps"]))
    reached: list[int] = []
    returns: list[float] = []
    age = float("inf")
    with suppress(OSError):
        age = max(0.0, time.time() - (folder / "metrics.jsonl").stat().st_mtime)
        # A line that is being written has no end yet, and is left for the next look.
        for line in (folder / "metrics.jsonl").read_bytes().split(b"\n")[:-1]:
            with suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                step, earned = int(row["step"]), row["return_iqm"]
                if not reached or step <= reached[-1]:  # another group of lanes has begun
                    reached.append(0)
                    returns = []
                reached[-1] = step
                returns.append(float("nan") if earned is None else float(earned))
    lanes = int(settings.get("lanes", len(settings["seeds"])))
    groups = max(1, -(-lanes // int(settings["lanes_per_group"])), len(reached))
    share = min(1.0, sum(reached) / (steps * groups)) if steps else 0.0
    last = reached[-1] if reached else 0
    done = (
        1.0
        if (folder / "checkpoint" / "states.safetensors").is_file() and share >= 1.0
        else min(share, 0.999)
    )
    return Standing(name, label, done, last, tuple(returns), age, is_held(folder) or _is_part_held(folder))


def _is_part_held(folder: Path) -> bool:
    """Return whether the folder is that of a program, whose sweep is held as a whole."""
    return folder.parent.name == "programs" and is_held(folder.parent.parent)
