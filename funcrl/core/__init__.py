"""Pytrees, keys, compilation and checks: what everything else stands on."""

from funcrl.core import checks, jit, loops, random, tree
from funcrl.core.data import ReplayBatch, TimeStep, Transition

__all__ = ["ReplayBatch", "TimeStep", "Transition", "checks", "jit", "loops", "random", "tree"]
