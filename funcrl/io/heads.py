"""Heads of checkpoints: the JSON files that make what was written a checkpoint, signed and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from funcrl.io.files import json_text

SCHEMA = 2
"""Of what is in the files; another number is another meaning."""

REPLAY = ".memory.buffer"
"""Where a carry has its replay buffers."""


def checked(path: Path) -> dict[str, Any]:
    """Return what a checkpoint's JSON file says.

    Raises:
        ValueError: When it is damaged, or written by another version.
    """
    text = path.read_bytes()
    try:
        head = json.loads(text)
        schema, signature = head["schema"], head.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{path} must be a checkpoint's head, got something else.") from None
    if schema != SCHEMA:
        raise ValueError(f"{path} must be of schema {SCHEMA}, got {schema!r}: another version wrote it.")
    if _digest(head) != signature:
        raise ValueError(f"{path} must be as it was written, but its checksum differs.")
    return head  # type: ignore[no-any-return]


def signed(head: dict[str, Any]) -> bytes:
    """Return the content of a head's file, with its checksum."""
    return json_text({**head, "sha256": _digest(head)}, indent=1).encode()


def _digest(head: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()


def has_checkpoint(folder: Path) -> bool:
    """Return whether there is a checkpoint in the folder of a run, whole or not."""
    return bool(newest_first(folder / "checkpoint"))


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints in the folder of a run that has come to its end; its final agents stay."""
    for path in (*newest_first(folder / "checkpoint"), *folder.glob("checkpoint/*.at-*.safetensors")):
        path.unlink(missing_ok=True)


def lanes_of_head(path: Path) -> range | None:
    """Return the group of lanes of a head; None where that cannot be read."""
    try:
        return range(*json.loads(path.read_bytes())["lanes"])
    except (ValueError, KeyError, TypeError, OSError):
        return None


def newest_first(folder: Path) -> list[Path]:
    """Return the heads of checkpoints, which are numbered."""
    return sorted(folder.glob("[0-9]" * 8 + ".json"), reverse=True)


def files_of(path: Path) -> Iterable[str]:
    """Return the names of a checkpoint's files, of one that is damaged too as far as it can be read."""
    try:
        return [part["file"] for part in json.loads(path.read_bytes())["parts"]]
    except (ValueError, KeyError, TypeError, OSError):
        return []


DECISIVE = (
    "algorithm",
    "environment",
    "env",
    "wrappers",
    "config",
    "seeds",
    "asked_steps",
    "lanes_per_group",
    "over",
    "program",
    "start",
)
"""Of `config.json`, what decides how a run goes on."""


def decisive(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what of a run's settings decides how it goes on, as JSON holds it."""
    kept = {name: settings.get(name) for name in DECISIVE}
    return json.loads(json_text(kept))  # type: ignore[no-any-return]
