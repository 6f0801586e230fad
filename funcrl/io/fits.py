"""What learns from images, in its folder: written while it goes on, opened without knowing how it was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import torch
from torch import Tensor

from funcrl import data, supervised
from funcrl.core import checks, lanes, random, tree
from funcrl.core.checks import require
from funcrl.core.resolve import resolve_config, resolve_seeds
from funcrl.io.checkpoint import load, save
from funcrl.io.files import json_text, write_atomically
from funcrl.io.folders import check_folder, clear, discard
from funcrl.io.locks import only_writer
from funcrl.io.plots import epoch_curve
from funcrl.io.settings import read_json, run_folder, settings_from, versions
from funcrl.io.tables import FIT, Table, matrix, read_table
from funcrl.supervised.fitting import check
from funcrl.supervised.judging import judged
from funcrl.supervised.resolve import resolve_algorithm

STATES = "checkpoint/states.safetensors"

OnEpoch = Callable[[int, dict[str, Tensor]], bool | None]


def fit_into(
    folder: str | Path,
    images: data.Split,
    *,
    algorithm: str = "classifier",
    config: Any = None,
    seeds: Iterable[int] = range(8),
    num_epochs: int = 40,
    device: torch.device | str = "cpu",
    backend: str = "inductor",
    replace: bool = False,
    command: str = "fit_into",
    on_begin: Callable[[], None] | None = None,
    on_epoch: OnEpoch | None = None,
) -> supervised.Fit:
    """Fit one independent agent a seed, and leave a folder that `open_fit` opens.

    `config.json` and `metrics.csv` are there from the first epoch on, `checkpoint/states.safetensors` and `curve.png`
    after the last one. What is cut off before the first epoch leaves no folder that was not there.

    Args:
        folder: Where to; made where there is none.
        images: From `data.read`, or `supervised.images_for`.
        algorithm: A name in `supervised.ALGORITHMS`.
        config: Its settings; the defaults without. A float may hold one value a seed.
        seeds: One a lane.
        num_epochs: At least 1.
        device: Where to compute.
        backend: See `core.jit`.
        replace: Whether an earlier run in the folder may be replaced.
        command: What to say in `config.json` about where it comes from.
        on_begin: Called once all is checked, before anything is compiled.
        on_epoch: See `supervised.fit`.

    Raises:
        ValueError: When the folder is not free, or what `supervised.fit` would refuse; nothing is written then.
        OSError: When it cannot be written.
    """
    if not isinstance(images, data.Split):
        raise TypeError(
            f"fit_into: images must be a Split, got a {type(images).__name__}. Write data.read(folder), or fit(images)."
        )
    checks.known("train", "algorithm", algorithm, supervised.ALGORITHMS)
    module = supervised.ALGORITHMS[algorithm]
    config = module.Config() if config is None else config
    seeds = resolve_seeds("train", seeds)
    resolve_config("train", module, config, len(seeds))
    device = checks.device("train", device)
    check(images.train, images.test, config, num_epochs)
    # Complains of a network that does not fit.
    module.init(random.key(0, "cpu"), lanes.first(config), images.train)
    folder = Path(folder)
    is_new = not folder.exists()
    check_folder(folder, replace)
    settings = {
        "command": command,
        "algorithm": algorithm,
        "data": images.description,
        "config": {field.name: _listed(getattr(config, field.name)) for field in dataclasses.fields(config)},
        "seeds": list(seeds),
        "num_epochs": num_epochs,
        "device": str(device),
        "versions": versions(),
    }
    with only_writer(folder):
        if on_begin is not None:
            on_begin()
        rows = _Rows(folder, settings)

        def after(epoch: int, figures: dict[str, Tensor]) -> bool | None:
            rows.add(epoch, figures)
            return None if on_epoch is None else on_epoch(epoch, figures)

        try:
            found = supervised.fit(
                images.train,
                test=images.test,
                algorithm=algorithm,
                config=config,
                seeds=seeds,
                num_epochs=num_epochs,
                device=device,
                backend=backend,
                on_epoch=after,
            )
        finally:
            rows.close()
            if is_new:  # and nothing is in it where it was cut off before the first epoch
                discard(folder)
        num_done = next(iter(found.metrics.values())).shape[1]
        (folder / STATES).parent.mkdir(exist_ok=True)
        save(folder / STATES, found.states, {"algorithm": algorithm, "epochs": str(num_done)})
        title = f"{algorithm} {images.description['source']}, {len(seeds)} seeds"
        epoch_curve(found.metrics, judged(found.metrics).name, title, folder / "curve.png")
    return found


def _listed(value: Any) -> Any:
    """Return a setting as JSON can hold it, where it is an array with one value a seed."""
    return value.tolist() if hasattr(value, "tolist") else value


class _Rows:
    """`metrics.csv`, a row a seed and epoch."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder, self._settings = folder, settings
        self._file: IO[str] | None = None

    def add(self, epoch: int, figures: dict[str, Tensor]) -> None:
        """Write the figures of an epoch, `[S]` by name; before the first one, an earlier run is left as it was."""
        if self._file is None:
            clear(self._folder)
            write_atomically(self._folder / "config.json", json_text(self._settings, indent=2).encode())
            self._file = open(self._folder / "metrics.csv", "w", encoding="utf-8")  # noqa: SIM115
            self._file.write(f"{','.join(('seed', 'epoch', *figures))}\n")
        columns = zip(*(values.tolist() for values in figures.values()), strict=True)
        for seed, numbers in zip(self._settings["seeds"], columns, strict=True):
            cells = ",".join(f"{number:.9g}" for number in numbers)  # nine digits are all of a float32
            self._file.write(f"{seed},{epoch},{cells}\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@dataclasses.dataclass(frozen=True)
class SavedFit:
    """What `funcrl train classifier`, or `fit_into`, left in a folder."""

    folder: Path
    settings: dict[str, Any]
    """content of `config.json`"""
    config: Any
    """settings of the algorithm"""

    @cached_property
    def algorithm(self) -> ModuleType:
        """What has learnt."""
        return resolve_algorithm("open_fit", self.settings["algorithm"])

    @property
    def seeds(self) -> tuple[int, ...]:
        """One a lane."""
        return tuple(self.settings["seeds"])

    @property
    def classes(self) -> tuple[str, ...]:
        """What the labels mean, in their order."""
        return tuple(self.settings["data"]["classes"])

    @cached_property
    def states(self) -> Any:
        """`[S]` the algorithm's states after the last whole epoch, on the CPU.

        Raises:
            FileNotFoundError: When it was cut off before its end.
            ValueError: When the file is damaged.
        """
        path = self.folder / STATES
        if not path.exists():
            raise FileNotFoundError(
                f"open_fit: {path} must be there, but what was learnt has not come to its end. "
                f"Write funcrl train --config {self.folder} --replace --out {self.folder} to begin again."
            )
        shape, num_classes = self.settings["data"]["shape"], self.settings["data"]["num_classes"]
        blank = torch.zeros((1, *shape), dtype=torch.float32, device="cpu")
        like = data.LabelledImages(blank, [0], num_classes)
        one = self.algorithm.init(random.key(0, "cpu"), lanes.first(self.config), like)
        return load(path, like=tree.map(lambda x: x.expand(len(self.seeds), *x.shape), one))

    def state(self, seed: int) -> Any:
        """Return what one seed has learnt, for example for `classifier.logits`, or its `params` for a policy.

        Raises:
            ValueError: When there is no such seed.
        """
        hold = f"be one of {', '.join(map(str, self.seeds))}"
        require(seed in self.seeds, "open_fit", "seed", hold, seed)
        return tree.index(self.states, self.seeds.index(seed))

    @cached_property
    def table(self) -> Table:
        """`metrics.csv` as columns of numpy, one row a seed and epoch: seed, epoch, figures."""
        return read_table(self.folder / "metrics.csv", "seed", self.seeds, FIT, "open_fit")

    def metric(self, name: str) -> Tensor:
        """Return one figure of all seeds, `[S, E]`.

        Args:
            name: A column of `metrics.csv`: `"test_accuracy"`.
        """
        require(name in self.table, "metric", "name", f"be one of {', '.join(self.table)}", name)
        return matrix(self.table, "seed", self.seeds, name, *FIT)


def open_fit(folder: str | Path, config: Any = None) -> SavedFit:
    """Open the folder of what has learnt from images.

    Args:
        folder: What `funcrl train classifier`, or `fit_into`, left: `"runs/classifier-digits"`.
        config: Its settings; needed only where they hold a network of one's own, which no file can hold.

    Raises:
        FileNotFoundError: When there is no such folder, or nothing of a run in it.
        ValueError: When `config.json` is damaged, or of another run.
    """
    folder = run_folder(Path(folder))
    settings = read_json(folder, "open_fit")
    path = str(folder / "config.json")
    names = {"algorithm": str, "data": dict, "config": dict, "seeds": list, "num_epochs": int, "device": str}
    wrong = [name for name, kind in names.items() if not isinstance(settings.get(name), kind)]
    described = {"source": str, "shape": list, "num_classes": int, "classes": list}
    for name, kind in described.items() if "data" not in wrong else ():
        wrong += [] if isinstance(settings["data"].get(name), kind) else [f"data.{name}"]
    hold = f"be the settings of funcrl train {' or '.join(supervised.ALGORITHMS)}"
    instead = "Write open_run for agents of an environment." if "environment" in settings else ""
    require(not wrong, "open_fit", path, hold, f"no good value of {', '.join(wrong)}", instead)
    if config is None:
        own = settings["config"].get("network") is not None
        require(not own, "open_fit", "config", "be given where the network is one's own", None)
        kind = resolve_algorithm("open_fit", settings["algorithm"]).Config
        config = settings_from("open_fit", kind, settings["config"])
    return SavedFit(folder, settings, config)
