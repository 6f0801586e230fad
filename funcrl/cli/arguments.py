"""What the commands that run an algorithm on an environment share: reading their words, naming their folder."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from funcrl import envs
from funcrl.core.checks import require
from funcrl.envs.naming import wraps_atari
from funcrl.io import free_folder
from funcrl.train.resolve import resolve_env


def parse(
    command: str,
    described: str,
    environments: str,
    config: Any,
    options: Any,
    words: list[str],
    place: str = "ENVIRONMENT",
) -> tuple[str, Any, Any]:
    """Return environment, settings and options that a person wrote; ends the process where it cannot.

    Args:
        command: `"train ppo"`.
        described: What it does, for its help.
        environments: Which there are, likewise.
        config: The algorithm's settings where nothing else is said.
        options: What the command takes beside them where nothing else is said; a dataclass.
        words: What stands after the command.
        place: What stands in the place of an environment.
    """
    import tyro

    environment = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar=place, help=environments)]
    arguments = dataclasses.make_dataclass(
        "Arguments",
        [
            ("environment", environment),
            ("command", type(options), dataclasses.field(default_factory=lambda: options)),
            ("algorithm", type(config), dataclasses.field(default_factory=lambda: config)),
        ],
    )
    parsed: Any = tyro.cli(
        arguments,
        args=words,
        prog=f"funcrl {command}",
        description=described,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands, tyro.conf.SuppressFixed),
    )
    return parsed.environment, parsed.algorithm, parsed.command


def parse_folder(
    command: str, described: str, options: Any, words: list[str], kind: Any = Path
) -> tuple[Any, Any]:
    """Return the folder and the options that a person wrote; ends the process where it cannot.

    Args:
        command: `"resume"`.
        described: What it does, for its help.
        options: What the command takes beside the folder where nothing else is said; a dataclass.
        words: What stands after the command.
        kind: `Path`, or `tuple[Path, ...]` where it takes several folders.
    """
    import tyro

    what = "folder that a run left" if kind is Path else "folders that runs left"
    folder = Annotated[tyro.conf.Positional[kind], tyro.conf.arg(metavar="DIR", help=what)]
    arguments = dataclasses.make_dataclass(
        "Arguments",
        [("folder", folder), ("command", type(options), dataclasses.field(default_factory=lambda: options))],
    )
    parsed: Any = tyro.cli(
        arguments,
        args=words,
        prog=f"funcrl {command}",
        description=described,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return parsed.folder, parsed.command


def default_folder(name: str, env_name: str) -> Path:
    """Return the folder for an algorithm on an environment, the first that is free."""
    plain_name = env_name.replace("/", "-").replace(":", "-")
    return free_folder(Path("runs") / f"{name}-{plain_name}")


ENV = "--env."
"""What stands before a field of the environment."""


def take_env_fields(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the words without `--env.FIELD VALUE` and `--env.FIELD=VALUE`, and these fields.

    Raises:
        ValueError: When a value is missing, or a field stands twice.

    >>> take_env_fields(["--seeds", "2", "--env.half-length", "0.25,0.5", "--env.size=8"])
    (['--seeds', '2'], {'half_length': [0.25, 0.5], 'size': 8})
    """
    rest: list[str] = []
    fields: dict[str, Any] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith(ENV):
            rest.append(word)
            continue
        name, equals, text = word.removeprefix(ENV).partition("=")
        name = name.replace("-", "_")
        require(bool(name), "train", word, "name a field", "none", f"Write {ENV}half-length 0.25.")
        there = bool(equals) or (bool(left) and not left[0].startswith("--"))
        require(there, "train", word, "have a value", "none", f"Write {word} 0.25.")
        require(name not in fields, "train", word, "stand once", "it twice")
        values = [read_value(part) for part in split_values(text if equals else left.pop(0))]
        require(len(values) > 0, "train", word, "have a value", "none", f"Write {ENV}{name} 0.25.")
        fields[name] = values[0] if len(values) == 1 else values
    return rest, fields


def gather(option: str, words: list[str]) -> list[str]:
    """Put the values of an option that stands several times behind the first one, as the parser wants them.

    >>> gather("--wrap", ["--wrap", "flatten", "--seeds", "2", "--wrap=frame_stack=4"])
    ['--seeds', '2', '--wrap', 'flatten', 'frame_stack=4']
    """
    values: list[str] = []
    rest: list[str] = []
    pending = False
    for word in words:
        if word == option:
            pending = True
        elif word.startswith(f"{option}="):
            values.append(word.removeprefix(f"{option}="))
        elif pending and not word.startswith("--"):
            values.append(word)
        else:
            pending = False
            rest.append(word)
    return [*rest, option, *values] if values else rest


def split_values(text: str) -> list[str]:
    """Split at commas that stand in no brackets.

    >>> split_values("0.5, (64,64),a")
    ['0.5', '(64,64)', 'a']
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def read_value(text: str) -> Any:
    """Return a value as Python writes it; anything else is a word.

    >>> read_value("1e-3"), read_value("(4,4)"), read_value("uint8"), read_value("inf")
    (0.001, (4, 4), 'uint8', inf)
    >>> read_value("true"), read_value("False")
    (True, False)
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.lower() in ("inf", "-inf", "nan"):
        return float(text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def make_env(name: str, fields: dict[str, Any], wrappers: Sequence[str]) -> envs.AnyEnv | str:
    """Return an environment from words, or its name where there is nothing but that.

    Args:
        name: As a person wrote it.
        fields: To change.
        wrappers: The innermost first.
    """
    if not fields and not wrappers:
        return name
    if not wraps_atari(wrappers):  # which says what it is for
        resolve_env("train", name)  # complains of unknown names
    return envs.from_words("train", name, fields, wrappers)


def parse_seeds(text: str, function: str = "train") -> Sequence[int]:
    """Return the seeds that a person wrote: `16`, `100:116` or `3,5,8`.

    Raises:
        ValueError: When it is none of these, or no seed at all.

    >>> parse_seeds("3"), parse_seeds("10:12"), parse_seeds("7,")
    (range(0, 3), range(10, 12), [7])
    """
    instead = "Write 16 for seeds 0 to 15, 100:116 for a range, 3,5,8 for a list."
    try:
        if "," in text:
            return [int(word) for word in text.split(",") if word.strip()]
        if ":" in text:
            begin, end = text.split(":")
            seeds = range(int(begin), int(end))
        else:
            seeds = range(int(text))
    except ValueError:
        require(False, function, "--seeds", "be a number, a range or a list", text, instead)
    require(len(seeds) > 0, function, "--seeds", "name at least one seed", text, instead)
    return seeds


def parse_count(name: str, text: str) -> int:
    """Return a number as people write it: `500000`, `500_000`, `5e5`, `500k`, `1.5M`.

    Raises:
        ValueError: When it is none, or not a whole one.

    >>> parse_count("--steps", "1e6"), parse_count("--steps", "1.5k")
    (1000000, 1500)
    """
    sizes = {"k": 10**3, "M": 10**6, "G": 10**9}
    size = sizes.get(text[-1:], 1)
    instead = "Write 500000, 5e5 or 500k."
    try:
        number = Decimal(text[:-1] if size > 1 else text) * size
        whole = number == int(number)
    except (ArithmeticError, ValueError):
        whole = False
    require(whole, "train", name, "be a whole number", text, instead)
    require(abs(number) < 10**18, "train", name, "be below 1e18", text)
    return int(number)
