"""A run whose lanes ranks have shared out: a folder for each shard, and then the files of one process.

While it goes on, `shards/` in its folder has `shards.json`, which the rank that comes first writes and all others
read, and a folder for each shard that is like that of a run. Ranks meet nowhere else. Whichever finds all shards
done puts them together and removes `shards/`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funcrl.core.checks import require
from funcrl.io.assembling import assemble, joined
from funcrl.io.checkpoint import save
from funcrl.io.files import json_text
from funcrl.io.folders import SHARDS, check_folder, is_free
from funcrl.io.heads import decisive
from funcrl.io.locks import only_writer
from funcrl.io.restoring import latest
from funcrl.io.settings import read_json
from funcrl.io.tables import finished_table
from funcrl.train import Plan, Result
from funcrl.train.learnt import Learnt
from funcrl.train.plan import groups_of
from funcrl.train.programs import example_carry

_HEAD = f"{SHARDS}/shards.json"

_PATIENCE = 10.0
"""seconds in which the rank that makes `shards/` has written what is in it"""


@dataclass(frozen=True)
class Sharded:
    """A run that ranks share out."""

    folder: Path
    """of the run"""
    settings: dict[str, Any]
    """for its `config.json`"""
    shards: tuple[range, ...]
    """lanes, as places in its seeds"""

    def part(self, number: int) -> Path:
        """Return the folder of a shard."""
        lanes = self.shards[number]
        return self.folder / SHARDS / f"{lanes.start:06d}-{lanes.stop:06d}"

    @property
    def start(self) -> Path:
        """The file of what its agents began with, of a run that went on from another one."""
        return self.folder / SHARDS / "start.safetensors"

    def is_done(self, number: int, plan: Plan, by: str = "seed") -> bool:
        """Return whether a shard has come to its end.

        Args:
            number: Of the shard.
            plan: Of the shard.
            by: What names a row of its tables.
        """
        names = plan.seeds if by == "seed" else range(len(plan.seeds))
        with suppress(ValueError, OSError):
            return finished_table(self.part(number), by, names, plan.num_iterations) is not None
        return False


def is_sharded(folder: Path) -> bool:
    """Return whether ranks share out the run in a folder and have not come to its end."""
    return (folder / _HEAD).is_file()


def open_sharded(folder: Path, function: str = "train") -> Sharded:
    """Return the run in a folder that ranks share out.

    Raises:
        ValueError: When its `shards.json` is damaged.
    """
    path = folder / _HEAD
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
        settings, pairs = dict(head["settings"]), [range(*pair) for pair in head["shards"]]
    except (ValueError, KeyError, TypeError):
        require(False, function, str(path), "say how ranks share out a run", "something else")
    return Sharded(folder, settings, tuple(pairs))


def is_done_already(folder: Path, settings: dict[str, Any]) -> bool:
    """Return whether the very run that is asked for has been put together in a folder."""
    with suppress(ValueError, OSError):
        return not is_sharded(folder) and decisive(read_json(folder)) == decisive(settings)
    return False


def join(
    folder: Path,
    settings: dict[str, Any],
    shards: Sequence[range],
    learnt: Learnt | None = None,
) -> Sharded | None:
    """Take part in the run in a folder, as its first rank or after others.

    Args:
        folder: Of the run, on a disk that all ranks see.
        settings: For its `config.json`.
        shards: How this rank would share it out; the first rank's way counts.
        learnt: What its agents begin with, of a run that goes on from another one.

    Returns:
        The run; None where it has been put together.

    Raises:
        ValueError: When the folder holds something else, or a run with other settings.
    """
    path, until = folder / _HEAD, time.monotonic() + _PATIENCE
    while not path.is_file():
        if is_free(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / SHARDS).mkdir(exist_ok=True)
            if learnt is not None:
                save(Sharded(folder, settings, ()).start, learnt)
            write_unless_there(
                path, json_text({"settings": settings, "shards": [[x.start, x.stop] for x in shards]}, 1)
            )
        elif (folder / SHARDS).is_dir() and time.monotonic() < until:
            time.sleep(0.05)
        elif is_done_already(folder, settings):
            return None
        else:
            check_folder(folder, replace=False)
    found = open_sharded(folder)
    check_same(folder, found.settings, settings)
    return found


def check_same(folder: Path, before: dict[str, Any], settings: dict[str, Any]) -> None:
    """Check that a rank is asked for what others share out in a folder.

    Raises:
        ValueError: When it is not; it names the first setting that differs.
    """
    now = decisive(settings)
    for name, value in decisive(before).items():
        hold = f"have the {name} of what ranks share out in {folder}, {value!r}"
        instead = "Go on with the same words, or write another --out."
        require(value == now[name], "train", name, hold, now[name], instead)


def write_unless_there(path: Path, text: str) -> None:
    """Write a file unless another rank has; whoever reads it finds all of it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):
        os.link(temporary, path)
    Path(temporary).unlink()


def put_together(
    run: Sharded, plan: Plan, parts: Sequence[Plan], *, by: str = "seed", with_replay: bool = True
) -> Result | None:
    """Make of all shards the files that one process would have left, and remove them.

    Args:
        run: All of whose shards are done.
        plan: Of the whole run.
        parts: Of its shards.
        by: What names a row of its tables.
        with_replay: Whether checkpoints hold replay buffers.

    Returns:
        What the run has reached; None where another rank has put it together.
    """
    with only_writer(run.folder):
        if not is_sharded(run.folder):
            return None
        example = example_carry(parts[0])
        starts = {}
        for number, part in enumerate(parts):
            lanes = range(len(part.seeds))
            start = latest(run.part(number)).start(lanes, example)
            hold = "hold a checkpoint of all its lanes"
            require(start is not None, "train", str(run.part(number)), hold, "none")
            assert start is not None
            starts[run.shards[number]] = start
        reached = [
            (group, joined(starts[lanes] for lanes in run.shards if lanes.start in group))
            for group in groups_of(plan)
        ]
        result = assemble(run.folder, plan, run.settings, reached, by=by, with_replay=with_replay)
        # First what says that there are shards: without it nobody looks for the others.
        (run.folder / _HEAD).unlink()
        shutil.rmtree(run.folder / SHARDS)
        return result
