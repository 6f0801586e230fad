"""Folders of runs: which files are theirs, and whether a run may be written there."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

from funcrl.core.checks import require

CLOCK = "times.csv"
"""The only table that is not the same in a run that was cut off and resumed."""

START = "checkpoint/start.safetensors"
"""What the agents of a run began with that went on from another one."""

SHARDS = "shards"
"""Where ranks that share a run out have what is theirs until all is put together."""

TABLES = ("returns.csv", "metrics.csv", "metrics.jsonl", CLOCK)
"""What grows by rows."""

_OWN_FILES = (
    "config.json",
    *TABLES,
    "curve.png",
    "evaluation.csv",
    "checkpoint/states.safetensors",
    START,
    "values.csv",
    "plan.png",
    "sweep.csv",
    "sweep.png",
    ".lock",
)
_PROGRAM = re.compile(r"(programs/\d+|(programs/\d+/)?shards/\d+-\d+)(/|$)")
"""Where a sweep has one of its programs, or a run its shards: folders like that of a run."""

_OWN_NAMES = re.compile(
    r"checkpoint/(\d{8}\.json|\d+-\d+\.at-\d+\.safetensors)|(tensorboard|wandb)(/.*)?"
    r"|(checkpoint/)?\.[\w.-]+\.(json|csv|safetensors)\.\w{8}"
)
"""Names of what `checkpoints` and trackers write, and of files that a killed run was about to put in place."""


def free_folder(base: Path) -> Path:
    """Return `base`, or `base-2`, `base-3`, … : the first that does not exist or is empty."""
    candidate, number = base, 1
    while not is_free(candidate):
        number += 1
        candidate = base.with_name(f"{base.name}-{number}")
    return candidate


def check_folder(folder: Path, replace: bool, function: str = "train") -> None:
    """Check that a run may be written into a folder, and make it; nothing in it is touched yet.

    Args:
        folder: Where the run is to go.
        replace: Whether an earlier run in it may be replaced. A folder that holds anything else
            besides is refused even then.
        function: Who complains.

    Raises:
        ValueError: When the folder is not free and may not be replaced, or cannot be written to.
    """

    def hold(condition: bool, what: str, value: Any, instead: str = "") -> None:
        require(condition, function, "--out", what, value, instead)

    hold(not folder.exists() or folder.is_dir(), "be a folder", str(folder), "This is a file.")
    if (folder / SHARDS).is_dir():
        what, instead = "hold no run that ranks share out", f"Go on with it: funcrl resume {folder}"
        hold(False, what, f"one in {folder}", instead)
    if not is_free(folder):
        instead = "Write another one, or --replace to replace the run in it."
        hold(replace, "be an empty folder", str(folder), instead)
        what = "hold nothing but an earlier run to be replaced"
        # First, so that a home folder given by mistake is refused without walking through it.
        hold(_is_run(folder), what, sorted(path.name for path in folder.iterdir())[:5])
        inside = {path.relative_to(folder).as_posix(): path.is_symlink() for path in folder.rglob("*")}
        own = {name for name, is_link in inside.items() if is_own(name) and not is_link}
        own |= {name for name in inside if name.startswith("wandb/")}  # which has links of its own
        foreign = sorted(inside.keys() - own)
        hold(not foreign, what, foreign[:5])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hold(False, "be a folder that can be made", str(folder), f"{error.strerror}.")
    hold(os.access(folder, os.W_OK), "be writable", str(folder))


def clear(folder: Path, until: float = math.inf) -> None:
    """Remove the files of an earlier run or sweep, for which `check_folder` has been asked.

    Args:
        folder: Where they are.
        until: Checkpoints that were written later, by the clock of `time.time`, are this run's own and stay.
    """
    for name in _OWN_FILES:
        if name != ".lock":
            (folder / name).unlink(missing_ok=True)
    for name in ("tensorboard", "wandb"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in (*folder.glob(".*"), *(folder / "checkpoint").glob("*")):
        if path.name != ".lock" and is_own(path.relative_to(folder).as_posix()) and is_older(path, until):
            path.unlink()
    for path in folder.glob("programs/*"):
        clear(path)
        (path / "checkpoint").rmdir()
        path.rmdir()


def is_older(path: Path, than: float) -> bool:
    """Return whether a file was written before a moment; no for one that is gone."""
    try:
        return path.stat().st_mtime < than
    except OSError:
        return False


def discard(folder: Path) -> None:
    """Remove a folder in which nothing has come to be; only while it is held by `only_writer`."""
    if is_free(folder):
        (folder / ".lock").unlink(missing_ok=True)
        folder.rmdir()


def is_own(name: str) -> bool:
    """Return whether a name in the folder of a run or sweep is that of one of its files or folders."""
    inside = _PROGRAM.match(name)
    if name in ("programs", SHARDS, f"{SHARDS}/shards.json", f"{SHARDS}/start.safetensors") or (
        inside and inside.end() == len(name)
    ):
        return True
    name = name if inside is None else name[inside.end() :]
    return name in (*_OWN_FILES, "checkpoint") or _OWN_NAMES.fullmatch(name) is not None


def _is_run(folder: Path) -> bool:
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and {"command", "algorithm"} <= settings.keys()


def is_free(folder: Path) -> bool:
    """Return whether nothing is in a folder but what holds it, or there is none."""
    return not folder.exists() or (folder.is_dir() and all(path.name == ".lock" for path in folder.iterdir()))
