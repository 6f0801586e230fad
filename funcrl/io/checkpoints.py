"""Checkpoints: all that a run's next iteration depends on, so that it can go on as if nothing had been.

`checkpoint/` holds, for each moment that was saved, one safetensors file a process with the carry of its
lanes, and one JSON file, the head, that makes them a checkpoint: it names them with lengths and checksums,
and says how far the tables go. It is written last, so that a moment is there as a whole or not at all. No file is
trusted: what does not fit its checksum is refused by name, and the checkpoint before is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from funcrl.core import tree
from funcrl.core.checks import require
from funcrl.io.checkpoint import encode, fill, read
from funcrl.io.files import json_text, write_atomically
from funcrl.io.recorder import CLOCK, Extent, Recorder
from funcrl.train import Carry, Plan, Report
from funcrl.train.saving import Part, Receipt, Start

SCHEMA = 1
"""Of what is in the files; another number is another meaning."""

_REPLAY = ".memory.buffer"
"""Where a carry has its replay buffers."""


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
            tensors = {path: leaf for path, leaf in tensors.items() if not path.startswith(_REPLAY)}
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
                write_atomically(self.folder / name, _signed({**self._head, "parts": parts}))
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
        heads = [path for path in _newest_first(self.folder) if _lanes(path) == group]
        for path in heads[self._keep :]:
            if path.name not in self._finished:
                path.unlink(missing_ok=True)
        used = {part for path in self.folder.glob("*.json") for part in _files_of(path)}
        for path in self.folder.glob("*.at-*.safetensors"):
            if path.name not in used and int(path.stem.rpartition("-")[2]) <= iteration:
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on the disk, checked."""

    folder: Path
    """of the run"""
    head: dict[str, Any]
    """content of its JSON file"""

    @property
    def lanes(self) -> range:
        """The group of lanes that was running, as places in the seeds of the run."""
        return range(*self.head["lanes"])

    @property
    def lane_steps(self) -> int:
        """Environment steps of all seeds so far."""
        heads = [self.head, *(_checked(self.folder / "checkpoint" / name) for name in self.head["finished"])]
        latest = {tuple(head["lanes"]): head for head in sorted(heads, key=lambda head: head["number"])}
        return sum(head["step"] * len(head["seeds"]) for head in latest.values())

    @property
    def extents(self) -> dict[str, Extent]:
        """How far the tables of the run went."""
        return {name: Extent(*end) for name, end in self.head["tables"].items()}

    def start(self, group: range, example: Carry) -> Start | None:
        """Return where a group of lanes goes on.

        Args:
            group: As places in the seeds of the run.
            example: A carry of a run with the same settings, with any number of lanes.

        Returns:
            None for lanes that had not begun.

        Raises:
            ValueError: When the checkpoint is one of other settings.
        """
        head = self.head if group == self.lanes else self._of_finished(group)
        if head is None:
            return None
        parts = [self._carry(part, head, example) for part in head["parts"]]
        carry = tree.map(lambda *leaves: torch.cat(leaves), *parts)
        return Start(head["iteration"], carry, self._figures(head))

    def _of_finished(self, group: range) -> dict[str, Any] | None:
        for name in reversed(self.head["finished"]):
            head = _checked(self.folder / "checkpoint" / name)
            if range(*head["lanes"]) == group:
                return head
        require(
            group.start >= self.lanes.stop,
            "resume",
            str(self.folder),
            "hold the lanes that come before",
            f"none of {group.start} to {group.stop - 1}",
            "Leave lanes_per_group as it was.",
        )
        return None

    def _carry(self, part: dict[str, Any], head: dict[str, Any], example: Carry) -> Carry:
        path, (begin, end) = self.folder / "checkpoint" / Path(part["file"]).name, part["lanes"]
        tensors = read(path)
        like = tree.map(lambda x: x[:1].expand(end - begin, *x.shape[1:]), example)
        if not head["replay"]:
            empty = {name: x for name, x in tree.named_leaves(like).items() if name.startswith(_REPLAY)}
            tensors |= {name: x.clone() for name, x in empty.items()}
        carry: Carry = fill(str(path), tensors, like)
        return carry

    def _figures(self, head: dict[str, Any]) -> Report:
        """Read what was reported of a group of lanes from the run's own table."""
        data = (self.folder / "metrics.csv").read_bytes()[: self.extents["metrics.csv"].size]
        names = data[: data.index(b"\n")].decode().split(",")
        rows = np.loadtxt(io.BytesIO(data), delimiter=",", skiprows=1, ndmin=2)
        seeds = head["seeds"]
        own = rows[np.isin(rows[:, 0], np.array(seeds, dtype=np.float64))]
        shape = (head["iteration"], len(seeds))
        require(len(own) == shape[0] * shape[1], "resume", "metrics.csv", f"hold {shape} rows", len(own))
        columns = {
            name: torch.from_numpy(own[:, column].reshape(shape).T.astype(np.float32))
            for column, name in enumerate(names)
        }
        figures = {name: columns[name] for name in names[4:]}
        return Report(columns["return"], columns["episodes"], figures)


