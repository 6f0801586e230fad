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
from funcrl.io import check_folder, extract, free_folder, only_writer, open_run
from funcrl.train.shards import listed


@dataclasses.dataclass
class Options:
    """What `funcrl extract` takes beside the folder."""

    seeds: str = ""
    """which lanes: 3, for one seed, a range (100:116), or a list (3,5,8,)"""
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
    text = options.seeds if set(options.seeds) & set(",:") else f"{options.seeds},"
    seeds = list(parse_seeds(text))
    out = options.out or free_folder(run.folder.with_name(f"{run.folder.name}-seeds"))
    check_folder(out, options.replace, "extract")
    command = shlex.join(["funcrl", "extract", *words])
    with only_writer(out, "extract"):
        result = extract(folder, seeds, out, command)
        label = f"{run.settings['algorithm']} {run.settings['environment']}"
        draw(result, open_run(out).plan(processes=1), f"{label}, {listed(seeds)}", out / "curve.png")
    step = int(result.steps[-1])
    say(f"{label}: {listed(seeds)} after {step:,} steps. To go on: funcrl resume {out}")
    say(
        f"wrote {out}: curve.png, returns.csv, metrics.csv, metrics.jsonl, config.json, checkpoint/",
        sys.stdout,
    )
    return 0
