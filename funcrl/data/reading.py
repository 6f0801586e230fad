"""Data sets found where they lie: by a name, or by the files in a folder; and what of them is held back to judge by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funcrl.core import checks, random
from funcrl.core.checks import require
from funcrl.data.digits import digits
from funcrl.data.files import cifar10, class_folders, folder, idx, image_files
from funcrl.data.labelled import LabelledImages

NAMES = {"digits": digits}
"""data sets that need no file"""

FORMATS = {
    "a folder for each class": "with images in it (PNG, JPEG, …); or train/ and test/ with such folders",
    "IDX": "train-images-idx3-ubyte and train-labels-idx1-ubyte (MNIST, Fashion-MNIST), t10k-… to judge by; .gz or not",
    "CIFAR-10, binary": "data_batch_1.bin and so on, test_batch.bin to judge by",
}
"""what a folder may hold"""

_SPLITS = {"train", "test"}


@dataclass(frozen=True)
class Split:
    """A data set in two parts."""

    train: LabelledImages
    """what to learn from"""
    test: LabelledImages
    """what to judge by"""
    classes: tuple[str, ...]
    """what the labels mean, in their order"""
    description: dict[str, Any]
    """what it is and how it was split, as JSON can hold it"""


@dataclass(frozen=True)
class _Found:
    train: LabelledImages
    test: LabelledImages | None
    format: str
    classes: tuple[str, ...]


def read(
    source: str | Path,
    *,
    size: Sequence[int] | None = None,
    grey: bool = False,
    test_share: float = 0.2,
    split_seed: int = 0,
) -> Split:
    """Return a data set in two parts: its own, where it has some, or drawn by a key that is none of the seeds.

    Args:
        source: A name, `"digits"`, or a folder with one of `FORMATS`, which is told by what lies there.
        size: `(H, W)` to bring all images to; as they are by default.
        grey: Whether to read one channel of what lies in a folder for each class.
        test_share: Of the images that are drawn to judge by, in (0, 1), where the data has no part for that.
        split_seed: Which ones are drawn.

    Raises:
        FileNotFoundError: When there is no such folder, and no data of such a name.
        ValueError: When nothing in it is understood, or a file is damaged.
        ModuleNotFoundError: When what reads it is not installed.

    >>> split = read("digits")
    >>> split.train, len(split.test)
    (LabelledImages(1438 of (1, 8, 8), 10 classes), 359)
    """
    if size is not None:
        require(
            len(size) == 2, "data.read", "size", "be a height and a width", tuple(size), "Write (32, 32)."
        )
        for side in size:
            checks.integer("data.read", "each of size", side, 1)
    checks.integer("data.read", "split_seed", split_seed, 0)
    found = _found(source, size, grey)
    train, test = found.train, found.test
    how = "its own"
    if test is None:
        checks.number("data.read", "test_share", test_share, 0.0, 1.0, open_low=True)
        count = round(test_share * len(train))
        hold = f"leave at least one of {len(train)} images on either side"
        require(0 < count < len(train), "data.read", "test_share", hold, test_share)
        train, test = train.split(len(train) - count, random.key(split_seed, "cpu"))
        how = "drawn"
    if size is not None:
        train, test = (
            part.resized(*size) if part.shape[1:] != tuple(size) else part for part in (train, test)
        )
    hold = f"hold test images of the shape of those that are learnt from, {train.shape}"
    instead = "Write size=(height, width), or --resize."
    require(test.shape == train.shape, "data.read", str(source), hold, test.shape, instead)
    description = {
        "source": str(source),
        "format": found.format,
        "shape": list(train.shape),
        "num_classes": train.num_classes,
        "classes": list(found.classes),
        "num_train": len(train),
        "num_test": len(test),
        "test_images": how,
        "test_share": test_share if how == "drawn" else None,
        "split_seed": split_seed if how == "drawn" else None,
        "size": None if size is None else list(size),
        "grey": grey,
    }
    return Split(train, test, found.classes, description)


def _found(source: str | Path, size: Sequence[int] | None, grey: bool) -> _Found:
    if str(source) in NAMES:
        train = NAMES[str(source)]()
        return _Found(train, None, str(source), _numbered(train))
    root = Path(source)
    if not root.is_dir():
        _refuse(source, root)
    names = sorted(path.name for path in root.iterdir())
    images = _idx_file(root, "train-images", 3)
    if images is not None:
        return _idx_found(root, images)
    batches = [name for name in names if name.startswith("data_batch_") and name.endswith(".bin")]
    if batches:
        train = cifar10(*(root / name for name in batches))
        test = cifar10(root / "test_batch.bin") if "test_batch.bin" in names else None
        return _Found(train, test, "cifar10", _numbered(train))
    folders = class_folders(root)
    if {path.name for path in folders} == _SPLITS:
        return _folders_found(root, size, grey)
    if folders:
        _refuse_parts(root, folders)
        train = folder(root, size=size, grey=grey)
        return _Found(train, None, "folders", _classes(root))
    pickled = "data_batch_1" in names
    instead = "Take CIFAR-10's binary version: the one for Python is a pickle." if pickled else ""
    require(False, "data.read", str(root), f"hold {_understood()}", names[:5] or "nothing", instead)
    raise AssertionError


def _refuse(source: str | Path, root: Path) -> None:
    """Complain of what is no name and no folder."""
    instead = f"{checks.did_you_mean(str(source), NAMES)} ".lstrip()
    instead += "This is a file: write the folder that holds it, unpacked. " if root.is_file() else ""
    raise FileNotFoundError(
        f"data.read: source must be {', '.join(NAMES)} or a folder that is there, got {str(source)!r}. {instead}"
        f"Nothing is downloaded. A folder may hold {_understood()}."
    )


def _refuse_parts(root: Path, folders: Sequence[Path]) -> None:
    """Complain of parts of a data set under other names than `train` and `test`."""
    parts = [path.name for path in folders if class_folders(path) and not image_files(path)]
    hold = "hold train and test and no other part, or a folder for each class with images in it"
    learnt = next((name for name in parts if name.lower().startswith("train")), parts[0] if parts else "")
    instead = f"Rename them, or write {str(root / learnt)!r} to hold back a share of that."
    require(not parts, "data.read", str(root), hold, parts, instead)


def _understood() -> str:
    return "; or ".join(f"{name} ({what})" for name, what in FORMATS.items())


def _idx_file(root: Path, part: str, num_axes: int) -> Path | None:
    """Return the file of one part of a data set in IDX files, by any of the names that it goes by."""
    names = [f"{part}{mark}idx{num_axes}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    return next((root / name for name in names if (root / name).is_file()), None)


def _idx_found(root: Path, images: Path) -> _Found:
    def both(part: str, images: Path, num_classes: int | None) -> LabelledImages:
        labels = _idx_file(root, f"{part}-labels", 1)
        hold = f"hold {part}-labels-idx1-ubyte beside {images.name}"
        require(labels is not None, "data.read", str(root), hold, "none")
        assert labels is not None
        return idx(images, labels, num_classes)

    train = both("train", images, None)
    others = _idx_file(root, "t10k-images", 3)
    test = None if others is None else both("t10k", others, train.num_classes)
    return _Found(train, test, "idx", _numbered(train))


def _folders_found(root: Path, size: Sequence[int] | None, grey: bool) -> _Found:
    classes, others = _classes(root / "train"), _classes(root / "test")
    hold = f"hold the classes of {root / 'train'}, {', '.join(classes[:8])}"
    require(classes == others, "data.read", str(root / "test"), hold, list(others[:8]))
    train, test = (folder(root / part, size=size, grey=grey) for part in ("train", "test"))
    return _Found(train, test, "folders", classes)


def _classes(root: Path) -> tuple[str, ...]:
    return tuple(path.name for path in class_folders(root))


def _numbered(images: LabelledImages) -> tuple[str, ...]:
    return tuple(map(str, range(images.num_classes)))
