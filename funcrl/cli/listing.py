"""`funcrl list`."""

from __future__ import annotations

import sys

from funcrl import algos, envs
from funcrl.core.checks import require


def list_command(words: list[str]) -> int:
    """Print the algorithms and environments, a line each."""
    if words in (["-h"], ["--help"]):
        print("usage: funcrl list\n\nName the algorithms and environments that funcrl train takes.")
        return 0
    require(not words, "list", "arguments", "be absent", " ".join(words), "Write funcrl list.")
    print("algorithms")
    for name, module in sorted(algos.REGISTRY.items()):
        print(f"  {name:<16}{_first_sentence(module.__doc__)}")
    print("\nenvironments")
    for name, entry in sorted(envs.REGISTRY.items()):
        made = envs.make(name)
        spaces = f"{made.observation_space} -> {made.action_space}"
        print(f"  {name:<16}{_first_sentence(sys.modules[entry.cls.__module__].__doc__)}\n  {'':<16}{spaces}")
    return 0


def _first_sentence(doc: str | None) -> str:
    return " ".join((doc or "").split("\n\n")[0].split())
