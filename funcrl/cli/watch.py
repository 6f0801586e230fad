"""`funcrl watch`."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from funcrl.cli.arguments import parse_folder
from funcrl.core.checks import require
from funcrl.io.locks import is_held
from funcrl.io.watching import Standing, standings

_HEAD = f"  {'':<28} {'':<10}{'':>5}{'steps':>12}{'return':>10}  interquartile mean so far"


@dataclasses.dataclass
class Options:
    """What `funcrl watch` takes beside the folders."""

    every: float = 2.0
    """seconds between two looks"""
    once: bool = False
    """look once, and end"""


def watch_command(words: list[str]) -> int:
    """Show where runs stand until all of them are done.

    Args:
        words: What stands after `funcrl watch`.

    Returns:
        Exit status.
    """
    folders, options = parse_folder(
        "watch",
        "Show where runs and sweeps stand, from any process, until nothing goes on any more. The folders are only read.",
        Options(),
        words,
        tuple[Path, ...],
    )
    require(len(folders) > 0, "watch", "DIR", "be given", "none", "Write funcrl watch runs/*.")
    require(options.every > 0, "watch", "--every", "be above 0", options.every)
    height = 0
    while True:
        found, begins, notes = _look(folders)
        text = "\n".join([*_lines(found), *notes])
        if height and sys.stdout.isatty():
            print(f"\x1b[{height}A\x1b[J", end="")
        print(text, flush=True)
        height = text.count("\n") + 1
        if options.once or not (begins or any(one.is_written for one in found)):
            return 0
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(options.every)
            continue
        return 130


def _look(folders: Sequence[Path]) -> tuple[list[Standing], bool, list[str]]:
    """Return where runs stand, whether any is about to begin, and a line for each folder that shows nothing.

    Raises:
        ValueError: When a folder is not there.
        FileNotFoundError: When no folder holds a run, or is about to.
    """
    found, notes, errors, begins = [], [], [], False
    for folder in folders:
        require(folder.exists(), "watch", "DIR", "be a folder that is there", str(folder))
        try:
            found += list(standings(folder))
        except (FileNotFoundError, ValueError) as error:
            is_begun = is_held(folder)
            begins |= is_begun
            notes.append(f"{folder}: {'about to begin' if is_begun else 'no run'}")
            errors.append(error)
    if not found and not begins:
        raise errors[0]
    return found, begins, notes


def _lines(found: list[Standing]) -> list[str]:
    lines = [_HEAD] if found else []
    for number, one in enumerate(found):
        if number == 0 or found[number - 1].label != one.label:
            lines.append(one.label)
        lines.append(one.line())
    return lines
