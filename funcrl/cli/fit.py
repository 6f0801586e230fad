"""`funcrl train` of what learns from images."""

from __future__ import annotations

import dataclasses
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from funcrl import data, supervised
from funcrl.cli.arguments import default_folder, parse, parse_seeds
from funcrl.cli.epochs import EpochProgress, summary
from funcrl.cli.progress import say
from funcrl.cli.running import Interrupt
from funcrl.core.checks import require
from funcrl.core.resolve import resolve_seeds
from funcrl.io import fit_into, open_fit
from funcrl.supervised.fitting import Fit


@dataclasses.dataclass
class Options:
    """What `funcrl train` takes beside the settings of what learns from images."""

    seeds: str = "8"
    """how many (8 means 0 to 7), a range (100:108), or a list (3,5,8,)"""
    epochs: int = 40
    """how often each seed sees every image, in an order of its own"""
    device: str = "cpu"
    """cpu, cuda or cuda:1"""
    out: Path | None = None
    """folder to leave; runs/ALGORITHM-DATA by default, numbered where that is taken"""
    replace: bool = False
    """replace the run that is in the folder"""
    resize: str | None = None
    """HEIGHT,WIDTH to bring all images to; by default they stay as they are, but digits, of 8,8, are brought
    to 32,32 where the network takes none so small"""
    grey: bool = False
    """read shades of grey, not three colours, from a folder for each class"""
    test_share: float = 0.2
    """share of the images that is held back to judge by, where the data has no part for that"""
    split_seed: int = 0
    """which images are held back: the same ones for all seeds"""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a person has written."""

    algorithm: str
    source: str
    config: Any
    options: Options


def fit_command(words: list[str]) -> int:
    """Fit, show progress, and leave a folder.

    Args:
        words: What stands after `funcrl train`; the first one is in `supervised.ALGORITHMS`, or `--config`.

    Returns:
        Exit status.
    """
    asked = _read(words)
    options = asked.options
    seeds = resolve_seeds("train", parse_seeds(options.seeds))
    images = supervised.images_for(
        supervised.ALGORITHMS[asked.algorithm],
        asked.config,
        asked.source,
        size=None if options.resize is None else _size(options.resize),
        grey=options.grey,
        test_share=options.test_share,
        split_seed=options.split_seed,
    )
    folder = options.out or default_folder(asked.algorithm, Path(asked.source).resolve().name)
    label = f"{asked.algorithm} {asked.source}"
    progress = EpochProgress(label, seeds, options.epochs, len(images.train), options.device)
    found: Fit | None = None
    with Interrupt("stopping after this epoch") as interrupt:

        def on_begin() -> None:
            say(f"{label}: {_described(images)}")
            progress.begin()

        def on_epoch(epoch: int, figures: dict[str, Tensor]) -> bool:
            interrupt.measured = True
            progress(epoch, figures)
            return interrupt.number is not None

        try:
            found = fit_into(
                folder,
                images,
                algorithm=asked.algorithm,
                config=asked.config,
                seeds=seeds,
                num_epochs=options.epochs,
                device=options.device,
                replace=options.replace,
                command=shlex.join(["funcrl", "train", *words]),
                on_begin=on_begin,
                on_epoch=on_epoch,
            )
        except KeyboardInterrupt:
            interrupt.number = interrupt.number or signal.SIGINT
        finally:
            progress.close()
    if found is not None:
        say("\n" + summary(label, seeds, found, options.epochs), sys.stdout)
        files = "curve.png, metrics.csv, config.json, checkpoint/states.safetensors"
        say(f"  wrote {folder}: {files}", sys.stdout)
    return _last_words(folder, found, progress.epoch, interrupt)


def _read(words: list[str]) -> Asked:
    """Read words, and the settings of the run that they name."""
    given, config = Options(), None
    if words[0] == "--config":
        words, given, config = from_folder(Path(words[1]), words[2:])
    name = words[0]
    folders = "; ".join(f"{what} ({how})" for what, how in data.FORMATS.items())
    source, config, options = parse(
        f"train {name}",
        f"Train {name} on images, one independent network a seed, all in one compiled program.",
        f"{', '.join(data.NAMES)}, or a folder: {folders}",
        supervised.ALGORITHMS[name].Config() if config is None else config,
        given,
        words[1:],
        "DATA",
    )
    return Asked(name, source, config, options)


def _last_words(folder: Path, found: Fit | None, epoch: int, interrupt: Interrupt) -> int:
    """Say what there is of a run that was interrupted, and return the exit status."""
    if interrupt.number is None:
        return 0
    count = f"{epoch} whole epoch{'s' if epoch > 1 else ''}"
    if found is not None:
        say(f"\ninterrupted: what was learnt in {count} is in {folder}")
    elif epoch:
        say(f"\ninterrupted: the figures of {count} are in {folder}, and nothing of what was learnt")
    else:
        say("\ninterrupted: nothing was learnt yet")
    return interrupt.status


def from_folder(path: Path, words: list[str]) -> tuple[list[str], Options, Any]:
    """Return what a run's `config.json` says, as if a person had written it before other words.

    Args:
        path: The file, or its folder.
        words: What stands behind it, which counts more.
    """
    before = open_fit(path)
    images = before.settings["data"]
    options = Options(
        seeds="".join(f"{seed}," for seed in before.seeds),
        epochs=before.settings["num_epochs"],
        device=before.settings["device"],
        resize=",".join(map(str, images["size"])) if images.get("size") else None,
        grey=bool(images.get("grey")),
    )
    if images.get("test_share") is not None:
        options.test_share, options.split_seed = images["test_share"], images["split_seed"]
    return [before.settings["algorithm"], images["source"], *words], options, before.config


def _size(text: str) -> tuple[int, ...]:
    """Return what a person wrote after --resize.

    >>> _size("32,24"), _size("32")
    ((32, 24), (32, 32))
    """
    sides = text.split(",")
    fine = 1 <= len(sides) <= 2 and all(side.strip().isdigit() and int(side) > 0 for side in sides)
    require(fine, "train", "--resize", "be HEIGHT,WIDTH", text, "Write --resize 32,32.")
    numbers = tuple(int(side) for side in sides)
    return numbers if len(numbers) == 2 else numbers * 2


def _described(images: data.Split) -> str:
    channels, height, width = images.train.shape
    colours = {1: "grey", 3: "coloured"}.get(channels, f"of {channels} channels")
    how = images.description
    held = f"test share {how['test_share']:g}, split seed {how['split_seed']}"
    held = held if how["test_images"] == "drawn" else "the data's own"
    count = f"{len(images.train):,} images to learn from and {len(images.test):,} to judge by ({held})"
    return f"{count}, {height}×{width}, {colours}, {images.train.num_classes} classes"
