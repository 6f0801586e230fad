"""The folder that a run leaves, written while the run goes on."""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from pathlib import Path
from typing import IO, Any

import torch

from funcrl import ops
from funcrl.core import tree
from funcrl.core.checks import require
from funcrl.io.checkpoint import save
from funcrl.io.files import json_text, write_atomically
from funcrl.train import Progress, Result

_OWN_FILES = (
    "config.json",
    "metrics.jsonl",
    "returns.csv",
    "curve.png",
    "checkpoint/states.safetensors",
    "values.csv",
    "plan.png",
)


def free_folder(base: Path) -> Path:
    """Return `base`, or `base-2`, `base-3`, … : the first that does not exist or is empty."""
    candidate, number = base, 1
    while not _is_free(candidate):
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
    if not _is_free(folder):
        instead = "Write another one, or --replace to replace the run in it."
        hold(replace, "be an empty folder", str(folder), instead)
        what = "hold nothing but an earlier run to be replaced"
        # First, so that a home folder given by mistake is refused without walking through it.
        hold(_is_run(folder), what, sorted(path.name for path in folder.iterdir())[:5])
        inside = {path.relative_to(folder).as_posix(): path.is_symlink() for path in folder.rglob("*")}
        own = {*_OWN_FILES, "checkpoint"}
        foreign = sorted(name for name, is_link in inside.items() if is_link or name not in own)
        hold(not foreign, what, foreign[:5])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hold(False, "be a folder that can be made", str(folder), f"{error.strerror}.")
    hold(os.access(folder, os.W_OK), "be writable", str(folder))


def clear(folder: Path) -> None:
    """Remove the files of an earlier run, for which `check_folder` has been asked."""
    for name in _OWN_FILES:
        (folder / name).unlink(missing_ok=True)


def _is_run(folder: Path) -> bool:
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and {"command", "algorithm"} <= settings.keys()


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


class Recorder:
    """A callback that appends what each iteration showed to `metrics.jsonl` and `returns.csv`.

    Rows are kept and written about once a second, because reading a tensor waits for the device.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Remember where to write; nothing is written before the first iteration is done.

        Until then an earlier run in the folder is left as it was.

        Args:
            folder: A folder that `check_folder` has approved.
            settings: What to put into `config.json`.
        """
        self.folder = folder
        self.settings = settings
        self._waiting: list[Progress] = []
        self._began = time.monotonic()
        self._written = -math.inf
        self._metrics: IO[str] | None = None
        self._returns: IO[str] | None = None

    def _begin(self) -> tuple[IO[str], IO[str]]:
        clear(self.folder)
        (self.folder / "checkpoint").mkdir(exist_ok=True)
        write_atomically(self.folder / "config.json", json_text(self.settings, indent=2).encode())
        metrics = open(self.folder / "metrics.jsonl", "w", encoding="utf-8")  # noqa: SIM115
        returns = open(self.folder / "returns.csv", "w", encoding="utf-8")  # noqa: SIM115
        returns.write("seed,step,return\n")
        return metrics, returns

    def __call__(self, progress: Progress) -> None:
        """Keep an iteration, and write those that wait if the last time is a second ago."""
        self._waiting.append(progress)
        if time.monotonic() - self._written > 1.0:
            self.flush()

    def flush(self) -> None:
        """Write everything that waits, down to the disk."""
        if not self._waiting:
            return
        if self._metrics is None or self._returns is None:
            self._metrics, self._returns = self._begin()
        # Which lanes there are changes from group to group, and where some are lost.
        for _, items in itertools.groupby(self._waiting, lambda progress: progress.seeds):
            alike = list(items)
            reports = tree.map(lambda *xs: torch.stack(xs).cpu(), *(item.report for item in alike))
            for row, progress in enumerate(alike):
                self._write(progress, tree.index(reports, row), self._metrics, self._returns)
        self._waiting = []
        for file in (self._metrics, self._returns):
            file.flush()
            os.fsync(file.fileno())
        self._written = time.monotonic()

    def _write(self, progress: Progress, report: Any, metrics: IO[str], curves: IO[str]) -> None:
        returns = report.returns
        for seed, value in zip(progress.seeds, returns.tolist(), strict=True):
            curves.write(f"{seed},{progress.step},{value:.6g}\n")
        known = returns[returns.isfinite()]
        row = {
            "iteration": progress.iteration,
            "step": progress.step,
            "seconds": round(time.monotonic() - self._began, 3),
            "seeds": [progress.seeds[0], progress.seeds[-1]],
            "episodes": int(report.episodes.sum()),
            "return_iqm": float(ops.iqm(known)) if len(known) else None,
            "return_mean": _finite_mean(returns),
            **{name: _finite_mean(values) for name, values in report.metrics.items()},
        }
        metrics.write(json_text(row))

    def finish(self, result: Result | None, metadata: dict[str, str]) -> None:
        """Write what waits and the checkpoint.

        Args:
            result: What training returned; None where it was cut off before it returned.
            metadata: Text for the checkpoint's header.
        """
        self.flush()
        for file in (self._metrics, self._returns):
            if file is not None:
                file.close()
        if result is not None:
            save(self.folder / "checkpoint" / "states.safetensors", result.states, metadata)


def _finite_mean(values: torch.Tensor) -> float | None:
    finite = values[values.isfinite()]
    return float(finite.mean()) if len(finite) else None
