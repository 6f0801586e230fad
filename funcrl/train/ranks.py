"""Sharing a run out to ranks, as pure functions: the environment of a process to its rank, a plan to shards.

Ranks are processes that a launcher starts, on one host or on many, and that never talk to each other: each
trains its own lanes, as the workers of one process do. Shards are what does not change when ranks do: where a
launcher goes on with fewer of them, each trains more shards, one after the other.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from funcrl.core import background
from funcrl.core.checks import require
from funcrl.train.cores import most_processes
from funcrl.train.plan import Plan, groups_of
from funcrl.train.programs import taken
from funcrl.train.shards import shard_size, share_out

_LAUNCHERS = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT"),
    "submitit": (
        "SUBMITIT_LOCAL_GLOBALID",
        "SUBMITIT_LOCAL_NTASKS",
        "SUBMITIT_LOCAL_LOCALID",
        "SUBMITIT_LOCAL_NTASKS",
        "",
    ),
    "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "", "SLURM_RESTART_COUNT"),
}
"""Variables that say which rank a process is; all but the first two may be missing. A script that `sbatch` runs
has no SLURM_STEP_NUM_TASKS: it is one process, whatever it has asked for. Where submitit is told `cluster="local"`, it
starts the tasks of a job on this host."""


@dataclass(frozen=True)
class Rank:
    """One of the processes of a launch."""

    number: int
    """from 0"""
    count: int
    """ranks in all"""
    local: int = 0
    """its number on its own host"""
    local_count: int = 1
    """ranks on its own host"""
    restarts: int = 0
    """how often the launch was begun again"""
    may_be_bound: bool = False
    """whether its launcher may have given it cores that are its own"""


def rank_of(environment: Mapping[str, str]) -> Rank | None:
    """Return which rank a process is; None where no launcher has started several.

    Args:
        environment: Its variables, `os.environ`.

    Raises:
        ValueError: When a variable is no number, or the rank is none of as many.

    >>> rank_of({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    Rank(number=1, count=4, local=1, local_count=2, restarts=0, may_be_bound=False)
    >>> rank_of({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None
    True
    """
    for launcher, names in _LAUNCHERS.items():
        if not all(environment.get(name) for name in names[:2]):
            continue
        number, count, local, local_count, restarts = (_number(environment, name) for name in names)
        hold = f"be below {names[1]}, which is {count}"
        require(count >= 1 and 0 <= number < count, "train", names[0], hold, number)
        if count > 1:
            on_host = _on_its_host(environment, local_count)
            return Rank(number, count, local, on_host, restarts, may_be_bound=launcher == "srun")
    return None


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name) or "0"
    require(text.isdecimal(), "train", name, "be a whole number", text, "A launcher sets it, or nobody.")
    return int(text)


def _on_its_host(environment: Mapping[str, str], count: int) -> int:
    """Return how many ranks a host has; SLURM writes them for all hosts, "2(x3),1", of which the most count."""
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", "1")
    each = [part.partition("(")[0] for part in tasks.split(",")]
    return count or max((int(part) for part in each if part.isdecimal()), default=1)


def shards(plan: Plan, count: int) -> list[range]:
    """Return the lanes of each shard, as places in `plan.seeds`.

    Args:
        plan: Of the whole run.
        count: How many ranks there are. Some get nothing where there are fewer than two lanes for each; where the
            plan runs lanes in groups, each group is a shard.
    """
    groups = list(groups_of(plan))
    if len(groups) > 1:
        return groups
    lanes = groups[0]
    count = min(count, most_processes(len(lanes)))
    return [shard.lanes for shard in share_out(lanes, count, shard_size(len(lanes), count))]


def share(plan: Plan, all_shards: Sequence[range], number: int, rank: Rank, processes: int | None) -> Plan:
    """Return the plan of one shard.

    Args:
        plan: Of the whole run.
        all_shards: What `shards` returned; their programs have one width.
        number: Which of them.
        rank: Who trains it, on a GPU of its own where a plan names none.
        processes: How many share its lanes out; None for as many as this host has cores for each of its ranks.
    """
    lanes = all_shards[number]
    width = max(len(shard) for shard in all_shards)
    seeds, config, env, learnt = taken(plan, lanes)
    device = plan.device
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", rank.local % max(1, torch.cuda.device_count()))
    if processes is None:
        processes = 1 if plan.processes == 1 else _cores(rank)
    return dataclasses.replace(
        plan,
        seeds=tuple(seeds),
        config=config,
        env=env,
        learnt=learnt,
        device=device,
        lanes_per_group=width,
        processes=min(processes, most_processes(width)),
        replay_bytes=plan.replay_bytes * width // plan.lanes_per_group,
        lanes_together=plan.lanes_per_group,
    )


def _cores(rank: Rank) -> int:
    """Return how many cores a rank has for itself."""
    mine = background.num_cores()
    all_cores = (os.cpu_count() or mine) if rank.may_be_bound else mine
    return max(1, min(mine, all_cores // rank.local_count))
