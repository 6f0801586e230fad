"""Pictures in a row as a file."""

import sys

import numpy as np
import pytest
from PIL import Image

from funcrl.io import write_video


def pictures(count, shape=(5, 7)):
    """Yield pictures of which no two are the same."""
    for number in range(count):
        yield np.full((*shape, 3), number, dtype=np.uint8)


def read(path):
    """Return the brightness of each picture of a GIF, and the milliseconds for which it is shown."""
    with Image.open(path) as animation:
        assert animation.info["loop"] == 0
        shown = []
        for number in range(animation.n_frames):
            animation.seek(number)
            shown.append((animation.convert("RGB").getpixel((0, 0))[0], animation.info["duration"]))
        return [list(column) for column in zip(*shown, strict=True)]


def test_a_gif_shows_each_picture_and_the_last_one_for_a_second(tmp_path):
    write_video(tmp_path / "a.gif", pictures(31), fps=30)
    seen, durations = read(tmp_path / "a.gif")
    assert seen == list(range(31))
    assert sum(durations[:-1]) == 1000  # though none of them can last for a thirtieth of a second
    assert set(durations[:-1]) == {30, 40}
    assert durations[-1] == 1000


@pytest.mark.parametrize(("fps", "every"), [(50, 1), (51, 2), (100, 2), (120, 3)])
def test_of_more_pictures_than_viewers_show_some_are_left_out_but_never_the_last(tmp_path, fps, every):
    write_video(tmp_path / "a.gif", pictures(60), fps=fps)
    seen, durations = read(tmp_path / "a.gif")
    assert seen == sorted({*range(0, 60, every), 59})
    assert min(durations) >= 20
    assert sum(durations[:-1]) == pytest.approx(1000 * 60 / fps, abs=30)


def test_pictures_that_are_the_same_last_longer(tmp_path):
    same = [next(pictures(1))] * 10
    write_video(tmp_path / "a.GIF", [*same, *pictures(2)], fps=10)
    assert read(tmp_path / "a.GIF") == [[0, 1], [1100, 1000]]
    write_video(str(tmp_path / "one.gif"), same[:1])
    with Image.open(tmp_path / "one.gif") as still:
        assert still.n_frames == 1


def test_an_mp4_shows_each_picture_and_the_last_one_for_a_second(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    write_video(tmp_path / "a.mp4", pictures(31, (33, 65)), fps=25)
    count, seconds = ffmpeg.count_frames_and_secs(tmp_path / "a.mp4")
    assert count == 31 + 25
    assert seconds == pytest.approx(56 / 25, abs=0.05)
    about = next(ffmpeg.read_frames(tmp_path / "a.mp4"))
    assert about["size"] == (66, 34)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "frames must hold at least one picture"),
        (
            [*pictures(2), *pictures(1, (5, 8))],
            r"all have the shape of the first one, \(5, 7, 3\), got \(5, 8, 3\)",
        ),
        ([np.zeros((5, 7), np.uint8)], r"must be an array \[H, W, 3\] of uint8, got \(5, 7\) of uint8"),
        ([np.zeros((5, 7, 3))], r"got \(5, 7, 3\) of float64"),
    ],
)
@pytest.mark.parametrize("name", ["a.gif", "a.mp4"])
def test_what_cannot_be_written_leaves_the_file_of_before(tmp_path, frames, message, name):
    if name.endswith("mp4"):
        pytest.importorskip("imageio_ffmpeg")
    (tmp_path / name).write_text("before")
    with pytest.raises(ValueError, match=f"write_video: .*{message}"):
        write_video(tmp_path / name, frames)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "before")]


@pytest.mark.parametrize(
    ("path", "fps", "message"),
    [
        ("a.png", 30, "path must end in .gif or .mp4, got 'a.png'"),
        ("gif", 30, "path must end in .gif or .mp4, got 'gif'"),
        ("nowhere/a.gif", 30, "path must lie in a folder that exists"),
        ("folder.gif", 30, "path must be a file that can be written"),
        ("a.gif", 0, r"fps must lie in \(0, ∞\), got 0"),
        ("a.gif", float("nan"), r"fps must lie in \(0, ∞\), got nan"),
    ],
)
def test_where_nothing_can_be_written_no_picture_is_asked_for(tmp_path, monkeypatch, path, fps, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.gif").mkdir()
    frames = pictures(1)
    with pytest.raises(ValueError, match=f"write_video: {message}"):
        write_video(path, frames, fps)
    assert next(frames) is not None


@pytest.mark.parametrize(
    ("module", "name", "extra"), [("PIL", "a.gif", "render"), ("imageio_ffmpeg", "a.mp4", "video")]
)
def test_what_is_missing_is_named_with_what_brings_it(tmp_path, monkeypatch, module, name, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'funcrl\[{extra}\]'") as caught:
        write_video(tmp_path / name, pictures(1))
    assert caught.value.name == module
