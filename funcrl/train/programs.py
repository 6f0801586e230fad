"""The programs of a plan: a `Run` for as many lanes as one process has at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from funcrl import envs
from funcrl.core import lanes, tree
from funcrl.train.carry import Carry
from funcrl.train.learnt import Learnt
from funcrl.train.loops import loop_of
from funcrl.train.plan import Plan, groups_of, lanes_of, shards_of
from funcrl.train.run import Run
from funcrl.train.stages import Evaluations


def make_run(plan: Plan, members: Sequence[int]) -> Run:
    """Return a run of some of a plan's lanes; nothing is compiled yet.

    Args:
        plan: What is to be done.
        members: Places in `plan.seeds`.
    """
    seeds, config, env, learnt = taken(plan, members)
    num_cycles = plan.steps_per_iteration // loop_of(plan.algorithm).steps_per_cycle(config)
    asked = None
    if plan.evaluate_every:
        asked = Evaluations(plan.evaluate_every, plan.num_episodes, plan.episode_limit)
    given = (seeds, plan.device, plan.backend, num_cycles, asked, learnt, plan.part)
    return Run(plan.algorithm, env, config, *given)


def example_carry(plan: Plan) -> Carry:
    """Return what a run of the plan begins with, of as many lanes as one process has at once."""
    first, *_ = shards_of(plan, next(groups_of(plan)))
    return make_run(plan, first.members).carry


def put_lanes(run: Run, plan: Plan, members: Sequence[int]) -> None:
    """Begin anew with other lanes of the plan, as many as before."""
    run.restart(*taken(plan, members))


def taken(plan: Plan, members: Sequence[int]) -> tuple[list[int], Any, Any, Learnt | None]:
    """Return what some lanes of a plan are made of: seeds, settings, environment and what they begin with.

    Args:
        plan: What is to be done.
        members: Places in `plan.seeds`.
    """
    which = torch.tensor(members, dtype=torch.int64, device="cpu")
    env = plan.env if isinstance(plan.env, envs.HostEnv) else lanes.Lanes(plan.env).take(which)
    learnt = plan.learnt
    if learnt is not None:
        learnt = tree.map(lambda x: x[which.to(x.device)].to(plan.device), learnt)
    return [plan.seeds[lane] for lane in members], lanes_of(plan.config, which), env, learnt
