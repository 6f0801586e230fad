"""`funcrl resume`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from funcrl.cli.arguments import parse_count, parse_folder
from funcrl.cli.progress import say
from funcrl.cli.ranks import alone, train_shards
from funcrl.cli.running import check_saving, make_saver, train_into
from funcrl.cli.sweep import resume_sweep
from funcrl.core.checks import require
from funcrl.io import Recorder, SavedRun, latest, make_tracker, only_writer, open_run
from funcrl.io.restoring import check_settings
from funcrl.io.settings import check_is_one_run, read_settings, run_folder
from funcrl.io.sharded import is_sharded, open_sharded
from funcrl.train.ranks import Rank, rank_of


@dataclasses.dataclass
class Options:
    """What `funcrl resume` takes."""

    steps: str | None = None
    """environment steps of each seed in all (1e6, 500k), to go on beyond those that were planned; what is
    annealed over the planned ones keeps its last value"""
    processes: int | None = None
    """share the seeds out to this many processes, with the same results; by default as many as before"""
    checkpoint_every: float = 60.0
    """seconds between two checkpoints; inf for none but at the end"""
    keep_checkpoints: int = 2
    """how many of the last checkpoints stay"""
    save_replay: bool = True
    """save replay buffers in checkpoints too; without them a run goes on with empty ones"""


def resume_command(words: list[str]) -> int:
    """Go on with a run from its last checkpoint, as if nothing had been in between.

    Args:
        words: What stands after `funcrl resume`.

    Returns:
        Exit status.
    """
    folder, options = parse_folder(
        "resume",
        "Go on with a run from its last checkpoint, as if nothing had been in between.",
        Options(),
        words,
    )
    return _resume(folder, options)


def _resume_sharded(folder: Path, options: Options) -> int:
    """Do what ranks have left undone."""
    run = open_sharded(folder, "resume")
    instead = "Write it once the run has come to its end."
    require(
        options.steps is None, "resume", "--steps", "be left out for a run of ranks", options.steps, instead
    )
    whole = SavedRun(folder, run.settings)
    plan = whole.plan()
    if run.start.is_file():
        plan = dataclasses.replace(plan, learnt=whole.learnt_in(run.start))
    label = f"{run.settings['algorithm']} {run.settings['environment']}"
    return train_shards(label, rank_of(os.environ) or Rank(0, 1), run, plan, options)


def _resume(folder: Path, options: Options) -> int:
    folder = run_folder(folder)
    check_saving("resume", options)
    if is_sharded(folder):
        return _resume_sharded(folder, options)
    alone("resume")
    settings = read_settings(folder)
    if "program" in settings or "search" in settings:
        check_is_one_run("resume", folder, settings)
    if "over" in settings:
        whole = options.steps is None
        require(whole, "resume", "--steps", "be left out for a sweep", options.steps)
        with only_writer(folder, "resume"):
            return resume_sweep(folder, settings, options)
    run = open_run(folder)
    folder = run.folder
    with only_writer(folder, "resume"):
        found = latest(folder)
        check_settings(found, run.settings)
        plan = dataclasses.replace(run.plan(options.processes), learnt=run.learnt)
        if options.steps is not None:
            steps = parse_count("--steps", options.steps)
            hold, planned = f"be at least {plan.num_steps}, which are planned already", plan.num_steps
            require(steps >= planned, "resume", "--steps", hold, steps)
            plan = dataclasses.replace(plan, num_iterations=steps // plan.steps_per_iteration)
        label = f"{run.settings['algorithm']} {run.settings['environment']}"
        if found.lane_steps >= plan.num_steps * len(plan.seeds):
            say(
                f"{label}: {plan.num_steps:,} steps of each seed are done. To go on: funcrl resume {folder} --steps N"
            )
            return 0
        settings = dict(run.settings)
        if plan.num_steps != run.plan(1).num_steps:
            settings["continued_to"] = plan.num_steps
        say(f"{label}: going on from step {found.head['step']:,} of {plan.num_steps:,}")
        if plan.placement == "host":
            say(f"{label}: environments on the host cannot be put back: new episodes begin")
        if not found.head["replay"]:
            say(f"{label}: the checkpoint has no replay buffers: they are filled anew")
        trackers = [make_tracker(word) for word in settings.get("track", [])]
        recorder = Recorder(folder, settings, found.extents, trackers)
        return train_into(label, plan, recorder, make_saver(recorder, plan, options, found), found)
