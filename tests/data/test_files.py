"""Labelled images from files: what was written is read, and what is damaged is named."""

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from funcrl import data
from funcrl.core import random

CPU = torch.device("cpu")
PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def packed(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def written(tmp_path, images=None, labels=None):
    paths = tmp_path / "images", tmp_path / "labels"
    paths[0].write_bytes(packed(PIXELS) if images is None else images)
    paths[1].write_bytes(packed(np.uint8([3, 1])) if labels is None else labels)
    return paths


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_idx_is_read(tmp_path, compress):
    found = data.idx(*written(tmp_path, compress(packed(PIXELS))))
    images, labels = found.on(CPU)
    assert torch.equal((images * 255).round(), torch.from_numpy(PIXELS)[:, None].float())
    assert labels.tolist() == [3, 1]
    assert found.num_classes == 4


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (packed(PIXELS)[:-1], None, "images must hold 40 bytes, as its first ones say, got 39"),
        (packed(PIXELS)[:9], None, "images must hold at least 16 bytes, got 9"),
        (b"", None, "images must be an IDX file of bytes with 3 axes"),
        (packed(PIXELS[0]), None, "images must be an IDX file of bytes with 3 axes"),
        (gzip.compress(packed(PIXELS), mtime=0)[:-9], None, "images must be a whole gzip file"),
        (None, packed(np.uint8([1])), "labels must hold a label for each of 2 images, got 1"),
        (None, packed(np.uint8([12, 1])), "labels must hold labels below 10, got 12"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, images, labels, message):
    with pytest.raises(ValueError, match=message):
        data.idx(*written(tmp_path, images, labels), num_classes=10)


def test_cifar_is_read_and_its_pickles_are_not(tmp_path):
    rows = np.zeros((2, 3073), np.uint8)
    rows[:, 0], rows[1, 1:1025] = [9, 2], 255
    (tmp_path / "a.bin").write_bytes(rows[:1].tobytes())
    (tmp_path / "b.bin").write_bytes(rows[1:].tobytes())
    images, labels = data.cifar10(tmp_path / "a.bin", tmp_path / "b.bin").on(CPU)
    assert labels.tolist() == [9, 2]
    assert images[1].amax(dim=(1, 2)).tolist() == [1.0, 0.0, 0.0]  # all of the red, nothing of the others
    (tmp_path / "c.bin").write_bytes(rows.tobytes()[:-1])
    with pytest.raises(ValueError, match=r"c\.bin must hold rows of 3073 bytes, got 6145.*binary version"):
        data.cifar10(tmp_path / "c.bin")
    rows[0, 0] = 10
    (tmp_path / "d.bin").write_bytes(rows.tobytes())
    with pytest.raises(ValueError, match=r"d\.bin must hold classes below 10, got 10"):
        data.cifar10(tmp_path / "d.bin")
    with pytest.raises(ValueError, match="files must be at least one file"):
        data.cifar10()


def picture(path, colour, size=(4, 3)):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_folders_are_classes(tmp_path):
    picture(tmp_path / "dog" / "1.png", (0, 0, 255))
    picture(tmp_path / "cat" / "2.png", (255, 0, 0))
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    found = data.folder(tmp_path)
    images, labels = found.on(CPU)
    assert found.shape == (3, 3, 4)
    assert labels.tolist() == [0, 1]
    assert images[:, :, 0, 0].tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert data.folder(tmp_path, size=(6, 5), grey=True).shape == (1, 6, 5)


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_images_of_16_bits_are_not_clipped(tmp_path, mode):
    shades = np.uint16([[0, 300, 40000], [65535, 257, 1]])
    path = tmp_path / "cat" / "1.png"
    path.parent.mkdir()
    if mode == "I;16":
        Image.fromarray(shades).save(path)
    else:  # as Pillow opens the format PGM
        path.write_bytes(b"P5 3 2 65535\n" + shades.astype(">u2").tobytes())
    with Image.open(path) as opened:
        assert opened.mode == mode
    expected = torch.from_numpy(np.float32(shades) / 65535)
    assert torch.equal(data.folder(tmp_path, grey=True).on(CPU)[0], expected[None, None])
    assert torch.equal(data.folder(tmp_path).on(CPU)[0], expected.expand(1, 3, 2, 3))
    smaller = data.folder(tmp_path, size=(1, 1), grey=True).on(CPU)[0]
    assert torch.allclose(smaller.mean(), expected.mean(), atol=0.1)


def test_images_of_another_depth_are_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    Image.fromarray(np.float32([[0.5]])).save(tmp_path / "cat" / "1.png", format="TIFF")
    with pytest.raises(ValueError, match=r"1\.png must have 8 or 16 bits a pixel, got 'an image of mode F'"):
        data.folder(tmp_path)


def test_hidden_files_and_folders_are_no_classes_and_no_images(tmp_path):
    picture(tmp_path / "cat" / "1.png", (0, 0, 255))
    (tmp_path / "cat" / "._1.png").write_bytes(b"of another system")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    found = data.folder(tmp_path)
    assert (len(found), found.num_classes) == (1, 1)


def test_damaged_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="root must be a folder that is there"):
        data.folder(tmp_path / "none")
    with pytest.raises(ValueError, match="hold a folder for each class"):
        data.folder(tmp_path)
    picture(tmp_path / "cat" / "1.png", (1, 2, 3))
    picture(tmp_path / "cat" / "2.png", (1, 2, 3), size=(5, 3))
    with pytest.raises(ValueError, match=r"2\.png must have the shape \(3, 3, 4\) .*size=\(height, width\)"):
        data.folder(tmp_path)
    whole = (tmp_path / "cat" / "1.png").read_bytes()
    (tmp_path / "cat" / "2.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"2\.png must be an image"):
        data.folder(tmp_path)
    (tmp_path / "dog").mkdir()
    (tmp_path / "cat" / "2.png").unlink()
    with pytest.raises(ValueError, match=r"dog must hold images"):
        data.folder(tmp_path)


@pytest.mark.parametrize("load", [lambda path: data.idx(path, path), data.cifar10])
def test_missing_files_are_named(tmp_path, load):
    with pytest.raises(FileNotFoundError, match=r"must be a file that is there\. Nothing is downloaded"):
        load(tmp_path / "none")


def test_a_split_is_all_images_once_and_drawn_from_the_key():
    digits = data.digits()
    parts = [digits.split(1500, random.key(seed)) for seed in (0, 0, 1)]
    (first, second), again, other = parts
    assert (len(first), len(second), first.num_classes) == (1500, 297, 10)
    assert torch.equal(first.on(CPU)[0], again[0].on(CPU)[0])
    assert not torch.equal(first.on(CPU)[0], other[0].on(CPU)[0])
    together = torch.cat([first.on(CPU)[0], second.on(CPU)[0]]).sum(dim=0)
    assert torch.allclose(together, digits.on(CPU)[0].sum(dim=0))
    for count in (0, 1797):
        with pytest.raises(ValueError, match="count must be"):
            digits.split(count, random.key(0))


def test_resized_images_keep_their_labels_and_lie_within_bounds():
    larger = data.digits().resized(16, 16)
    assert larger.shape == (1, 16, 16)
    assert torch.equal(larger.on(CPU)[1], data.digits().on(CPU)[1])
    with pytest.raises(ValueError, match="size must be"):
        larger.resized(0, 3)


@pytest.mark.parametrize("pixel", [torch.nan, torch.inf])
def test_pixels_must_be_finite(pixel):
    images = torch.ones(5, 1, 4, 4)
    images[3, 0, 1, 2] = pixel
    with pytest.raises(ValueError, match=r"hold finite pixels, got 'NaN or infinity in 1 of 5'\.$"):
        data.LabelledImages(images)


def test_images_without_labels_stay_without():
    unlabelled = data.LabelledImages(torch.ones(5, 1, 4, 4))
    first, second = unlabelled.split(3, random.key(0))
    for part in (unlabelled, first, second, unlabelled.resized(8, 8)):
        assert part.num_classes == 0
        assert repr(part).endswith("no labels)")
        assert part.on(CPU)[1].tolist() == [0] * len(part)
    with pytest.raises(ValueError, match=r"num_classes must be 0 without labels, got 3"):
        data.LabelledImages(torch.ones(5, 1, 4, 4), num_classes=3)
