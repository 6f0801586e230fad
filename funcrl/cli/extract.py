"""`funcrl extract`."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path

from funcrl.cli.arguments import parse_folder, parse_seeds
from funcrl.cli.progress import say
from funcrl.cli.running import draw
from funcrl.core.checks import require
from funcrl.io import extract, free_folder, only_writer, open_run
from funcrl.train.shards import listed


@dataclasses.dataclass
class Options:
    """What `funcrl extract` takes beside the folder."""

    seeds: str = ""
    """needed: which ones, 3 for the seed 3, a range (100:116), or a list (3,5,8)"""
    out: Path | None = None
    """folder to leave; DIR-seeds by default, numbered where that is taken"""
    replace: bool = False
    """replace the run that is in the folder"""


def extract_command(words: list[str]) -> int:
    """Take some seeds out of a run, as a run of their own.

    Args:
        words: What stands after `funcrl extract`.

    Returns:
        Exit status.
    """
    folder, options = parse_folder(
        "extract",
        "Take some seeds out of a run, as a run of their own: it can be evaluated, compared, and go on alone.",
        Options(),
        words,
    )
    instead = "Write --seeds 3, for the seed 3, --seeds 3,5 for two."
    require(bool(options.seeds), "extract", "--seeds", "be given", options.seeds, instead)
    run = open_run(folder)
    # A single number is a seed here, not how many.
    if options.seeds.strip().isdigit():
        seeds = [int(options.seeds)]
    else:
        seeds = list(parse_seeds(options.seeds, "extract"))
    out = options.out or free_folder(run.folder.with_name(f"{run.folder.name}-seeds"))
    command = shlex.join(["funcrl", "extract", *words])
    result = extract(folder, seeds, out, replace=options.replace, command=command)
    label = f"{run.settings['algorithm']} {run.settings['environment']}"
    with only_writer(out, "extract"):
        draw(result, open_run(out).plan(processes=1), f"{label}, {listed(seeds)}", out / "curve.png")
    step = int(result.steps[-1])
    say(f"{label}: {listed(seeds)} after {step:,} steps. To go on: funcrl resume {out}")
    say(
        f"wrote {out}: curve.png, returns.csv, metrics.csv, metrics.jsonl, config.json, checkpoint/",
        sys.stdout,
    )
    return 0
