"""Some lanes of a run, as a run of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from funcrl import envs
from funcrl.core import tree
from funcrl.core.checks import require
from funcrl.core.resolve import resolve_seeds
from funcrl.io.checkpoints import Checkpoints
from funcrl.io.folders import check_folder
from funcrl.io.locks import only_writer
from funcrl.io.recorder import Recorder
from funcrl.io.restoring import latest
from funcrl.io.runs import SavedRun, open_run
from funcrl.train import Carry, Plan, Progress, Report, Result
from funcrl.train.cores import most_processes
from funcrl.train.outcome import make_result
from funcrl.train.plan import groups_of
from funcrl.train.programs import example_carry
from funcrl.train.saving import Part
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
    carry, figures = _lanes(run, places)
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
        return _written(SavedRun(out, settings), carry, figures)


def _written(new: SavedRun, carry: Carry, figures: Report) -> Result:
    """Write tables, a checkpoint and, at the end of training, the final agents."""
    plan, num_lanes, iteration = new.plan(processes=1), len(new.seeds), figures.returns.shape[1]
    recorder = Recorder(new.folder, new.settings)
    for number in range(iteration):
        recorder(_progress(plan, number + 1, tree.index(figures, (slice(None), number))))
    saver = Checkpoints(recorder, plan)
    saver.mark(range(num_lanes), iteration)
    saver.complete([saver.write(Part(range(num_lanes), iteration, carry))])
    require(saver.saved == iteration, "extract", "--out", "take a checkpoint", str(new.folder))
    result = make_result(plan, tuple(range(num_lanes)), (carry.agent, carry.envs), figures, 0.0, iteration)
    finished = iteration == plan.num_iterations
    metadata = {name: new.settings[name] for name in ("algorithm", "environment")}
    recorder.finish(result if finished else None, metadata)
    return result


def _lanes(run: SavedRun, places: Sequence[int]) -> tuple[Carry, Report]:
    """Return the last checkpoint of some lanes, `[S, ...]`, and what they have reported, `[S, I]`."""
    plan, found = run.plan(processes=1), latest(run.folder)
    example = example_carry(plan)
    rows: dict[int, Any] = {}
    for group in groups_of(plan):
        inside = [place for place in places if place in group]
        start = found.start(group, example) if inside else None
        if start is None:
            continue
        for place in inside:
            row = slice(place - group.start, place - group.start + 1)
            rows[place] = tree.index((start.carry, start.figures), row)
    lengths = {figures.returns.shape[1] for _, figures in rows.values()}
    hold = "hold a checkpoint of all these seeds after the same iteration"
    whole = len(rows) == len(places) and len(lengths) == 1
    instead = f"Write funcrl resume {run.folder} first."
    require(whole, "extract", str(run.folder), hold, sorted(lengths), instead)
    return tree.map(lambda *leaves: torch.cat(leaves), *(rows[place] for place in places))  # type: ignore[no-any-return]


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


def _progress(plan: Plan, iteration: int, report: Report) -> Progress:
    step = iteration * plan.steps_per_iteration
    return Progress(plan.seeds, tuple(range(len(plan.seeds))), iteration, plan.num_iterations, step, report)
