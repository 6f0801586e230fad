"""The folder that a run leaves, written while the run goes on."""

from __future__ import annotations

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
from funcrl.io.files import write_atomically
from funcrl.train import Progress, Result

_OWN_FILES = ("config.json", "metrics.jsonl", "returns.csv", "curve.png", "checkpoint")


def free_folder(base: Path) -> Path:
    """Return `base`, or `base-2`, `base-3`, … : the first that does not exist or is empty."""
    candidate, number = base, 1
    while not _is_free(candidate):
        number += 1
        candidate = base.with_name(f"{base.name}-{number}")
    return candidate


def claim_folder(folder: Path, replace: bool) -> None:
    """Make an empty folder for a run.

    With `replace` the files of an earlier run are removed, and nothing else: a folder that holds
    anything besides is left alone.

    Raises:
        ValueError: When the folder is not free and may not be replaced, or is a file.
    """
    require(not folder.exists() or folder.is_dir(), "train", "--out", "be a folder", str(folder))
    if not _is_free(folder):
        require(
            replace,
            "train",
            "--out",
            "be an empty folder",
            str(folder),
            "Write another one, or --replace to replace the run in it.",
        )
        foreign = sorted(path.name for path in folder.iterdir() if path.name not in _OWN_FILES)
        require(not foreign, "train", "--out", "hold nothing but an earlier run to be replaced", foreign)
        for name in _OWN_FILES[:-1]:
            (folder / name).unlink(missing_ok=True)
        for file in (folder / "checkpoint").glob("*"):
            file.unlink()
    (folder / "checkpoint").mkdir(parents=True, exist_ok=True)


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


class Recorder:
    """A callback that appends what each iteration showed to `metrics.jsonl` and `returns.csv`.

    Rows are kept and written about once a second, because reading a tensor waits for the device.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Write `config.json` and open the two tables.

        Args:
            folder: An empty folder.
            settings: What to put into `config.json`.
        """
        self.folder = folder
        self._waiting: list[Progress] = []
        self._written = time.monotonic()
        self._began = time.monotonic()
        write_atomically(folder / "config.json", (json.dumps(_plain(settings), indent=2) + "\n").encode())
        self._metrics: IO[str] = open(folder / "metrics.jsonl", "w", encoding="utf-8")  # noqa: SIM115
        self._returns: IO[str] = open(folder / "returns.csv", "w", encoding="utf-8")  # noqa: SIM115
        self._returns.write("seed,step,return\n")

    def __call__(self, progress: Progress) -> None:
        """Keep an iteration, and write those that wait if the last time is a second ago."""
        self._waiting.append(progress)
        if time.monotonic() - self._written > 1.0:
            self.flush()

    def flush(self) -> None:
        """Write everything that waits, down to the disk."""
        if self._waiting:
            reports = tree.map(lambda *xs: torch.stack(xs).cpu(), *(item.report for item in self._waiting))
            for row, progress in enumerate(self._waiting):
                self._write(progress, tree.index(reports, row))
            self._waiting = []
        for file in (self._metrics, self._returns):
            file.flush()
            os.fsync(file.fileno())
        self._written = time.monotonic()

    def _write(self, progress: Progress, report: Any) -> None:
        returns = report.returns
        for seed, value in zip(progress.seeds, returns.tolist(), strict=True):
            self._returns.write(f"{seed},{progress.step},{value:.6g}\n")
        known = returns[returns.isfinite()]
        row = {
            "iteration": progress.iteration,
            "step": progress.step,
            "seconds": round(time.monotonic() - self._began, 3),
            "seeds": [progress.seeds[0], progress.seeds[-1]],
            "episodes": int(report.episodes.sum()),
            "return_iqm": float(ops.iqm(known)) if len(known) else None,
            "return_mean": float(known.mean()) if len(known) else None,
            **{name: _finite_mean(values) for name, values in report.metrics.items()},
        }
        self._metrics.write(json.dumps(_plain(row)) + "\n")

    def finish(self, result: Result | None, metadata: dict[str, str]) -> None:
        """Write what waits and the checkpoint.

        Args:
            result: What training returned; None where it was cut off before it returned.
            metadata: Text for the checkpoint's header.
        """
        self.flush()
        self._metrics.close()
        self._returns.close()
        if result is not None:
            save(self.folder / "checkpoint" / "states.safetensors", result.states, metadata)


def _finite_mean(values: torch.Tensor) -> float | None:
    finite = values[values.isfinite()]
    return float(finite.mean()) if len(finite) else None


def _plain(value: Any) -> Any:
    """Turn settings into what JSON can hold; infinities and NaN become text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return repr(value)
