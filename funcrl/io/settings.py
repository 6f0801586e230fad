"""Settings of a run: what `config.json` says, written and read."""

from __future__ import annotations

import dataclasses
import json
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import funcrl
from funcrl.core.checks import require
from funcrl.io.folders import SHARDS
from funcrl.train import Plan


def describe(
    command: str,
    words: list[str],
    name: str,
    env: tuple[str, dict[str, Any], tuple[str, ...]],
    config: Any,
    plan: Plan,
    track: Sequence[str] = (),
) -> dict[str, Any]:
    """Return everything that is needed to run a command again.

    Args:
        command: `"train"`.
        words: What stood behind it.
        name: Of the algorithm.
        env: Name of the environment, its fields that were changed, and wrappers.
        config: Settings of the algorithm.
        plan: What is done.
        track: Names of trackers.
    """
    return {
        "command": shlex.join(["funcrl", command, *words]),
        "algorithm": name,
        "environment": env[0],
        "track": list(track),
        "env": env[1],
        "wrappers": list(env[2]),
        "placement": plan.placement,
        "config": {field.name: getattr(config, field.name) for field in dataclasses.fields(config)},
        "seeds": list(plan.seeds),
        "num_steps": plan.num_steps,
        "asked_steps": plan.asked_steps,
        "evaluate_every": plan.evaluate_every,
        "evaluation_episodes": plan.num_episodes,
        "lanes_per_group": plan.lanes_per_group,
        "processes": plan.processes,
        "device": str(plan.device),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return what a run was made with."""
    return {
        "funcrl": funcrl.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def run_folder(path: Path) -> Path:
    """Return the folder of a run from itself, or from its `config.json`."""
    return path.parent if path.name == "config.json" and path.is_file() else path


def read_json(folder: Path, function: str = "open_run") -> dict[str, Any]:
    """Return what the `config.json` in a folder says, whatever that is.

    Raises:
        FileNotFoundError: When there is none.
        ValueError: When it is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        instead = ""
        if (folder / SHARDS).is_dir():
            instead = (
                f" Ranks share out the run in it and are not done: funcrl resume {folder} goes on with it."
            )
        raise FileNotFoundError(
            f"{function}: {folder} must be the folder of a run, got one without config.json.{instead}"
        )
    return read_json_file(path, function, "be the settings of a run of funcrl train")


def read_json_file(path: Path, function: str, hold: str = "hold a JSON object") -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ValueError: When there is none in it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    require(isinstance(found, dict), function, str(path), hold, "no JSON object")
    return found  # type: ignore[no-any-return]


def read_settings(folder: Path) -> dict[str, Any]:
    """Return what the `config.json` in the folder of a run, or of a sweep, says.

    Raises:
        FileNotFoundError: When there is none.
        ValueError: When it is damaged, or no run's.
    """
    path, settings = folder / "config.json", read_json(folder)
    if "data" in settings:
        hold, instead = "hold agents of an environment", "Write funcrl.io.open_fit(folder), in Python."
        require(False, "open_run", str(folder), hold, f"what {settings.get('algorithm')} learnt", instead)
    names = {
        "algorithm": str,
        "environment": str,
        "config": dict,
        "seeds": list,
        "num_steps": int,
        "asked_steps": int,
        "device": str,
        "lanes_per_group": int,
        "processes": int,
    }
    hold = "be the settings of a run of funcrl train"
    wrong = [name for name, kind in names.items() if not isinstance(settings.get(name), kind)]
    wrappers = settings.get("wrappers", [])
    words = isinstance(wrappers, list) and all(isinstance(word, str) for word in wrappers)
    wrong += [] if words else ["wrappers"]
    seeds = settings.get("seeds")
    whole = isinstance(seeds, list) and all(type(seed) is int for seed in seeds)
    wrong += [] if whole or "seeds" in wrong else ["seeds"]
    wrong += [] if isinstance(settings.get("env", {}), dict) else ["env"]
    require(not wrong, "open_run", str(path), hold, f"no good value of {', '.join(wrong)}")
    return settings


def check_is_one_run(function: str, folder: Path, settings: dict[str, Any]) -> None:
    """Check that a folder holds one run, not a sweep nor a part of one.

    Raises:
        ValueError: When it does not.
    """
    if "shard" in settings:
        whole = folder.parent.parent
        instead = f"Write funcrl resume {whole}, to put them together."
        require(False, function, "folder", "hold one run", f"a part of the one in {whole}", instead)
    if "search" in settings:
        instead = f"Go on with it: {settings.get('command')} --out {folder}"
        require(False, function, "folder", "hold one run", f"the search in {folder}", instead)
    if "program" in settings:
        whole = folder.parent.parent
        require(
            False, function, "folder", "hold one run", f"a part of the sweep in {whole}", f"Write {whole}."
        )
    done = (folder / "sweep.csv").exists()
    instead = f"Its table is {folder / 'sweep.csv'}." if done else f"Go on with it: funcrl resume {folder}"
    require("over" not in settings, function, "folder", "hold one run", f"the sweep in {folder}", instead)


def settings_from(function: str, kind: type[Any], values: Any) -> Any:
    """Return settings of an algorithm from what JSON holds of them.

    Args:
        function: Who complains.
        kind: The algorithm's `Config`.
        values: A dict of JSON; fields that are not there have their defaults.

    Raises:
        ValueError: When a field is unknown, or a value cannot be.
        TypeError: When a value is of another kind.
    """
    require(isinstance(values, dict), function, "config", "be settings by name", values)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(set(values) - set(fields))
    require(not unknown, function, "config", f"hold settings of {kind.__module__}.Config", unknown)
    return kind(**{name: _read(function, name, fields[name], value) for name, value in values.items()})


def _read(function: str, name: str, field: Any, value: Any) -> Any:
    is_float = field.type in ("float", float)
    several = isinstance(value, list)
    if not is_float or isinstance(value, bool):
        return tuple(value) if several else value
    try:
        return [float(x) for x in value] if several else float(value)
    except (TypeError, ValueError):
        require(False, function, f"config.{name}", "be a number, or one a lane", value)
