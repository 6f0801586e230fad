"""One group of lanes, shared out to processes of one thread each that never talk to each other.

The parent compiles for lanes of the first shard's size, makes room for all figures and final states in
memory that it shares with its forks, and forks. Each worker puts its own lanes in the place of those,
trains, writes its rows and says how far it is. The parent calls the callback as soon as all have done an
iteration, so that it sees what one process would have shown it.

A callback may stop training. So that everybody then stops after the same iteration, without waiting for
the others at each, a worker is at most a few iterations ahead of the callback's word and keeps the states
of these.
"""

from __future__ import annotations

import selectors
import time
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from funcrl.core import tree
from funcrl.train import errors
from funcrl.train.carry import Report
from funcrl.train.forks import GO_ON, SAVE, STOP, Channel, Child, fork
from funcrl.train.history import History, cut, figures, like_lanes, shared
from funcrl.train.outcome import Outcome, make_result
from funcrl.train.plan import Plan
from funcrl.train.programs import put_lanes
from funcrl.train.progress import Callback, Progress
from funcrl.train.result import Result
from funcrl.train.run import Run
from funcrl.train.saving import Part, Saver, Start, of_members
from funcrl.train.shards import Shard, listed

AHEAD = 4
"""Iterations that a worker may begin without the callback's word on the one before: enough for none to
wait for another's slower moment."""

_NEWS = 0.1
"""seconds between two messages of a worker to a parent that only wants to know how far it came: each
takes the parent, and so a core, for a moment"""

_PATIENCE = 1.0
"""seconds without a message after which to see whether all workers live"""


@dataclass(frozen=True)
class Room:
    """Shared memory for one group, lane axis first."""

    figures: Report
    """`[S, I]` each"""
    states: Any
    """agents and environments, `[S, ...]`"""

    def lanes(self, begin: int, end: int) -> Room:
        """The part of some lanes, in the same memory."""
        part = slice(begin, end)
        return Room(tree.index(self.figures, part), tree.index(self.states, part))


@dataclass
class Worker:
    """A child and what is known of its work."""

    child: Child
    shard: Shard
    seeds: tuple[int, ...]
    rows: list[int]
    """places of its lanes in the group"""
    iteration: int = 0
    """iterations done"""
    receipt: dict[str, Any] | None = None
    """of what it saved last"""
    environment_seconds: float = 0.0
    """that it waited for environments on the host"""
    finished: bool = False
    lost: bool = False


@dataclass
class Crew:
    """All workers of a group."""

    plan: Plan
    before: int = 0
    """iterations that were done before it began"""
    workers: list[Worker] = field(default_factory=list)

    @property
    def group(self) -> range:
        """All its lanes, as places in `plan.seeds`."""
        return range(self.workers[0].shard.lanes[0], self.workers[-1].shard.lanes[-1] + 1)

    @property
    def living(self) -> list[Worker]:
        """Those that are at work or have finished it."""
        return [worker for worker in self.workers if not worker.lost]

    def listen(self, selector: selectors.BaseSelector) -> None:
        """Wait until a worker says something or dies."""
        heard = selector.select(_PATIENCE)
        for key, _ in heard:
            worker: Worker = key.data
            messages = worker.child.read()
            for message in messages or []:
                self._hear(worker, message)
            if messages is None:
                selector.unregister(key.fd)
                worker.child.has_ended(wait=True)
                self._bury(worker)
        # A pipe tells of the end too, unless something that the worker started holds it open.
        for worker in [] if heard else self.living:
            if worker.child.has_ended():
                self._bury(worker)

    def _hear(self, worker: Worker, message: dict[str, Any]) -> None:
        if "error" in message:
            where = f"the worker process of {listed(worker.seeds)}"
            raise errors.rebuild(message["error"], where)
        worker.iteration = message["iteration"]
        worker.receipt = message.get("receipt", worker.receipt)
        worker.environment_seconds = message.get("environment_seconds", 0.0)
        worker.finished = message.get("finished", False)

    def _bury(self, worker: Worker) -> None:
        if worker.finished or worker.lost:
            return
        worker.lost = True
        warnings.warn(
            f"train: every worker process must stay alive, but that of {listed(worker.seeds)} "
            f"{worker.child.death}, after iteration {worker.iteration}. The other seeds go on.",
            RuntimeWarning,
            stacklevel=5,
        )


