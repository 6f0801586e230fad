"""What training one group of lanes leads to, in whichever processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from funcrl.train.carry import Report
from funcrl.train.plan import Plan
from funcrl.train.result import Result


@dataclass(frozen=True)
class Outcome:
    """How one group of lanes ended."""

    result: Result | None
    """of the seeds that are through; None where there are none"""
    lost_seeds: tuple[int, ...]
    """those whose process died"""
    stopped: bool
    """whether the callback has ended training"""


def make_result(
    plan: Plan,
    lanes: tuple[int, ...],
    states: tuple[Any, Any],
    figures: Report,
    run_seconds: float,
    environment_seconds: float,
    before: int = 0,
) -> Result:
    """Return the result of some lanes, without the time that compiling took.

    Args:
        plan: What was to be done.
        lanes: `S`, as places in `plan.seeds`.
        states: Agents and environments, lane axis first.
        figures: `[S, I]` each.
        run_seconds: How long all of them took together.
        environment_seconds: How much of it a process waited for environments on the host.
        before: How many of the iterations were done before, in another time.
    """
    num_lanes, num_iterations = figures.returns.shape
    return Result(
        seeds=tuple(plan.seeds[lane] for lane in lanes),
        lanes=lanes,
        states=states[0],
        env_states=states[1],
        returns=figures.returns,
        episodes=figures.episodes,
        metrics=figures.metrics,
        steps=torch.arange(1, num_iterations + 1, device="cpu") * plan.steps_per_iteration,
        compile_seconds=0.0,
        run_seconds=run_seconds,
        environment_seconds=environment_seconds,
        timed_steps=(num_iterations - before) * plan.steps_per_iteration * num_lanes,
        placement=plan.placement,
    )
