"""Writing files so that a crash leaves the old content or the new, never half of either."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file by way of a temporary one beside it that is synced and then renamed.

    Args:
        path: Where to; its folder must exist.
        content: All of it.

    Raises:
        OSError: When the folder cannot be written to.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is private; the result gets what the user's umask gives any new file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def json_text(value: Any, indent: int | None = None) -> str:
    r"""Return settings or figures as JSON that every reader takes, with a newline at the end.

    >>> json_text({"rate": float("inf")})
    '{"rate": "inf"}\n'
    """
    return json.dumps(_plain(value), indent=indent) + "\n"


def _plain(value: Any) -> Any:
    """Turn settings into what JSON can hold; infinities and NaN become text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return repr(value)
