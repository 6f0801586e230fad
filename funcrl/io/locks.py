"""One process at a time writes into the folder of a run."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from funcrl.core.checks import require

_PATIENCE = 2.0
"""seconds to wait for the processes of a run that was killed to be gone"""


@contextlib.contextmanager
def only_writer(folder: Path, function: str = "train") -> Iterator[None]:
    """Hold a folder for this process, and those that it forks, in this context.

    The system lets it go however they end. Where it has no such locks (Windows) nothing is held.

    Args:
        folder: Of a run; must exist.
        function: Who complains.

    Raises:
        ValueError: When another process holds it.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ValueError(
            f"{function}: --out must be writable, got {str(folder)!r}: {error.strerror}."
        ) from None
    try:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                instead = "Another process is writing to it: wait for that, or write another --out."
                require(time.monotonic() < until, function, "--out", "be nobody else's", str(folder), instead)
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Return whether a process holds a folder, without holding it longer than it takes to see."""
    try:
        import fcntl

        descriptor = os.open(folder / ".lock", os.O_RDONLY)
    except (ModuleNotFoundError, OSError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