_DECISIVE = (
    "algorithm",
    "environment",
    "env",
    "wrappers",
    "config",
    "seeds",
    "asked_steps",
    "lanes_per_group",
)
"""Of `config.json`, what decides how a run goes on."""


def decisive(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what of a run's settings decides how it goes on, as JSON holds it."""
    kept = {name: settings.get(name) for name in _DECISIVE}
    return json.loads(json_text(kept))  # type: ignore[no-any-return]


def check_settings(found: Checkpoint, settings: dict[str, Any]) -> None:
    """Check that a run's settings are those under which a checkpoint was made.

    Raises:
        ValueError: When they are others; it names the first that differs.
    """
    before, now = found.head["settings"], decisive(settings)
    for name in _DECISIVE:
        one, other, what = before.get(name), now.get(name), name
        if name == "config" and isinstance(one, dict) and isinstance(other, dict) and one != other:
            changed = sorted(key for key in one.keys() | other if one.get(key) != other.get(key))
            one, other, what = one.get(changed[0]), other.get(changed[0]), f"config.{changed[0]}"
        hold = f"have {what} = {one!r}, with which its checkpoint was made"
        instead = "Put it back; another setting is another run."
        require(one == other, "resume", str(found.folder / "config.json"), hold, other, instead)


def has_checkpoint(folder: Path) -> bool:
    """Return whether there is a checkpoint in the folder of a run, whole or not."""
    return bool(_newest_first(folder / "checkpoint"))


def latest(folder: Path) -> Checkpoint:
    """Return the newest checkpoint of a run that is whole.

    Those that are damaged are named in a warning each.

    Raises:
        ValueError: When there is none.
    """
    refused: list[str] = []
    heads = _newest_first(folder / "checkpoint")
    for number, path in enumerate(heads, 1):
        try:
            found = Checkpoint(folder, _checked(path))
            _check_parts(found)
        except (ValueError, OSError) as error:
            refused.append(str(error))
        except (KeyError, TypeError, AttributeError):
            refused.append(f"{path} must be a checkpoint's head, got something else.")
        else:
            return found
        if number < len(heads):
            warnings.warn(f"resume: {refused[-1]} The one before is used.", RuntimeWarning, stacklevel=2)
    why = refused[0] if refused else "There is none."
    raise ValueError(f"resume: {folder} must hold a checkpoint that is whole. {why}")


def _checked(path: Path) -> dict[str, Any]:
    """Return what a checkpoint's JSON file says.

    Raises:
        ValueError: When it is damaged, or written by another version.
    """
    text = path.read_bytes()
    try:
        head = json.loads(text)
        schema, signature = head["schema"], head.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{path} must be a checkpoint's head, got something else.") from None
    if schema != SCHEMA:
        raise ValueError(f"{path} must be of schema {SCHEMA}, got {schema!r}: another version wrote it.")
    if _digest(head) != signature:
        raise ValueError(f"{path} must be as it was written, but its checksum differs.")
    return head  # type: ignore[no-any-return]


def _check_parts(found: Checkpoint) -> None:
    """Check every file that a checkpoint names, those of finished groups included."""
    inside = found.folder / "checkpoint"
    for head in [found.head, *(_checked(inside / name) for name in found.head["finished"])]:
        for part in head["parts"]:
            path = inside / Path(part["file"]).name
            digest = hashlib.sha256()
            with open(path, "rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
            if path.stat().st_size != part["size"] or digest.hexdigest() != part["sha256"]:
                raise ValueError(f"{path} must be as it was written, but its checksum differs.")
    for name, extent in found.extents.items():
        if name == CLOCK:  # which nothing depends on
            continue
        path = found.folder / name
        if not path.is_file():
            raise ValueError(f"{path} must be there as the run wrote it, but is missing.")
        with open(path, "rb") as file:
            data = file.read(extent.size)
        if Extent().with_(data) != extent:
            raise ValueError(f"{path} must begin as it was written, but its checksum differs.")


def _signed(head: dict[str, Any]) -> bytes:
    return json_text({**head, "sha256": _digest(head)}, indent=1).encode()


def _digest(head: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()


def _named(lanes: range, iteration: int) -> str:
    return f"{lanes.start:06d}-{lanes.stop:06d}.at-{iteration:010d}"


def _lanes(path: Path) -> range | None:
    try:
        return range(*json.loads(path.read_bytes())["lanes"])
    except (ValueError, KeyError, TypeError, OSError):
        return None


def _newest_first(folder: Path) -> list[Path]:
    """Return the heads of checkpoints, which are numbered."""
    return sorted(folder.glob("[0-9]" * 8 + ".json"), reverse=True)


def _files_of(path: Path) -> Iterable[str]:
    """Return the names of a checkpoint's files, of one that is damaged too as far as it can be read."""
    try:
        return [part["file"] for part in json.loads(path.read_bytes())["parts"]]
    except (ValueError, KeyError, TypeError, OSError):
        return []
