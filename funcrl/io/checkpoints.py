"""Checkpoints: all that a run's next iteration depends on, so that it can go on as if nothing had been.

`checkpoint/` holds, for each moment that was saved, one safetensors file a process with the carry of its
lanes, and one JSON file, the head, that makes them a checkpoint: it names them with lengths and checksums,
and says how far the tables go. It is written last, so that a moment is there as a whole or not at all. No file is
trusted: what does not fit its checksum is refused by name, and the checkpoint before is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import warnings
from typing import Any

from funcrl.core import tree
from funcrl.io.checkpoint import encode
from funcrl.io.files import write_atomically
from funcrl.io.heads import REPLAY, SCHEMA, decisive, files_of, lanes_of_head, newest_first, signed
from funcrl.io.recorder import Recorder
from funcrl.io.restoring import Checkpoint
from funcrl.train import Plan
from funcrl.train.saving import Part, Receipt


class Checkpoints:
    """A `Saver` that writes the state of a run into its folder every now and then."""

    def __init__(
        self,
        recorder: Recorder,
        plan: Plan,
        *,
        every: float = 60.0,
        keep: int = 2,
        with_replay: bool = True,
        before: Checkpoint | None = None,
    ) -> None:
        """Begin to count time; nothing is written yet.

        Args:
            recorder: Of the same run: a checkpoint says how far its tables go.
            plan: What is being done.
            every: Seconds between two checkpoints; infinity for none but at the end.
            keep: How many of the last ones stay.
            with_replay: Whether replay buffers are saved too, without which a run goes on with empty ones.
            before: The checkpoint from which the run goes on.
        """
        self.folder = recorder.folder / "checkpoint"
        self.saved: int | None = None
        """the iteration that was saved last, of the lanes that are running"""
        self.asked = False
        """whether a checkpoint is wanted as soon as it can be had"""
        self._recorder = recorder
        self._plan = plan
        self._every = every
        self._keep = keep
        self._with_replay = with_replay
        self._last = time.monotonic()
        self._head: dict[str, Any] = {}
        self._finished: list[str] = [] if before is None else list(before.head["finished"])
        self._number = 0 if before is None else before.head["number"]
        self._failed = False
        self.settled = True
        """whether nothing that was asked for is still to be saved"""

    def ask(self) -> None:
        """Ask for a checkpoint as soon as it can be had; `settled` tells when it is there, or could not be had."""
        self.asked, self.settled = True, False

    def wanted(self) -> bool:
        """Return whether it is time for a checkpoint."""
        return self.asked or time.monotonic() - self._last > self._every

    def mark(self, group: range, iteration: int) -> None:
        """Note how far the tables go, which end with this iteration now."""
        self.asked, self._last = False, time.monotonic()
        whole = self._recorder.flush()
        plan = self._plan
        self._head = {
            "schema": SCHEMA,
            "number": self._number + 1,
            "algorithm": self._recorder.settings.get("algorithm"),
            "environment": self._recorder.settings.get("environment"),
            "seeds": [plan.seeds[lane] for lane in group],
            "lanes": [group.start, group.stop],
            "iteration": iteration,
            "step": iteration * plan.steps_per_iteration,
            "num_iterations": plan.num_iterations,
            "replay": self._with_replay,
            "tables": {name: [end.size, end.crc] for name, end in self._recorder.extents.items()},
            "finished": self._finished,
            "settings": decisive(self._recorder.settings),
            "versions": self._recorder.settings.get("versions"),
            "whole": whole,
        }

    def write(self, part: Part) -> Receipt:
        """Write a part into a file of its own."""
        name = f"{_named(part.lanes, part.iteration)}.safetensors"
        head = {"schema": str(SCHEMA), "lanes": f"{part.lanes.start}-{part.lanes.stop}"}
        tensors = tree.named_leaves(part.carry)
        if not self._with_replay:
            tensors = {path: leaf for path, leaf in tensors.items() if not path.startswith(REPLAY)}
        try:
            data = encode(tensors, {**head, "iteration": str(part.iteration)})
            self.folder.mkdir(exist_ok=True)
            write_atomically(self.folder / name, data)
        except (OSError, MemoryError) as error:
            return {"error": getattr(error, "strerror", None) or str(error)}
        digest = hashlib.sha256(data).hexdigest()
        return {
            "file": name,
            "lanes": [part.lanes.start, part.lanes.stop],
            "size": len(data),
            "sha256": digest,
        }

    def complete(self, receipts: list[Receipt]) -> None:
        """Make what was written a checkpoint, and remove those before the last few."""
        group, iteration = range(*self._head["lanes"]), self._head["iteration"]
        errors = [receipt["error"] for receipt in receipts if "error" in receipt]
        name = f"{self._head['number']:08d}.json"
        self.settled = not self.asked
        if not errors and self._head.pop("whole"):
            parts = [
                {key: receipt[key] for key in ("file", "lanes", "size", "sha256")} for receipt in receipts
            ]
            try:
                write_atomically(self.folder / name, signed({**self._head, "parts": parts}))
            except OSError as error:
                errors = [error.strerror or str(error)]
            else:
                self.saved, self._failed, self._number = iteration, False, self._number + 1
                self._prune(group, iteration)
                if iteration == self._plan.num_iterations:
                    self._finished = [*self._finished, name]
                return
        if not self._failed:
            reason = errors[0] if errors else "the tables could not be written"
            warnings.warn(
                f"train: {self.folder} must take a checkpoint, but: {reason}. Training goes on; the one before stays.",
                RuntimeWarning,
                stacklevel=2,
            )
        self._failed = True
        for receipt in receipts:
            with contextlib.suppress(OSError):
                if "file" in receipt:
                    (self.folder / receipt["file"]).unlink()

    def _prune(self, group: range, iteration: int) -> None:
        """Remove the checkpoints of these lanes but for the last few, and files of no checkpoint.

        What workers have written of later iterations belongs to a checkpoint that is not complete yet.
        """
        heads = [path for path in newest_first(self.folder) if lanes_of_head(path) == group]
        for path in heads[self._keep :]:
            if path.name not in self._finished:
                path.unlink(missing_ok=True)
        used = {part for path in self.folder.glob("*.json") for part in files_of(path)}
        for path in self.folder.glob("*.at-*.safetensors"):
            if path.name not in used and int(path.stem.rpartition("-")[2]) <= iteration:
                path.unlink(missing_ok=True)


def _named(lanes: range, iteration: int) -> str:
    return f"{lanes.start:06d}-{lanes.stop:06d}.at-{iteration:010d}"
