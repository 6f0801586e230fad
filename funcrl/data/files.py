"""Labelled images from files: MNIST's format, CIFAR-10's, and a folder for each class."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcrl.core import checks
from funcrl.core.checks import require
from funcrl.data.labelled import LabelledImages

_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_CLASSES = 10
_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
_LARGEST_16_BIT = 2**16 - 1


def idx(images: str | Path, labels: str | Path, num_classes: int | None = None) -> LabelledImages:
    """Return the images of two IDX files, the format of MNIST and Fashion-MNIST, compressed by gzip or not.

    Source: LeCun, Cortes & Burges, "The MNIST database of handwritten digits": a magic number of two zeros, the type
    (8: bytes) and the number of axes, then the length of each axis, big-endian, and the bytes.

    Args:
        images: File of `[M, H, W]` bytes: `"train-images-idx3-ubyte.gz"`.
        labels: File of `[M]` bytes.
        num_classes: One more than the largest label by default.

    Raises:
        FileNotFoundError: When a file is missing.
        ValueError: When a file is none of this format, cut off, they do not fit together, or a label is no class.
    """
    pixels, classes = _idx(Path(images), 3), _idx(Path(labels), 1)
    hold = f"hold a label for each of {len(pixels)} images"
    require(len(classes) == len(pixels), "data.idx", str(labels), hold, len(classes))
    if num_classes is not None:
        checks.integer("data.idx", "num_classes", num_classes, 1)
        largest = int(classes.max(initial=0))
        require(largest < num_classes, "data.idx", str(labels), f"hold labels below {num_classes}", largest)
    return LabelledImages(np.float32(pixels[:, None]) / 255, classes.astype(np.int64), num_classes)


def _idx(path: Path, num_axes: int) -> NDArray[np.uint8]:
    found = _bytes("data.idx", path)
    if found[:2] == b"\x1f\x8b":
        try:
            found = gzip.decompress(found)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"data.idx: {path} must be a whole gzip file, got an error: {error}.") from error
    kind = bytes((0, 0, 8, num_axes))
    hold = f"be an IDX file of bytes with {num_axes} {'axes' if num_axes > 1 else 'axis'}, beginning with {kind!r}"
    require(found[:4] == kind, "data.idx", str(path), hold, found[:4])
    begin = 4 + 4 * num_axes
    require(len(found) >= begin, "data.idx", str(path), f"hold at least {begin} bytes", len(found))
    shape = struct.unpack(f">{num_axes}I", found[4:begin])
    expected = begin + math.prod(shape)
    hold = f"hold {expected} bytes, as its first ones say"
    require(len(found) == expected, "data.idx", str(path), hold, len(found), "Copy it once more.")
    return np.frombuffer(found, np.uint8, offset=begin).reshape(shape)


def cifar10(*files: str | Path) -> LabelledImages:
    """Return the images of CIFAR-10's binary version, one file after the other.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images": for each image a byte for the class
    and 3 x 32 x 32 for the pixels.

    Args:
        *files: `"data_batch_1.bin"` and so on.

    Raises:
        FileNotFoundError: When a file is missing.
        ValueError: When a file does not consist of such rows, or none is given.
    """
    require(len(files) > 0, "data.cifar10", "files", "be at least one file", "none")
    size = 1 + math.prod(_CIFAR_SHAPE)
    parts = []
    for path in map(Path, files):
        found = _bytes("data.cifar10", path)
        hold, instead = (
            f"hold rows of {size} bytes",
            "Take the binary version: the one for Python is a pickle.",
        )
        whole = len(found) > 0 and len(found) % size == 0
        require(whole, "data.cifar10", str(path), hold, len(found), instead)
        rows = np.frombuffer(found, np.uint8).reshape(-1, size)
        largest = int(rows[:, 0].max())
        hold = f"hold classes below {_CIFAR_CLASSES}"
        require(largest < _CIFAR_CLASSES, "data.cifar10", str(path), hold, largest, instead)
        parts.append(rows)
    every = np.concatenate(parts)
    pixels = np.float32(every[:, 1:].reshape(-1, *_CIFAR_SHAPE)) / 255
    return LabelledImages(pixels, every[:, 0].astype(np.int64), _CIFAR_CLASSES)


def folder(root: str | Path, *, size: Sequence[int] | None = None, grey: bool = False) -> LabelledImages:
    """Return the images of a folder that holds a folder for each class, classes by name in the order of the alphabet.

    Pixels are divided by the largest value of their depth, 255 or 65535. Hidden files and folders, whose names begin
    with a dot, are left out.

    Args:
        root: `"pets"`, with `pets/cat/1.png` and `pets/dog/2.jpg`.
        size: `(H, W)` to bring all images to; without, they must have one size already.
        grey: Whether to read one channel, not three.

    Raises:
        FileNotFoundError: When there is no such folder.
        ValueError: When it holds no class, a class no image, or a file is no image, has neither 8 nor 16 bits, or has
            another size than the first.
        ModuleNotFoundError: Without Pillow, which `pip install "funcrl[render]"` brings.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"data.folder: root must be a folder that is there, got {str(root)!r}.")
    classes = class_folders(root)
    require(len(classes) > 0, "data.folder", str(root), "hold a folder for each class", "none")
    pixels: list[NDArray[np.unsignedinteger[Any]]] = []
    labels: list[int] = []
    for label, one in enumerate(classes):
        files = image_files(one)
        require(len(files) > 0, "data.folder", str(one), f"hold images ({', '.join(_ENDINGS)})", "none")
        for path in files:
            image = _image(path, size, grey)
            first = pixels[0].shape if pixels else image.shape
            hold, instead = (
                f"have the shape {first} of the first image",
                "Write size=(height, width), or --resize.",
            )
            require(image.shape == first, "data.folder", str(path), hold, image.shape, instead)
            pixels.append(image)
            labels.append(label)
    scaled = [np.float32(image) / np.iinfo(image.dtype).max for image in pixels]
    return LabelledImages(np.stack(scaled), labels, len(classes))


