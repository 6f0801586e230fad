"""`funcrl list`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from gymnasium.spaces import Box

from funcrl import algos, data, envs, supervised
from funcrl.algos import planning
from funcrl.core.checks import require

_USAGE = """\
usage: funcrl list [--json]

Name algorithms, environments and data that funcrl train and plan take.

options:
  --json   for programs: names, what they are, and the spaces and settings of environments
"""

_TITLES = {
    "train": "algorithms for funcrl train",
    "plan": "algorithms for funcrl plan",
    "images": "algorithms for funcrl train, that learn from images",
}


def list_command(words: list[str]) -> int:
    """Print the algorithms and environments, a line each or as JSON."""
    if words in (["-h"], ["--help"]):
        print(_USAGE, end="")
        return 0
    hold, instead = "be absent or --json", "Write funcrl list."
    require(words in ([], ["--json"]), "list", "arguments", hold, " ".join(words), instead)
    found = contents()
    print(json.dumps(found, indent=2) if words else "\n".join(_lines(found)))
    return 0


def contents() -> dict[str, list[dict[str, Any]]]:
    """Return what there is: algorithms, images, formats of folders with images, and environments.

    >>> [one["name"] for one in contents()["environments"]][0]
    'Acrobot-v1'
    """
    kinds = {"train": algos.REGISTRY, "plan": planning.REGISTRY, "images": supervised.ALGORITHMS}
    algorithms = [
        {"name": name, "kind": kind, "what": _first_sentence(module.__doc__)}
        for kind, registry in kinds.items()
        for name, module in sorted(registry.items())
    ]
    images = [
        {"name": name, "what": _first_sentence(function.__doc__).removeprefix("Return ")}
        for name, function in data.NAMES.items()
    ]
    return {
        "algorithms": algorithms,
        "images": images,
        "formats": [{"name": name, "what": what} for name, what in data.FORMATS.items()],
        "environments": [_environment(name) for name in sorted(envs.REGISTRY)],
    }


def _environment(name: str) -> dict[str, Any]:
    entry, made = envs.REGISTRY[name], envs.make(name)
    what = _first_sentence(sys.modules[entry.cls.__module__].__doc__).partition(": ")[2]
    short = [short for short, full in envs.ALIASES.items() if full == name]
    return {
        "name": name,
        "short_names": short,
        "what": f"{what[:1].upper()}{what[1:]}",
        "observation_space": _short(made.observation_space),
        "action_space": _short(made.action_space),
        "max_episode_steps": made.max_episode_steps,
        "changes": {field: str(value) for field, value in entry.params.items()},
    }


def _lines(found: dict[str, list[dict[str, Any]]]) -> Iterable[str]:
    for kind, title in _TITLES.items():
        yield title
        yield from _table(one for one in found["algorithms"] if one["kind"] == kind)
        yield ""
    yield "images to learn from"
    yield from _table(found["images"])
    yield "  or a folder, told by what lies in it"
    yield from _table(found["formats"])
    yield ""
    yield "environments on the device"
    for one in found["environments"]:
        changed = [f"{field}={value}" for field, value in one["changes"].items()]
        changed = [text for text in changed if len(text) < 30]
        what = f"{one['what']} ({', '.join(changed)})" if changed else one["what"]
        yield f"  {', '.join([one['name'], *one['short_names']]):<30}{what}"
        yield f"  {'':<30}{one['observation_space']} -> {one['action_space']}"
    yield "\nAny other name that Gymnasium knows runs on the host: LunarLander-v3, HalfCheetah-v5, …"


def _table(rows: Iterable[dict[str, Any]]) -> Iterable[str]:
    yield from (f"  {one['name']:<26}{one['what']}" for one in rows)


def _short(space: Any) -> str:
    """Return a space's kind and size, without its bounds."""
    if isinstance(space, Box):
        return f"Box[{', '.join(map(str, space.shape))}]"
    return str(space)


def _first_sentence(doc: str | None) -> str:
    return " ".join((doc or "").split("\n\n")[0].split())
