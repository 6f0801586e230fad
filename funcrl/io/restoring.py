"""Going on from a checkpoint: what was written is checked, and put back."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from funcrl.core import tree
from funcrl.core.checks import require
from funcrl.io.checkpoint import fill, read
from funcrl.io.folders import CLOCK
from funcrl.io.heads import DECISIVE, REPLAY, checked, decisive, newest_first
from funcrl.io.recorder import Extent
from funcrl.train import Carry, Report
from funcrl.train.saving import Start


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
        heads = [self.head, *(checked(self.folder / "checkpoint" / name) for name in self.head["finished"])]
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
            head = checked(self.folder / "checkpoint" / name)
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
            empty = {name: x for name, x in tree.named_leaves(like).items() if name.startswith(REPLAY)}
            tensors |= {name: x.clone() for name, x in empty.items()}
        carry: Carry = fill(str(path), tensors, like)
        return carry

    def _figures(self, head: dict[str, Any]) -> Report:
        """Read what was reported of a group of lanes from the run's own table."""
        data = (self.folder / "metrics.csv").read_bytes()[: self.extents["metrics.csv"].size]
        names = data[: data.index(b"\n")].decode().split(",")
        rows = np.loadtxt(io.BytesIO(data), delimiter=",", skiprows=1, ndmin=2)
        own_names = list(range(*head["lanes"])) if names[0] == "lane" else head["seeds"]
        own = rows[np.isin(rows[:, 0], np.array(own_names, dtype=np.float64))]
        shape = (head["iteration"], len(own_names))
        require(len(own) == shape[0] * shape[1], "resume", "metrics.csv", f"hold {shape} rows", len(own))
        columns = {
            name: torch.from_numpy(own[:, column].reshape(shape).T.astype(np.float32))
            for column, name in enumerate(names)
        }
        figures = {name: columns[name] for name in names[4:]}
        return Report(columns["return"], columns["episodes"], figures)


def check_settings(found: Checkpoint, settings: dict[str, Any]) -> None:
    """Check that a run's settings are those under which a checkpoint was made.

    Raises:
        ValueError: When they are others; it names the first that differs.
    """
    before, now = found.head["settings"], decisive(settings)
    for name in DECISIVE:
        one, other, what = before.get(name), now.get(name), name
        if name == "config" and isinstance(one, dict) and isinstance(other, dict) and one != other:
            changed = sorted(key for key in one.keys() | other if one.get(key) != other.get(key))
            one, other, what = one.get(changed[0]), other.get(changed[0]), f"config.{changed[0]}"
        hold = f"have {what} = {one!r}, with which its checkpoint was made"
        instead = "Put it back; another setting is another run."
        require(one == other, "resume", str(found.folder / "config.json"), hold, other, instead)


def latest(folder: Path) -> Checkpoint:
    """Return the newest checkpoint of a run that is whole.

    Those that are damaged are named in a warning each.

    Raises:
        ValueError: When there is none.
    """
    refused: list[str] = []
    heads = newest_first(folder / "checkpoint")
    for number, path in enumerate(heads, 1):
        try:
            found = Checkpoint(folder, checked(path))
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


def _check_parts(found: Checkpoint) -> None:
    """Check every file that a checkpoint names, those of finished groups included."""
    inside = found.folder / "checkpoint"
    for head in [found.head, *(checked(inside / name) for name in found.head["finished"])]:
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
