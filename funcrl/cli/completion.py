"""`funcrl completion`: what shells need to complete the words of the other commands."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from collections.abc import Iterable
from typing import Any

from funcrl import algos, data, envs, supervised
from funcrl.algos import planning
from funcrl.core import checks

_USAGE = """\
usage: funcrl completion SHELL

Print a script that lets a shell complete commands, names and options: bash, zsh or tcsh.

  bash: funcrl completion bash >> ~/.bash_completion
  zsh:  funcrl completion zsh > ~/.zsh/_funcrl, where ~/.zsh is one of the folders in $fpath
"""

_FOLDERS = ("resume", "watch", "evaluate", "extract", "export", "compare")
"""Commands that are given folders."""


def completion_command(words: list[str]) -> int:
    """Print the script."""
    import shtab

    if not words or words in (["-h"], ["--help"]):
        print(_USAGE, end="")
        return 0 if words else 2
    checks.require(len(words) == 1, "completion", "arguments", "be one shell", " ".join(words))
    checks.known("completion", "shell", words[0], shtab.SUPPORTED_SHELLS)
    print(shtab.complete(parser(), words[0]))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return a parser that knows all words of the command line, though not what they mean.

    Each has a help, without which it would not be offered.
    """
    top = argparse.ArgumentParser("funcrl")
    commands = top.add_subparsers()
    environments = sorted({*envs.REGISTRY, *envs.ALIASES})
    for command in ("train", "sweep"):
        options = _fields(f"funcrl.cli.{command}", "Options")
        algorithms = commands.add_parser(command, help=command).add_subparsers()
        for name, module in sorted(algos.REGISTRY.items()):
            one = algorithms.add_parser(name, help=name)
            one.add_argument("environment", choices=environments)
            _add(one, [*options, *dataclasses.fields(module.Config)])
        if command == "train":
            for name, module in supervised.ALGORITHMS.items():
                one = algorithms.add_parser(name, help=name)
                one.add_argument("data", choices=list(data.NAMES))
                _add(one, [*_fields("funcrl.cli.fit", "Options"), *dataclasses.fields(module.Config)])
    plans = commands.add_parser("plan", help="plan").add_subparsers()
    for name, module in planning.REGISTRY.items():
        one = plans.add_parser(name, help=name)
        one.add_argument("environment", choices=environments)
        _add(one, [*_fields("funcrl.cli.plan", "Options"), *dataclasses.fields(module.Config)])
    searches = commands.add_parser("search", help="search").add_subparsers()
    for how in ("pbt", "optuna"):
        one = searches.add_parser(how, help=how)
        one.add_argument("algorithm", choices=sorted(algos.REGISTRY))
        one.add_argument("environment", choices=environments)
        _add(one, _fields("funcrl.cli.search", {"pbt": "PopulationOptions", "optuna": "OptunaOptions"}[how]))
    for command in _FOLDERS:
        one = commands.add_parser(command, help=command)
        _as_file(one.add_argument("folder", nargs="*"))
        _add(one, _fields(f"funcrl.cli.{command}", "Options"))
    served = commands.add_parser("serve", help="serve")
    _as_file(served.add_argument("policy"))
    _add(served, _fields("funcrl.cli.serve", "Options"))
    commands.add_parser("list", help="list").add_argument("--json", action="store_true")
    commands.add_parser("completion", help="completion").add_argument(
        "shell", choices=["bash", "zsh", "tcsh"]
    )
    return top


def _fields(module: str, name: str) -> tuple[dataclasses.Field[Any], ...]:
    """Return the options of a command, from the module that has them."""
    return dataclasses.fields(getattr(importlib.import_module(module), name))


def _add(parser: argparse.ArgumentParser, fields: Iterable[dataclasses.Field[Any]]) -> None:
    """Let a parser know options, and that some name files."""
    for field in fields:
        flag = f"--{field.name.replace('_', '-')}"
        if flag in parser._option_string_actions:
            continue
        if isinstance(field.default, bool):
            parser.add_argument(flag, f"--no-{flag[2:]}", action="store_true")
        else:
            option = parser.add_argument(flag)
            if "Path" in str(field.type):
                _as_file(option)


def _as_file(argument: argparse.Action) -> None:
    import shtab

    argument.complete = shtab.FILE  # type: ignore[attr-defined]
