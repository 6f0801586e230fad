"""The tables of a run, written while it goes on."""

from __future__ import annotations

import itertools
import math
import os
import time
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from funcrl import ops
from funcrl.core import tree
from funcrl.io.checkpoint import save
from funcrl.io.files import json_text, write_atomically
from funcrl.io.folders import CLOCK, START, TABLES, clear, is_older, is_own
from funcrl.io.trackers import Guarded, Tracker
from funcrl.train import Progress, Report, Result
from funcrl.train.learnt import Learnt


@dataclass(frozen=True)
class Extent:
    """How far a table goes: its length in bytes, and a checksum of them."""

    size: int = 0
    crc: int = 0

    def with_(self, data: bytes) -> Extent:
        """Return the extent after data has been appended."""
        return Extent(self.size + len(data), zlib.crc32(data, self.crc))


class Recorder:
    """A callback that appends what each iteration showed to the tables of a run.

    Rows are kept and written about once a second, because reading a tensor waits for the device. Where
    the disk takes no more they are kept for longer, and training goes on.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        extents: dict[str, Extent] | None = None,
        trackers: Sequence[Tracker] = (),
        by: str = "seed",
        learnt: Learnt | None = None,
    ) -> None:
        """Remember where to write; nothing is written before the first iteration is done.

        Until then an earlier run in the folder is left as it was.

        Args:
            folder: A folder that `check_folder` has approved, or whose run goes on.
            settings: What to put into `config.json`.
            extents: How far the tables of the run that goes on are to be kept; None to begin.
            trackers: Where else the figures go.
            by: What names a row's lane: `"seed"`, or `"lane"` where a seed stands in several.
            learnt: What the agents began with, kept for groups of lanes that are yet to begin.
        """
        self.folder = folder
        self.settings = settings
        self.extents = {name: Extent() for name in TABLES} if extents is None else dict(extents)
        """what has safely been written of each table"""
        self._by = by
        self._learnt = learnt
        self._goes_on = extents is not None
        self._waiting: list[Progress] = []
        self._began = time.monotonic()
        self._made = time.time()
        self._times: list[float] = []
        self._written = -math.inf
        self._files: dict[str, IO[bytes]] = {}
        self._failed = False
        self._trackers = [Guarded(tracker) for tracker in trackers]
        self._averages: list[tuple[int, tuple[int, int], dict[str, float]]] = []

    def _begin(self) -> None:
        if not self._goes_on:
            clear(self.folder, self._made)
        (self.folder / "checkpoint").mkdir(exist_ok=True)
        for path in (*self.folder.glob(".*"), *(self.folder / "checkpoint").glob(".*")):
            own = path.name != ".lock" and is_own(path.relative_to(self.folder).as_posix())
            # A run that was killed was about to put it in place. What workers of this one are writing stays.
            if own and is_older(path, self._made):
                path.unlink(missing_ok=True)
        if self._learnt is not None and not self._goes_on:
            save(self.folder / START, self._learnt)
        write_atomically(self.folder / "config.json", json_text(self.settings, indent=2).encode())
        for name in TABLES:
            path = self.folder / name
            if (
                name == CLOCK
                and self._goes_on
                and not (path.is_file() and path.stat().st_size >= self.extents[name].size)
            ):
                path.write_bytes(self._clock_head)
                self.extents[name] = Extent().with_(self._clock_head)
            file = open(path, "r+b" if self._goes_on else "w+b", buffering=0)  # noqa: SIM115
            file.truncate(self.extents[name].size)
            file.seek(self.extents[name].size)
            self._files[name] = file
        for tracker in self._trackers:
            tracker.call("begin", self.folder, self.settings)

    def __call__(self, progress: Progress) -> None:
        """Keep an iteration, and write those that wait if the last time is a second ago."""
        self._waiting.append(progress)
        self._times.append(time.monotonic() - self._began)
        if time.monotonic() - self._written > 1.0:
            self.flush()

    def flush(self) -> bool:
        """Write everything that waits, down to the disk; return whether that could be done."""
        if not self._waiting:
            return True
        self._written = time.monotonic()
        try:
            if len(self._files) < len(TABLES):
                self._begin()
            for name, data in self._rows().items():
                self._append(name, data)
        except OSError as error:
            if not self._failed:
                warnings.warn(
                    f"train: {self.folder} must take what is measured, but {error.strerror or error}. Training "
                    "goes on; what waits is written when that is possible again.",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self._failed = True
            self._take_back()
            return False
        self._failed = False
        self.extents = self._after
        self._waiting, self._times = [], []
        for row in self._averages:
            for tracker in self._trackers:
                tracker.call("log", *row)
        return True

    def _append(self, name: str, data: bytes) -> None:
        file, left = self._files[name], memoryview(data)
        while left:
            left = left[file.write(left) or 0 :]
        os.fsync(file.fileno())

    def _take_back(self) -> None:
        """Leave every table as it was before a write that failed, as far as that can be done."""
        for name, file in self._files.items():
            try:
                file.truncate(self.extents[name].size)
                file.seek(self.extents[name].size)
            except OSError:
                continue

    @property
    def _clock_head(self) -> bytes:
        return f"{self._by},step,seconds\n".encode()

    def _rows(self) -> dict[str, bytes]:
        """Return what waits as text, a table each."""
        text: dict[str, list[str]] = {name: [] for name in TABLES}
        self._averages = []
        times = iter(self._times)
        # Which lanes there are changes from group to group, and where some are lost.
        for _, items in itertools.groupby(self._waiting, lambda progress: progress.lanes):
            alike = list(items)
            if self.extents["returns.csv"].size == 0 and not text["returns.csv"]:
                names = ",".join((self._by, "step", "return", "episodes", *alike[0].report.metrics))
                text["returns.csv"].append(f"{self._by},step,return\n")
                text["metrics.csv"].append(f"{names}\n")
                text[CLOCK].append(self._clock_head.decode())
            reports = tree.map(lambda *xs: torch.stack(xs).cpu(), *(item.report for item in alike))
            for number, progress in enumerate(alike):
                self._add_rows(text, progress, tree.index(reports, number), next(times))
        data = {name: "".join(lines).encode() for name, lines in text.items()}
        self._after = {name: self.extents[name].with_(data[name]) for name in TABLES}
        return data

    def _add_rows(self, text: dict[str, list[str]], progress: Progress, report: Report, time: float) -> None:
        """Put one iteration into the text of the tables."""
        names, step = progress.seeds if self._by == "seed" else progress.lanes, progress.step
        row = _averages(progress, report)
        text["metrics.jsonl"].append(json_text(row))
        known = {k: float(v) for k, v in row.items() if isinstance(v, (int, float)) and k != "step"}
        self._averages.append((step, (progress.seeds[0], progress.seeds[-1]), known))
        text[CLOCK].append(f"{names[0]},{step},{time:.3f}\n")
        for name, value in zip(names, report.returns.tolist(), strict=True):
            text["returns.csv"].append(f"{name},{step},{value:.6g}\n")
        columns = [x.tolist() for x in (report.returns, report.episodes, *report.metrics.values())]
        for name, numbers in zip(names, zip(*columns, strict=True), strict=True):
            cells = ",".join([f"{number:.9g}" for number in numbers])  # nine digits are all of a float32
            text["metrics.csv"].append(f"{name},{step},{cells}\n")

    def finish(self, result: Result | None, metadata: dict[str, str]) -> None:
        """Write what waits and the agents.

        Args:
            result: What training returned; None where it was cut off before it returned.
            metadata: Text for the header of the agents' file.

        Raises:
            OSError: When it cannot be written.
        """
        whole = self.flush()
        for file in self._files.values():
            file.close()
        for tracker in self._trackers if self._files else []:
            tracker.call("end")
        again = f"Make room there, then write: funcrl resume {self.folder}"
        if result is not None:
            try:
                save(self.folder / "checkpoint" / "states.safetensors", result.states, metadata)
            except OSError as error:
                why = error.strerror or error
                raise OSError(
                    f"the final agents could not be written into {self.folder}: {why}. {again}"
                ) from error
        if not whole:
            rows = f"the last {len(self._waiting)} iterations could not be written into {self.folder}"
            raise OSError(f"{rows}. {again}")


def _averages(progress: Progress, report: Report) -> dict[str, Any]:
    known = report.returns[report.returns.isfinite()]
    return {
        "iteration": progress.iteration,
        "step": progress.step,
        "seeds": [progress.seeds[0], progress.seeds[-1]],
        "episodes": int(report.episodes.sum()),
        "return_iqm": float(ops.iqm(known)) if len(known) else None,
        "return_mean": _finite_mean(report.returns),
        **{name: _finite_mean(values) for name, values in report.metrics.items()},
    }


def _finite_mean(values: torch.Tensor) -> float | None:
    finite = values[values.isfinite()]
    return float(finite.mean()) if len(finite) else None
