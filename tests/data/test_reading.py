"""Data sets by name or by what lies in a folder, and the part that is held back."""

import gzip

import numpy as np
import pytest
import torch

from funcrl import data
from tests.data.test_files import PIXELS, packed, picture

CPU = torch.device("cpu")


def labels_of(images):
    return images.on(CPU)[1].tolist()


def idx_into(folder, part, mark="-", ending="", compress=bytes, labels=(3, 1)):
    (folder / f"{part}-images{mark}idx3-ubyte{ending}").write_bytes(compress(packed(PIXELS)))
    (folder / f"{part}-labels{mark}idx1-ubyte{ending}").write_bytes(compress(packed(np.uint8(labels))))


def test_digits_are_split_by_a_key_of_their_own():
    first, again, other = (data.read("digits", split_seed=seed) for seed in (0, 0, 1))
    assert (len(first.train), len(first.test)) == (1438, 359)
    assert labels_of(first.test) == labels_of(again.test) != labels_of(other.test)
    assert (len(first.train) + len(first.test), first.train.num_classes) == (1797, 10)
    assert len(data.read("digits", test_share=0.5).test) == 898
    assert first.description["test_images"] == "drawn"


@pytest.mark.parametrize(("mark", "ending", "compress"), [("-", "", bytes), (".", ".gz", gzip.compress)])
def test_idx_files_are_known_by_their_names_and_have_test_images_of_their_own(
    tmp_path, mark, ending, compress
):
    idx_into(tmp_path, "train", mark, ending, compress)
    idx_into(tmp_path, "t10k", mark, ending, compress, labels=(0, 2))
    found = data.read(tmp_path)
    assert (labels_of(found.train), labels_of(found.test)) == ([3, 1], [0, 2])
    assert found.test.num_classes == 4  # as in what is learnt from
    assert (found.description["format"], found.description["test_images"]) == ("idx", "its own")


def test_idx_files_without_test_images_are_split_and_without_labels_refused(tmp_path):
    idx_into(tmp_path, "train")
    found = data.read(tmp_path, test_share=0.5)
    assert sorted(labels_of(found.train) + labels_of(found.test)) == [1, 3]
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match="must hold train-labels-idx1-ubyte beside train-images-idx3-ubyte"):
        data.read(tmp_path)


def test_cifar_is_known_by_its_batches(tmp_path):
    rows = np.zeros((4, 3073), np.uint8)
    rows[:, 0] = [9, 2, 5, 7]
    for name, row in (("data_batch_1", 0), ("data_batch_2", 1), ("test_batch", 2)):
        (tmp_path / f"{name}.bin").write_bytes(rows[row].tobytes())
    found = data.read(tmp_path, size=(8, 4))
    assert (labels_of(found.train), labels_of(found.test)) == ([9, 2], [5])
    assert found.train.shape == found.test.shape == (3, 8, 4)
    assert found.description["size"] == [8, 4]


def test_folders_are_classes_with_names_and_may_be_split_already(tmp_path):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            picture(tmp_path / part / name / "1.png", (0, 0, 255))
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    found = data.read(tmp_path, grey=True)
    assert (found.classes, len(found.train), len(found.test)) == (("cat", "dog"), 2, 2)
    assert found.train.shape == (1, 3, 4)
    alone = data.read(tmp_path / "train", test_share=0.5)
    assert (alone.classes, len(alone.train), len(alone.test)) == (("cat", "dog"), 1, 1)
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "fox")
    with pytest.raises(ValueError, match=r"must hold the classes of .*train, cat, dog, got \['cat', 'fox'\]"):
        data.read(tmp_path)


@pytest.mark.parametrize("parts", [("test", "train", "val"), ("Test", "Train"), ("train",)])
def test_parts_of_other_names_are_named(tmp_path, parts):
    for part in parts:
        (tmp_path / part).mkdir()
        picture(tmp_path / part / "cat" / "1.png", (0, 0, 255))
    with pytest.raises(ValueError, match="must hold train and test and no other part") as caught:
        data.read(tmp_path)
    learnt = tmp_path / ("train" if "train" in parts else "Train")
    assert f"got {list(parts)}. Rename them, or write {str(learnt)!r} to hold back" in str(caught.value)


def test_test_images_of_another_shape_are_refused(tmp_path):
    idx_into(tmp_path, "train")
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(packed(PIXELS[:, :2]))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(packed(np.uint8([0, 1])))
    with pytest.raises(ValueError, match=r"of those that are learnt from, \(1, 3, 4\), got \(1, 2, 4\)"):
        data.read(tmp_path)
    assert data.read(tmp_path, size=(4, 4)).test.shape == (1, 4, 4)


def test_what_is_not_understood_is_refused_with_what_is(tmp_path):
    with pytest.raises(ValueError, match=r"must hold a folder for each class .* CIFAR-10, .*got 'nothing'"):
        data.read(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(b"pickled")
    with pytest.raises(ValueError, match=r"got \['data_batch_1'\]. Take CIFAR-10's binary version"):
        data.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="write the folder that holds it, unpacked"):
        data.read(tmp_path / "data_batch_1")
    with pytest.raises(FileNotFoundError, match="Did you mean 'digits'"):
        data.read("digit")
    with pytest.raises(ValueError, match=r"size must be a height and a width, got \(8,\)"):
        data.read("digits", size=(8,))
    with pytest.raises(ValueError, match=r"test_share must lie in \(0, 1\], got 0"):
        data.read("digits", test_share=0.0)