def train_in_workers(
    run: Run,
    plan: Plan,
    shards: list[Shard],
    callback: Callback | None,
    saver: Saver | None = None,
    start: Start | None = None,
) -> Outcome:
    """Train a group of lanes in worker processes.

    Args:
        run: Compiled, for as many lanes as a shard has; only its copies in the workers are trained.
        plan: What is to be done.
        shards: A group's lanes, one shard a worker.
        callback: See `train`.
        saver: What keeps the run's state, if anything does.
        start: Where the group goes on; None to begin.

    Returns:
        What the workers that lived have learnt, and whose seeds are lost.
    """
    begin, num_lanes = shards[0].lanes[0], sum(len(shard.lanes) for shard in shards)
    room = Room(
        figures(run.report, num_lanes, plan.num_iterations, shared),
        like_lanes((run.agent, run.env_states), num_lanes, shared),
    )
    before = 0 if start is None else start.iteration
    crew = Crew(plan, before)
    watched = callback is not None or saver is not None
    began = time.perf_counter()
    try:
        for shard in shards:
            rows = [lane - begin for lane in shard.lanes]
            own = room.lanes(rows[0], rows[-1] + 1)
            first = None if start is None else of_members(start, shard, begin)

            def task(
                channel: Channel, shard: Shard = shard, own: Room = own, first: Start | None = first
            ) -> None:
                work(run, plan, shard, own, channel, watched, saver, first)

            child = fork(task, [worker.child for worker in crew.workers])
            seeds = tuple(plan.seeds[lane] for lane in shard.lanes)
            crew.workers.append(Worker(child, shard, seeds, rows, before))
        done, stopped = _attend(crew, room, callback, saver)
    finally:
        for worker in crew.workers:
            worker.child.end()
    lost = tuple(seed for worker in crew.workers if worker.lost for seed in worker.seeds)
    seconds = time.perf_counter() - began
    return Outcome(_result(crew, room, done, seconds), lost, stopped)


def _attend(crew: Crew, room: Room, callback: Callback | None, saver: Saver | None) -> tuple[int, bool]:
    """Call back and wait until all workers have finished or died; return iterations and whether stopped."""
    plan, told, stopped = crew.plan, crew.before, False
    saving = None if saver is None else Saving(saver, crew)
    with selectors.DefaultSelector() as selector:
        for worker in crew.workers:
            selector.register(worker.child.messages, selectors.EVENT_READ, worker)
        while not all(worker.finished for worker in crew.living):
            crew.listen(selector)
            living = crew.living
            done = min((worker.iteration for worker in living), default=told)
            while told < done and not stopped:
                told += 1
                if callback is not None:
                    stopped = bool(callback(_progress(living, plan, room, told)))
                word = STOP if stopped else GO_ON
                if saving is not None:
                    word = saving.after(told, word)
                if callback is not None or saving is not None:
                    for worker in living:
                        worker.child.send(word)
            if saving is not None:
                saving.complete()
    return told, stopped


class Saving:
    """The parent's side of saving: it says when, and takes note once all workers have written."""

    def __init__(self, saver: Saver, crew: Crew) -> None:
        """Begin with nothing asked for.

        Args:
            saver: What is to keep the state.
            crew: Whose; nothing is saved any more once one is lost, so that what has all lanes stays.
        """
        self._saver = saver
        self._crew = crew
        self._asked: int | None = None
        """iteration of which the state has been asked for and is not complete yet"""
        self._marked = False

    def after(self, iteration: int, word: bytes) -> bytes:
        """Return the word on an iteration that has been reported, which may be to save.

        Workers hear it when they are `AHEAD - 1` iterations further, and save where they are then.
        """
        plan = self._crew.plan
        if self._asked is None and iteration == plan.num_iterations:
            self._asked = iteration  # unasked, at the end
        if iteration == self._asked:
            self._saver.mark(self._crew.group, iteration)
            self._marked = True
        at = iteration + AHEAD - 1
        if word == GO_ON and self._asked is None and at < plan.num_iterations and self._saver.wanted():
            self._asked = at
            return SAVE
        return word

    def complete(self) -> None:
        """Tell the saver when all workers have written what it marked."""
        if not self._marked or any(worker.lost for worker in self._crew.workers):
            return
        receipts = [worker.receipt for worker in self._crew.workers]
        written = [receipt for receipt in receipts if receipt and receipt["iteration"] == self._asked]
        if len(written) == len(receipts):
            self._saver.complete(written)
            self._asked, self._marked = None, False


