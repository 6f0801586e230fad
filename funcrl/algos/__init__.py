"""Algorithms: one paper a file, each a module with the same few pure functions."""

from types import ModuleType

from funcrl.algos import ppo
from funcrl.algos.tabular import (
    double_q_learning,
    dyna_q,
    expected_sarsa,
    n_step_sarsa,
    q_learning,
    sarsa,
)

_MODULES = (ppo, double_q_learning, dyna_q, expected_sarsa, n_step_sarsa, q_learning, sarsa)

REGISTRY: dict[str, ModuleType] = {module.__name__.rpartition(".")[2]: module for module in _MODULES}
"""Algorithms by name; a new one needs one line here and inherits the command line and the tests."""

__all__ = [
    "REGISTRY",
    "double_q_learning",
    "dyna_q",
    "expected_sarsa",
    "n_step_sarsa",
    "ppo",
    "q_learning",
    "sarsa",
]
