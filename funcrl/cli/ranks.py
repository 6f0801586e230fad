"""Runs that a launcher's ranks share out: `torchrun -m funcrl train ...`, `srun funcrl train ...`."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from funcrl.cli.progress import say, summary
from funcrl.cli.running import draw, make_saver, run_on_screen, train_into
from funcrl.core.checks import require
from funcrl.io import Checkpoint, Recorder, check_folder, has_checkpoint, latest, make_tracker, only_writer
from funcrl.io.heads import remove_checkpoints
from funcrl.io.restoring import check_settings
from funcrl.io.sharded import Sharded, join, put_together
from funcrl.train import Plan, execute
from funcrl.train.plan import with_parts
from funcrl.train.ranks import Rank, rank_of, shards, share
from funcrl.train.shards import listed


def launched(options: Any) -> Rank | None:
    """Return which rank this process is, None for one that works alone, and check the options of ranks.

    Raises:
        ValueError: When an option cannot stand where ranks share out a run.
    """
    rank = rank_of(os.environ)
    if rank is None:
        return None
    hold = "be written where ranks share out a run"
    require(options.out is not None, "train", "--out", hold, "none", "Write a folder that all of them see.")
    hold, instead = "be left out where ranks share out a run", f"Remove {options.out} yourself."
    require(not options.replace, "train", "--replace", hold, True, instead)
    return rank


def alone(function: str) -> None:
    """Check that no launcher has started several processes for what one does.

    Raises:
        ValueError: When it has.
    """
    rank = rank_of(os.environ)
    hold, instead = "be done by one process", "Start it without a launcher."
    require(rank is None, function, "this", hold, f"{rank.count if rank else 1} ranks", instead)


def train_in_ranks(
    label: str, rank: Rank, folder: Path, settings: dict[str, Any], plan: Plan, options: Any, by: str = "seed"
) -> int:
    """Train what of a run is this rank's, and put all together where the others have done theirs.

    Args:
        label: What is trained, for the person who watches.
        rank: Which this is.
        folder: Of the run, on a disk that all ranks see.
        settings: For its `config.json`.
        plan: Of the whole run.
        options: How to save.
        by: What names a row of its tables.

    Returns:
        Exit status: 0 too where other ranks are still at work.
    """
    if rank.number >= len(shards(plan, rank.count)):
        say(f"{label}: rank {rank.number} has nothing to do: {len(plan.seeds)} seeds are too few")
        return 0
    run = join(folder, settings, shards(plan, rank.count), plan.learnt)
    if run is None:
        say(f"{label}: {folder} has the whole of it already. To train it again, remove the folder")
        return 0
    return train_shards(label, rank, run, plan, options, by)


def train_shards(label: str, rank: Rank, run: Sharded, plan: Plan, options: Any, by: str = "seed") -> int:
    """Train those of a run's shards that are this rank's; see `train_in_ranks`."""
    parts = [share(plan, run.shards, number, rank, options.processes) for number in range(len(run.shards))]
    for number in range(rank.number, len(parts), rank.count):
        if not run.is_done(number, parts[number], by):
            status = _train(label, rank, run, number, parts[number], options, by)
            if status:
                return status
    waiting = [number for number, part in enumerate(parts) if not run.is_done(number, part, by)]
    if waiting:
        seeds = listed([plan.seeds[lane] for number in waiting for lane in run.shards[number]])
        say(f"{label}: rank {rank.number} has done its part; {seeds} are other ranks'")
        return 0
    result = put_together(run, plan, parts, by=by, with_replay=options.save_replay)
    if by == "lane":
        remove_checkpoints(run.folder)  # as a sweep does with a program that has come to its end
    elif result is not None:
        draw(result, plan, f"{label}, {len(result.seeds)} seeds", run.folder / "curve.png")
        say("\n" + summary(label, plan, result), sys.stdout)
        say(
            f"  wrote {run.folder}: curve.png, returns.csv, metrics.csv, metrics.jsonl, config.json, checkpoint/",
            sys.stdout,
        )
    return 0


def _train(label: str, rank: Rank, run: Sharded, number: int, plan: Plan, options: Any, by: str) -> int:
    """Train one shard, from its last checkpoint where it has one."""
    folder, lanes = run.part(number), run.shards[number]
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**run.settings, "seeds": list(plan.seeds), "lanes_per_group": plan.lanes_per_group}
    settings |= {"processes": plan.processes, "shard": [lanes.start, lanes.stop], "track": []}
    label = f"{label} (rank {rank.number} of {rank.count}, {listed(plan.seeds)})"
    # One bar is enough to see how far all are; errors and warnings of all ranks are shown.
    shown = None if rank.number == 0 else io.StringIO()
    with only_writer(folder):
        before = latest(folder) if has_checkpoint(folder) else None
        if before is not None:
            check_settings(before, settings)
            say(f"{label}: going on from step {before.head['step']:,} of {plan.num_steps:,}")
        extents = None if before is None else before.extents
        recorder = Recorder(folder, settings, extents, by=by, learnt=plan.learnt)
        ended = run_on_screen(
            label, plan, recorder, make_saver(recorder, plan, options, before), before, shown
        )
    if ended.failed is not None:
        say(f"error: {ended.failed}")
        return 1
    if ended.interrupt.number is not None:
        say(f"{label}: interrupted. Go on with the same words, or with: funcrl resume {run.folder}")
        return ended.interrupt.status
    lost = () if ended.result is None else ended.result.lost_seeds
    if lost:
        say(f"{label}: lost {listed(lost)}. Go on with the same words, or with: funcrl resume {run.folder}")
    return 1 if lost or ended.result is None else 0


def train_together(
    label: str, rank: Rank, folder: Path, settings: dict[str, Any], plan: Plan, options: Any
) -> int:
    """Train the same lanes on all ranks, each from its part of every batch; rank 0 shows and writes.

    Args: see `train_in_ranks`.

    Returns:
        Exit status.
    """
    before = latest(folder) if has_checkpoint(folder) else None
    if before is not None and before.head["step"] >= plan.num_steps:
        before = None  # what is done is not begun again
    if before is not None:
        check_settings(before, settings)
    device = plan.device
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", rank.local % max(1, torch.cuda.device_count()))
    _meet(rank, "nccl" if device.type == "cuda" else "gloo")
    try:
        plan = with_parts(dataclasses.replace(plan, device=device))
        if before is None and rank.number == 0:
            check_folder(folder, replace=rank.restarts > 0)
        if rank.number > 0:
            return _follow(plan, before)
        say(f"{label}: {rank.count} ranks learn together, each from a part of every batch")
        if before is not None:
            say(f"{label}: going on from step {before.head['step']:,} of {plan.num_steps:,}")
        with only_writer(folder):
            extents = None if before is None else before.extents
            trackers = [make_tracker(word) for word in options.track]
            recorder = Recorder(folder, settings, extents, trackers, learnt=plan.learnt)
            return train_into(label, plan, recorder, make_saver(recorder, plan, options, before), before)
    finally:
        torch.distributed.destroy_process_group()


def _meet(rank: Rank, backend: str) -> None:
    """Make the group of all ranks."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        torch.distributed.init_process_group(backend)
        return
    # The launcher's store outlives a start: without a place of its own, each would find addresses of ranks that are gone.
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    distributed: Any = torch.distributed
    store = distributed.TCPStore(address, port, rank.count, False)
    own = distributed.PrefixStore(f"funcrl/{rank.restarts}", store)
    torch.distributed.init_process_group(backend, store=own, rank=rank.number, world_size=rank.count)


def _follow(plan: Plan, before: Checkpoint | None) -> int:
    """Learn with rank 0 for as long as it does; it hears what people and schedulers ask for."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        execute(plan, None, None, None if before is None else before.start)
    except RuntimeError as error:
        # A compiled program names the operation that has failed, not the connection.
        told = any(word in str(error) for word in ("Connection", "_of_ranks"))
        if not isinstance(error, torch.distributed.DistError) and not told:
            raise
        return 1  # rank 0 has ended before the end
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0
