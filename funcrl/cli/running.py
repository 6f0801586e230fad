"""A run on the screen: progress while it trains, signals that ask it to stop, last words at its end."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from funcrl import envs
from funcrl.buffers import memory
from funcrl.cli.progress import ProgressBar, say, summary
from funcrl.core.checks import require
from funcrl.io import (
    Checkpoint,
    Checkpoints,
    Recorder,
    has_checkpoint,
    learning_curve,
    regret_curve,
)
from funcrl.train import Plan, Progress, Result, WorkerError, execute, regret_lower_bound
from funcrl.train.shards import listed


def check_saving(function: str, options: Any) -> None:
    """Check the options that `make_saver` takes, before anything is written."""
    every, keep = options.checkpoint_every, options.keep_checkpoints
    require(every > 0, function, "--checkpoint-every", "be above 0", every)
    require(keep >= 1, function, "--keep-checkpoints", "be at least 1", keep)


def make_saver(recorder: Recorder, plan: Plan, options: Any, before: Checkpoint | None = None) -> Checkpoints:
    """Return what saves a run as the options say."""
    every, keep = options.checkpoint_every, options.keep_checkpoints
    return Checkpoints(recorder, plan, every=every, keep=keep, with_replay=options.save_replay, before=before)


class Interrupt:
    """Ctrl-C, and SIGTERM as schedulers send it, ask training to save and stop; a second one stops at once.

    What ends processes often sends SIGTERM twice, to the process and to its group: within `TOGETHER` that is one.
    """

    TOGETHER = 1.0
    """seconds"""

    def __init__(self, promise: str = "saving, then stopping") -> None:
        """Begin with nothing asked.

        Args:
            promise: What is said to be done when it is asked.
        """
        self._promise = promise
        self.number: int | None = None
        """the signal, once there was one"""
        self.measured = False
        """whether an iteration has been done"""
        self._first = 0.0
        """when it came, by the monotonic clock"""

    def __enter__(self) -> Interrupt:
        self._previous = {n: signal.signal(n, self._handle) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.number = self.number is not None, number
        now = time.monotonic()
        if again and number == signal.SIGTERM and now - self._first < self.TOGETHER:
            return
        self._first = now
        if again or not self.measured:
            raise KeyboardInterrupt
        say(f"\n{self._promise}; once more stops at once")

    @property
    def status(self) -> int:
        """The exit status that says which signal it was."""
        return 128 + (self.number or signal.SIGINT)


PATIENCE = 16
"""Iterations after which to stop though nothing has been saved yet: a worker may have been lost."""


def draw(result: Result, plan: Plan, title: str, path: Path) -> None:
    """Draw what is learnt: of a bandit the regret, of anything else the return."""
    if "cumulative_regret" not in result.metrics:
        learning_curve(result, title, path)
        return
    regret_curve(result, title, path, regret_lower_bound(plan.env, result.env_states))


@dataclass(frozen=True)
class Ended:
    """How a run on the screen has ended."""

    result: Result | None
    """None where it was cut off before it returned"""
    interrupt: Interrupt
    failed: OSError | None
    """what could not be written at the end"""


def train_into(
    label: str, plan: Plan, recorder: Recorder, saver: Checkpoints, before: Checkpoint | None = None
) -> int:
    """Train, show progress, fill the folder of a run, and return the exit status.

    Args:
        label: What is trained, for the person who watches.
        plan: What is to be done.
        recorder: Writes the tables.
        saver: Writes checkpoints.
        before: The checkpoint from which the run goes on; None to begin.
    """
    _announce(label, plan)
    folder, ended = recorder.folder, run_on_screen(label, plan, recorder, saver, before)
    result, failed = ended.result, ended.failed
    if result is not None:
        if failed is None:
            draw(result, plan, f"{label}, {len(result.seeds)} seeds", folder / "curve.png")
        say("\n" + summary(label, plan, result), sys.stdout)
        say(
            f"  wrote {folder}: curve.png, returns.csv, metrics.csv, metrics.jsonl, config.json, checkpoint/",
            sys.stdout,
        )
    status = _last_words(folder, result, ended.interrupt, saver)
    if failed is not None:
        say(f"error: {failed}")
    return status or int(failed is not None)


def _announce(label: str, plan: Plan) -> None:
    """Say what a person may want to know before it begins."""
    if plan.placement == "host":
        where = "this process" if plan.processes == 1 else f"{plan.processes} processes"
        count = plan.lanes_per_group * int(plan.config.num_envs)
        say(f"{label}: Gymnasium's environments on the host, {count} of them in {where}")
    if plan.replay_bytes:
        size = f"{plan.config.buffer_size:,} transitions for each of {plan.lanes_per_group} lanes"
        say(f"{label}: replay buffers of {memory.text(plan.replay_bytes)}, {size}")
    if plan.evaluate_every:
        every = plan.evaluate_every * plan.steps_per_iteration
        most = plan.num_episodes * plan.episode_limit / every
        say(
            f"{label}: {plan.num_episodes} greedy episodes every {every:,} steps, at most {most:.0%} more steps"
        )


def run_on_screen(
    label: str,
    plan: Plan,
    recorder: Recorder,
    saver: Checkpoints,
    before: Checkpoint | None = None,
    stream: TextIO | None = None,
) -> Ended:
    """Train, show progress, write tables, checkpoints and final agents; stop in good order when asked to.

    Args: see `train_into`; `stream` is where progress is shown, the error stream by default.
    """
    progress = ProgressBar(label, plan, stream, done=0 if before is None else before.lane_steps)
    result: Result | None = None
    failed: OSError | None = None
    with Interrupt() as interrupt:
        asked_at: int | None = None

        def callback(now: Progress) -> bool:
            nonlocal asked_at
            interrupt.measured = True
            recorder(now)
            progress(now)
            if interrupt.number is None:
                return False
            if asked_at is None:
                asked_at = now.iteration
                saver.ask()
                return False
            return saver.settled or now.iteration >= asked_at + PATIENCE

        try:
            result = execute(plan, callback, saver, None if before is None else before.start)
        except KeyboardInterrupt:
            interrupt.number = interrupt.number or signal.SIGINT
        except (envs.HostError, WorkerError, ValueError):
            if interrupt.measured:
                say(f"stopped; what was measured until then is in {recorder.folder}")
            raise
        finally:
            progress.close()
            try:
                recorder.finish(result, _metadata(recorder.settings, result))
            except OSError as error:
                failed = error
    return Ended(result, interrupt, failed)


def _last_words(folder: Path, result: Result | None, interrupt: Interrupt, saver: Checkpoints) -> int:
    """Say what is missing, and return the exit status."""
    lost = () if result is None else result.lost_seeds
    go_on = f"Go on with: funcrl resume {folder}"
    if lost:
        again = "" if saver.saved is None else f". {go_on} (from before they were lost)"
        say(
            f"\nlost: {listed(lost)}, of which returns.csv ends early and the final agents have nothing{again}"
        )
    if interrupt.number is not None:
        if not interrupt.measured:
            say("\ninterrupted: nothing was measured yet" + (f". {go_on}" if has_checkpoint(folder) else ""))
        elif has_checkpoint(folder):
            say(f"\ninterrupted: what was measured until then is in {folder}. {go_on}")
        else:
            say(f"\ninterrupted: what was measured until then is in {folder}; no checkpoint was made")
        return interrupt.status
    return 1 if lost else 0


def _metadata(settings: dict[str, Any], result: Result | None) -> dict[str, str]:
    """Return what the checkpoint's header says; of the seeds where they are not those of the settings."""
    metadata = {"algorithm": settings["algorithm"], "environment": settings["environment"]}
    if result is not None and result.lost_seeds:
        metadata["seeds"] = ",".join(map(str, result.seeds))
    return metadata