def class_folders(root: Path) -> list[Path]:
    """Return the folders in a folder, by name, without hidden ones: notebooks and version control leave such."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def image_files(root: Path) -> list[Path]:
    """Return the images in a folder, by name, without hidden ones."""
    files = (path for path in root.iterdir() if path.suffix.lower() in _ENDINGS)
    return sorted(path for path in files if not path.name.startswith("."))


def _image(path: Path, size: Sequence[int] | None, grey: bool) -> NDArray[np.unsignedinteger[Any]]:
    """Return the pixels, `[C, H, W]`, of 8 or 16 bits as they are in the file."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "data.folder: Pillow is missing. Write: pip install 'funcrl[render]'", name="PIL"
        ) from error
    try:
        with Image.open(path) as opened:
            mode = opened.mode
            deep = mode.startswith(("I", "F"))  # Pillow clips these at 255 where they become L or RGB
            image = opened.convert("F" if deep else "L" if grey else "RGB")
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise ValueError(f"data.folder: {path} must be an image, got an error: {error}.") from error
    if size is not None:
        image = image.resize((int(size[1]), int(size[0])), Image.Resampling.BILINEAR)
    if deep:
        shades = np.rint(np.asarray(image, dtype=np.float32))
        fine = mode != "F" and shades.min() >= 0 and shades.max() <= _LARGEST_16_BIT
        require(fine, "data.folder", str(path), "have 8 or 16 bits a pixel", f"an image of mode {mode}")
        return shades.astype(np.uint16)[None].repeat(1 if grey else 3, axis=0)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if grey else array.transpose(2, 0, 1)


def _bytes(function: str, path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(
            f"{function}: {str(path)!r} must be a file that is there. Nothing is downloaded."
        )
    return path.read_bytes()
