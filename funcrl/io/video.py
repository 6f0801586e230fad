"""Pictures in a row, as a file that moves."""

from __future__ import annotations

import importlib
import io
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from funcrl.core.checks import require
from funcrl.envs.drawing import Frame, check_frame
from funcrl.io.files import write_atomically

_NEEDED = {".gif": ("PIL", "Pillow", "render"), ".mp4": ("imageio_ffmpeg", "imageio-ffmpeg", "video")}
"""What writes a file of this ending: the module, what it is called, and the extra that brings it."""

_GIF_FPS = 50
"""Viewers show what asks for more a second at ten a second."""
_LAST_SECONDS = 1
"""for which the last picture stays"""


def write_video(path: str | Path, frames: Iterable[Frame], fps: float = 30) -> None:
    """Write pictures as an animation that stays at the last one for a second.

    A GIF begins again and again, and shows 50 pictures a second at most: of more, some are left out.
    The file is put in place when it is whole.

    Args:
        path: File to write: `"agent.gif"` (Pillow writes it) or `"agent.mp4"` (imageio-ffmpeg does).
        frames: `[H, W, 3]` uint8 each, all of one size; taken one after the other.
        fps: Pictures a second, above 0.

    Raises:
        ValueError: When the ending is another one, or there is nothing to write.
        ModuleNotFoundError: Without what writes it, which `pip install "funcrl[render,video]"` brings.
        OSError: When the folder cannot be written to.
    """
    path = check_video("write_video", "path", path)
    require(0 < fps < math.inf, "write_video", "fps", "lie in (0, ∞)", fps)
    write = _gif if path.suffix.lower() == ".gif" else _mp4
    write_atomically(path, write(_of_one_size(frames), fps))


def check_video(function: str, argument: str, path: str | Path) -> Path:
    """Return the path of a video, if one can be written there.

    Args:
        function: Who complains.
        argument: What the path is called there: `"--video"`.
        path: `"agent.gif"` or `"agent.mp4"`.

    Raises:
        ValueError: When the ending is another one, or the folder cannot be written to.
        ModuleNotFoundError: When what writes it is not installed.
    """
    path = Path(path)
    kind = path.suffix.lower()
    require(
        kind in _NEEDED, function, argument, f"end in {' or '.join(_NEEDED)}", str(path), "Write agent.gif."
    )
    folder = path.parent
    require(
        folder.is_dir(),
        function,
        argument,
        "lie in a folder that exists",
        str(path),
        f"Make the folder {folder} first.",
    )
    free = os.access(folder, os.W_OK) and not path.is_dir()
    require(free, function, argument, "be a file that can be written", str(path))
    module, name, extra = _NEEDED[kind]
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        text = f"{function}: {name}, which writes {kind}, is missing. Write: pip install 'funcrl[{extra}]'"
        raise ModuleNotFoundError(text, name=module) from error
    return path


def _of_one_size(frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
    """Yield each picture, and whether it is the last one."""
    before: Frame | None = None
    for frame in frames:
        check_frame("write_video", frame)
        if before is not None:
            hold = f"all have the shape of the first one, {before.shape}"
            require(frame.shape == before.shape, "write_video", "frames", hold, frame.shape)
            yield before, False
        before = frame
    require(before is not None, "write_video", "frames", "hold at least one picture", "none")
    assert before is not None
    yield before, True


def _gif(frames: Iterator[tuple[Frame, bool]], fps: float) -> bytes:
    from PIL import Image

    every = math.ceil(fps / _GIF_FPS)

    def images() -> Iterator[Any]:
        for number, (frame, last) in enumerate(frames):
            if number % every and not last:
                continue
            image = Image.fromarray(frame)
            # The format counts in hundredths of a second; what is lost to rounding is made up for later.
            begin, end = (round(100 * at / fps) for at in (number, number + every))
            image.info["duration"] = 1000 * _LAST_SECONDS if last else 10 * (end - begin)
            yield image

    row, file = images(), io.BytesIO()
    next(row).save(file, "GIF", save_all=True, append_images=row, loop=0)
    return file.getvalue()


def _mp4(frames: Iterator[tuple[Frame, bool]], fps: float) -> bytes:
    import imageio_ffmpeg  # type: ignore[import-not-found, unused-ignore]

    with tempfile.TemporaryDirectory() as folder:
        path, writer = f"{folder}/video.mp4", None
        try:
            for frame, last in frames:
                # The usual colours of H.264 are stored for two by two pixels: sides must be even.
                even = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), "edge")
                if writer is None:
                    size = (even.shape[1], even.shape[0])
                    writer = imageio_ffmpeg.write_frames(path, size, fps=fps, macro_block_size=2)
                    writer.send(None)
                for _ in range(1 + round(fps * _LAST_SECONDS) if last else 1):
                    writer.send(np.ascontiguousarray(even))
        finally:
            if writer is not None:
                writer.close()
        return Path(path).read_bytes()