def _progress(living: Sequence[Worker], plan: Plan, room: Room, iteration: int) -> Progress:
    rows = torch.tensor([row for worker in living for row in worker.rows], dtype=torch.int64, device="cpu")
    return Progress(
        seeds=tuple(seed for worker in living for seed in worker.seeds),
        lanes=tuple(lane for worker in living for lane in worker.shard.lanes),
        iteration=iteration,
        num_iterations=plan.num_iterations,
        step=iteration * plan.steps_per_iteration,
        report=tree.map(lambda x: x[rows, iteration - 1], room.figures),
    )


def _result(crew: Crew, room: Room, done: int, seconds: float) -> Result | None:
    """Return what the living workers have learnt; None where there are none."""
    workers = crew.living
    if not workers:
        return None
    rows = torch.tensor([row for worker in workers for row in worker.rows], dtype=torch.int64, device="cpu")
    figures = cut(room.figures, done)
    if len(rows) < len(room.figures.returns):
        figures = tree.index(figures, rows)
    return make_result(
        crew.plan,
        lanes=tuple(lane for worker in workers for lane in worker.shard.lanes),
        states=tree.index(room.states, rows),
        figures=figures,
        run_seconds=seconds,
        environment_seconds=sum(worker.environment_seconds for worker in workers) / len(workers),
        before=crew.before,
    )


def work(
    run: Run,
    plan: Plan,
    shard: Shard,
    room: Room,
    channel: Channel,
    watched: bool,
    saver: Saver | None = None,
    start: Start | None = None,
) -> None:
    """Train a shard; what a worker does.

    Args:
        run: Compiled, this process's own copy.
        plan: What is to be done.
        shard: With which lanes.
        room: Where their figures and final states go.
        channel: To the parent.
        watched: Whether the parent gives its word on every iteration.
        saver: What keeps the state when the parent says so, and at the end.
        start: Where the lanes of the program go on; None to begin.
    """
    kept: deque[Any] = deque(maxlen=AHEAD)
    """states after the iterations on which the callback's word has not come yet, oldest first"""
    keep = len(shard.lanes)

    def save(iteration: int) -> None:
        assert saver is not None
        receipt = saver.write(Part(shard.lanes, iteration, tree.index(run.carry, slice(keep))))
        channel.tell(iteration=iteration, receipt={**receipt, "iteration": iteration})

    try:
        run.reopen()
        put_lanes(run, plan, shard.members)
        if start is not None:
            run.restore(start.carry)
        history = History(room.figures, None if start is None else start.figures)
        before, told = history.count, time.perf_counter()
        for iteration in range(before + 1, plan.num_iterations + 1):
            if len(kept) == AHEAD:
                word = channel.word()
                if word == STOP:
                    break
                if word == SAVE:
                    save(iteration - 1)
            history.append(run.iterate())
            if watched:
                kept.append((run.agent, run.env_states))
            if watched or time.perf_counter() - told > _NEWS:
                channel.tell(iteration=iteration)
                told = time.perf_counter()
        else:
            while len(kept) > 1 and channel.word() != STOP:
                kept.popleft()
            if saver is not None and history.count > before and len(kept) <= 1:
                save(plan.num_iterations)
        states = kept[0] if kept else (run.agent, run.env_states)
        tree.map(lambda row, x: row.copy_(x[: len(row)]), room.states, states)
    finally:
        run.close()
    channel.tell(iteration=history.count, finished=True, environment_seconds=run.environment_seconds)
