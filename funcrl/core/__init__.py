"""Pytrees, keys, compilation and checks: what everything else stands on."""

from funcrl.core import checks, jit, loops, random, tree
from funcrl.core.data import TimeStep, Transition

__all__ = ["TimeStep", "Transition", "checks", "jit", "loops", "random", "tree"]
