"""What the commands that run an algorithm on an environment share: reading their words, naming their folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from funcrl.io import free_folder


def parse(
    command: str, described: str, environments: str, config: Any, options: type[Any], words: list[str]
) -> tuple[str, Any, Any]:
    """Return environment, settings and options that a person wrote; ends the process where it cannot.

    Args:
        command: `"train ppo"`.
        described: What it does, for its help.
        environments: Which there are, likewise.
        config: The algorithm's settings where nothing else is said.
        options: Dataclass of what the command takes beside them.
        words: What stands after the command.
    """
    import tyro

    environment = Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar="ENVIRONMENT", help=environments)
    ]
    arguments = dataclasses.make_dataclass(
        "Arguments",
        [
            ("environment", environment),
            ("options", options, dataclasses.field(default_factory=options)),
            ("config", type(config), dataclasses.field(default_factory=lambda: config)),
        ],
    )
    parsed: Any = tyro.cli(
        arguments,
        args=words,
        prog=f"funcrl {command}",
        description=described,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands, tyro.conf.SuppressFixed),
    )
    return parsed.environment, parsed.config, parsed.options


def default_folder(name: str, env_name: str) -> Path:
    """Return the folder for an algorithm on an environment, the first that is free."""
    plain_name = env_name.replace("/", "-").replace(":", "-")
    return free_folder(Path("runs") / f"{name}-{plain_name}")
