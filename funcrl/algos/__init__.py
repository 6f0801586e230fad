"""Algorithms: one paper a file, each a module with the same few pure functions."""

from types import ModuleType

from funcrl.algos import ppo

REGISTRY: dict[str, ModuleType] = {"ppo": ppo}
"""Algorithms by name; a new one needs one line here and inherits the command line and the tests."""

__all__ = ["REGISTRY", "ppo"]
