"""Trackers: where else the figures of a run go while it goes on.

A tracker of one's own is a class with the three methods of `Tracker`; `funcrl train --track my_module:MyTracker`
makes one, `Recorder(..., trackers=[MyTracker()])` takes one in Python.
"""

from __future__ import annotations

import importlib
import uuid
import warnings
from pathlib import Path
from typing import Any, Protocol

from funcrl.core.checks import require


class Tracker(Protocol):
    """What is told of a run. An exception of its own ends it, and not the training."""

    def begin(self, folder: Path, settings: dict[str, Any]) -> None:
        """Begin, or go on with, a run.

        Args:
            folder: Of the run; what the tracker writes goes into a folder of its own in it.
            settings: Content of `config.json`.
        """

    def log(self, step: int, seeds: tuple[int, int], figures: dict[str, float]) -> None:
        """Take the figures of an iteration.

        Args:
            step: Environment steps of each seed so far.
            seeds: First and last of the seeds that run together.
            figures: Averages over them: `return_iqm`, `return_mean`, `episodes` and the algorithm's own.
        """

    def end(self) -> None:
        """The run is over, or cut off."""


class TensorBoard:
    """Writes event files into `tensorboard/` (extra `tensorboard`)."""

    def begin(self, folder: Path, settings: dict[str, Any]) -> None:
        """Open a file of events."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("config", "    " + repr(settings), 0)

    def log(self, step: int, seeds: tuple[int, int], figures: dict[str, float]) -> None:
        """Write scalars, under the names of the figures."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def end(self) -> None:
        """Close the file."""
        self._writer.close()


class WeightsAndBiases:
    """Logs to Weights & Biases (extra `wandb`); `WANDB_MODE=offline` keeps everything in `wandb/`."""

    def begin(self, folder: Path, settings: dict[str, Any]) -> None:
        """Begin a run there, or go on with the one that this folder began."""
        import wandb  # type: ignore[import-not-found, unused-ignore]

        name = folder / "wandb" / "run-id"
        name.parent.mkdir(exist_ok=True)
        if not name.exists():
            name.write_text(uuid.uuid4().hex[:8])
        title = f"{settings.get('algorithm')}-{settings.get('environment')}"
        given: dict[str, Any] = {"project": "funcrl", "name": title, "config": settings, "dir": str(folder)}
        self._run: Any = wandb.init(id=name.read_text(), resume="allow", **given)

    def log(self, step: int, seeds: tuple[int, int], figures: dict[str, float]) -> None:
        """Log the figures, with the number of environment steps beside them."""
        self._run.log({**figures, "env_steps": step})

    def end(self) -> None:
        """Finish the run."""
        self._run.finish()


TRACKERS: dict[str, type[Any]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
"""By the names that the command line takes."""


def make_tracker(name: str) -> Tracker:
    """Return a tracker by its name, or one of the user's own by `module:class`.

    Raises:
        ValueError: When there is none by that name.
        ModuleNotFoundError: When what it needs is not installed.
    """
    if name in TRACKERS:
        importlib.import_module(name)  # says at once what is missing
        return TRACKERS[name]()  # type: ignore[no-any-return]
    hold = f"be one of {', '.join(TRACKERS)}, or module:class of your own"
    module_name, _, attribute = name.partition(":")
    require(bool(module_name and attribute), "train", "--track", hold, name)
    try:
        made = getattr(importlib.import_module(module_name), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"train: --track must {hold}, got {name!r}: {error}.") from error
    missing = [verb for verb in ("begin", "log", "end") if not callable(getattr(made, verb, None))]
    require(
        not missing, "train", "--track", "have begin, log and end", f"{name} without {', '.join(missing)}"
    )
    return made  # type: ignore[no-any-return]


class Guarded:
    """A tracker of which no exception reaches the training."""

    def __init__(self, tracker: Tracker) -> None:
        """Remember the tracker."""
        self._tracker = tracker
        self._works = True

    def call(self, verb: str, *arguments: Any) -> None:
        """Call one of its methods; after an exception, none any more."""
        if not self._works:
            return
        try:
            getattr(self._tracker, verb)(*arguments)
        except Exception as error:
            self._works = False
            warnings.warn(
                f"train: the tracker {type(self._tracker).__name__} must not raise, but its {verb} raised "
                f"{type(error).__name__}: {error}. Training goes on without it.",
                RuntimeWarning,
                stacklevel=2,
            )
