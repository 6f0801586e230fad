"""`funcrl list`."""

from __future__ import annotations

import sys
from typing import Any

from gymnasium.spaces import Box

from funcrl import algos, data, envs, supervised
from funcrl.algos import planning
from funcrl.core.checks import require


def list_command(words: list[str]) -> int:
    """Print the algorithms and environments, a line each."""
    if words in (["-h"], ["--help"]):
        print("usage: funcrl list\n\nName algorithms, environments and data that funcrl train and plan take.")
        return 0
    require(not words, "list", "arguments", "be absent", " ".join(words), "Write funcrl list.")
    kinds = {
        "train": algos.REGISTRY,
        "plan": planning.REGISTRY,
        "train, that learn from images": supervised.ALGORITHMS,
    }
    for title, registry in kinds.items():
        print(f"algorithms for funcrl {title}")
        for name, module in sorted(registry.items()):
            print(f"  {name:<26}{_first_sentence(module.__doc__)}")
        print()
    print("images to learn from")
    for name, function in data.NAMES.items():
        print(f"  {name:<26}{_first_sentence(function.__doc__).removeprefix('Return ')}")
    print("  or a folder, told by what lies in it")
    for name, what in data.FORMATS.items():
        print(f"  {name:<26}{what}")
    print()
    short = {full: f", {short}" for short, full in envs.ALIASES.items()}
    print("environments on the device")
    for name, entry in sorted(envs.REGISTRY.items()):
        made = envs.make(name)
        what = _first_sentence(sys.modules[entry.cls.__module__].__doc__).partition(": ")[2]
        spaces = f"{_short(made.observation_space)} -> {_short(made.action_space)}"
        changed = [f"{field}={value}" for field, value in entry.params.items()]
        changed = [text for text in changed if len(text) < 30]
        what = f"{what} ({', '.join(changed)})" if changed else what
        print(f"  {name + short.get(name, ''):<30}{what[:1].upper()}{what[1:]}\n  {'':<30}{spaces}")
    print("\nAny other name that Gymnasium knows runs on the host: LunarLander-v3, HalfCheetah-v5, …")
    return 0


def _short(space: Any) -> str:
    """Return a space's kind and size, without its bounds."""
    if isinstance(space, Box):
        return f"Box[{', '.join(map(str, space.shape))}]"
    return str(space)


def _first_sentence(doc: str | None) -> str:
    return " ".join((doc or "").split("\n\n")[0].split())
