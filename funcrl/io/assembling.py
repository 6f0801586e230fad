"""A run written at once, from what its lanes have reached elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from funcrl.core import tree
from funcrl.core.checks import require
from funcrl.io.checkpoints import Checkpoints
from funcrl.io.recorder import Recorder
from funcrl.train import Plan, Progress, Result
from funcrl.train.outcome import make_result
from funcrl.train.result import concatenate
from funcrl.train.saving import Part, Start


def assemble(
    folder: Path,
    plan: Plan,
    settings: dict[str, Any],
    reached: Iterable[tuple[range, Start]],
    *,
    by: str = "seed",
    with_replay: bool = True,
) -> Result:
    """Write tables, a checkpoint of each group of lanes and, where they are at the end, the final agents.

    Args:
        folder: Where to, free or with a run that is to be replaced.
        plan: Of the run.
        settings: For its `config.json`.
        reached: Each group of lanes that has begun, in order, and where it is.
        by: What names a row of the tables, see `Recorder`.
        with_replay: Whether checkpoints hold replay buffers.

    Returns:
        What the lanes have reached.

    Raises:
        OSError: When something cannot be written.
        ValueError: When a checkpoint cannot be.
    """
    recorder = Recorder(folder, settings, by=by, learnt=plan.learnt)
    saver = Checkpoints(recorder, plan, with_replay=with_replay)
    results = []
    for group, start in reached:
        seeds = tuple(plan.seeds[lane] for lane in group)
        for number in range(start.iteration):
            step = (number + 1) * plan.steps_per_iteration
            report = tree.index(start.figures, (slice(None), number))
            recorder(Progress(seeds, tuple(group), number + 1, plan.num_iterations, step, report))
        saver.mark(group, start.iteration)
        saver.complete([saver.write(Part(group, start.iteration, start.carry))])
        require(saver.saved == start.iteration, "assemble", "folder", "take a checkpoint", str(folder))
        states = (start.carry.agent, start.carry.envs)
        results.append(make_result(plan, tuple(group), states, start.figures, 0.0, 0.0, start.iteration))
    result = concatenate(results)
    finished = len(result.seeds) == len(plan.seeds) and len(result.steps) == plan.num_iterations
    recorder.finish(
        result if finished else None, {name: settings[name] for name in ("algorithm", "environment")}
    )
    return result


def joined(starts: Iterable[Start]) -> Start:
    """Return the lanes of several starts after the same iteration, one after the other."""
    each = list(starts)
    (iteration,) = {start.iteration for start in each}
    carry = tree.map(lambda *leaves: torch.cat(leaves), *(start.carry for start in each))
    figures = tree.map(lambda *leaves: torch.cat(leaves), *(start.figures for start in each))
    return Start(iteration, carry, figures)
