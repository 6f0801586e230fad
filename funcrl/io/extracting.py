"""Some lanes of a run, as a run of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from funcrl import envs
from funcrl.core import tree
from funcrl.core.checks import require
from funcrl.core.resolve import resolve_seeds
from funcrl.io.assembling import assemble, joined
from funcrl.io.folders import check_folder
from funcrl.io.locks import only_writer
from funcrl.io.restoring import latest
from funcrl.io.runs import SavedRun, open_run
from funcrl.train import Result
from funcrl.train.cores import most_processes
from funcrl.train.plan import groups_of
from funcrl.train.programs import example_carry
from funcrl.train.saving import Start
from funcrl.train.shards import listed
from funcrl.train.sweep import ENV, is_number


def extract(
    folder: str | Path, seeds: Iterable[int], out: str | Path, *, replace: bool = False, command: str = ""
) -> Result:
    """Take some lanes out of a run and leave them as a run of their own, which can go on alone.

    It goes on with the same random numbers as among the others; programs of other widths round differently.

    Args:
        folder: Of the run.
        seeds: Which lanes, in their new order.
        out: Folder to leave; made where it is not there.
        replace: Whether another run that is in it may be replaced.
        command: What a person wrote, for the new run's settings.

    Returns:
        What these lanes have reached.

    Raises:
        ValueError: When the run has no such seed, or no checkpoint with all of them after the same iteration.
    """
    run = open_run(folder)
    seeds = resolve_seeds("extract", seeds)
    unknown, instead = [seed for seed in seeds if seed not in run.seeds], f"It has {listed(run.seeds)}."
    require(not unknown, "extract", "seeds", "be those of lanes of the run", unknown, instead)
    out = Path(out)
    require(out.resolve() != run.folder.resolve(), "extract", "--out", "be another folder", str(out))
    check_folder(out, replace, "extract")
    places = [run.seeds.index(seed) for seed in seeds]
    start = _lanes(run, places)
    settings = {
        **run.settings,
        "command": command,
        "seeds": list(seeds),
        **_of_lanes(run, places),
        "lanes_per_group": len(seeds),
        "processes": min(run.settings["processes"], most_processes(len(seeds))),
        "track": [],
        "start": None,
        "extracted_from": str(folder),
    }
    with only_writer(out, "extract"):
        plan = SavedRun(out, settings).plan(processes=1)
        return assemble(out, plan, settings, [(range(len(seeds)), start)])


def _lanes(run: SavedRun, places: Sequence[int]) -> Start:
    """Return where some lanes were at the last checkpoint."""
    plan, found = run.plan(processes=1), latest(run.folder)
    example = example_carry(plan)
    rows: dict[int, Start] = {}
    for group in groups_of(plan):
        inside = [place for place in places if place in group]
        start = found.start(group, example) if inside else None
        if start is None:
            continue
        for place in inside:
            row = slice(place - group.start, place - group.start + 1)
            carry, figures = tree.index((start.carry, start.figures), row)
            rows[place] = Start(start.iteration, carry, figures)
    iterations = {start.iteration for start in rows.values()}
    hold = "hold a checkpoint of all these seeds after the same iteration"
    whole = len(rows) == len(places) and len(iterations) == 1
    instead = f"Write funcrl resume {run.folder} first."
    require(whole, "extract", str(run.folder), hold, sorted(iterations), instead)
    return joined(rows[place] for place in places)


def _of_lanes(run: SavedRun, places: Sequence[int]) -> dict[str, Any]:
    """Return the settings that may hold one value a lane, `config` and `env`, with those of some lanes."""

    def part(name: str, value: Any) -> Any:
        several = isinstance(value, list) and not isinstance(run.env, envs.HostEnv)
        if not several or not is_number(name, run.config, run.env):
            return value
        return [value[place] for place in places]

    config, env = run.settings["config"], run.settings.get("env", {})
    return {
        "config": {name: part(name, value) for name, value in config.items()},
        "env": {name: part(f"{ENV}{name}", value) for name, value in env.items()},
    }
