"""`funcrl export`."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Literal

from funcrl.cli.arguments import parse_folder
from funcrl.cli.progress import say
from funcrl.core.checks import require
from funcrl.io import SavedRun, open_run
from funcrl.io.exporting import CHECKED, Exported, Lane, description_of, lane_of, write
from funcrl.io.shrinking import HEAD, measured, pruned, quantised


@dataclasses.dataclass
class Options:
    """What `funcrl export` takes beside the folder."""

    seed: int | None = None
    """whose agent; by default the seed whose last 100 training episodes earned most"""
    format: Literal["onnx", "pt2"] | None = None
    """onnx (extra onnx) runs nearly everywhere, pt2 in torch; by default what --out ends in, or onnx"""
    out: Path | None = None
    """file to write; DIR/policy.onnx by default. FILE.onnx.json beside it says names, shapes and bounds"""
    sampling: bool = False
    """draw actions as while it learnt, from a key that is a further input, instead of taking the best"""
    prune: float | None = None
    """leave out this share of the neurons of each hidden layer, those that count least; prints what that costs"""
    quantize: Literal["int8", "int8-static"] | None = None
    """matrix products of eight bits, activations rounded as they come (int8) or within ranges that were seen while the
    agent played (int8-static); onnx only. Prints what that costs"""


def export_command(words: list[str]) -> int:
    """Write one agent of a run into a file that runs without funcrl.

    Args:
        words: What stands after `funcrl export`.

    Returns:
        Exit status.
    """
    folder, options = parse_folder(
        "export",
        "Write one agent into a file that runs without funcrl: from a batch of observations to actions.",
        Options(),
        words,
    )
    run = open_run(folder)
    kind = options.format or (options.out.suffix.removeprefix(".") if options.out else "onnx")
    out = options.out or run.folder / f"policy.{kind}"
    hold = "end in .onnx or .pt2, as --format says"
    require(kind in ("onnx", "pt2") and out.suffix == f".{kind}", "export", "--out", hold, str(out))
    require(out.parent.is_dir(), "export", "--out", "lie in a folder that is there", str(out.parent))
    finals = run.final_returns().nan_to_num(-float("inf"))
    kept = [run.seeds.index(seed) for seed in run.kept_seeds]
    seed = (
        run.seeds[max(kept, key=lambda place: float(finals[place]))] if options.seed is None else options.seed
    )
    hold = "be left out for a .pt2 file"
    require(options.quantize is None or kind == "onnx", "export", "--quantize", hold, options.quantize)
    lane = lane_of(run, seed)
    smaller = lane if options.prune is None else pruned(lane, options.prune)
    done = write(smaller, out, sampling=options.sampling)
    _report(done, seed, run, options.prune is not None)
    if options.prune is not None or options.quantize is not None:
        _shrink(lane, smaller, done, options)
    return 0


def _shrink(lane: Lane, smaller: Lane, done: Exported, options: Options) -> None:
    """Quantise what has been written where that is asked for, and print what each step has cost."""
    say(f"\n{HEAD}", sys.stdout)
    with tempfile.TemporaryDirectory() as folder:
        before = write(lane, Path(folder) / done.path.name, sampling=options.sampling)
        say(measured("the agent", lane, before).row(), sys.stdout)
    if options.prune is not None:
        say(measured(f"pruned by {options.prune:g}", smaller, done).row(), sys.stdout)
    if options.quantize is not None:
        static = options.quantize == "int8-static"
        done = quantised(smaller, done, done.path, static=static)
        say(measured(options.quantize, smaller, done).row(), sys.stdout)


def _report(done: Exported, seed: int, run: SavedRun, pruned: bool) -> None:
    names, label = done.signature, f"{run.settings['algorithm']} {run.settings['environment']}"
    what = "itself without these neurons" if pruned else "the run's"
    say(f"{label}: the agent of seed {seed}, equal to {what} on {CHECKED} observations", sys.stdout)
    say(f"  inputs   {', '.join(names.inputs)}", sys.stdout)
    say(f"  outputs  {', '.join(names.outputs)}", sys.stdout)
    described = description_of(done.path)
    say(f"  wrote {done.path} ({done.size / 1e3:.1f} kB) and {described}, which describes it", sys.stdout)
