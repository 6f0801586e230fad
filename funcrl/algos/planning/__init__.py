"""Planning: what to do in a Markov decision process whose tables are known.

A planner is an algorithm like any other. What its `update` learns from is not a batch of experience
but the process itself, an `Mdp`; `funcrl.train.solve` repeats it until it has converged.
"""

from types import ModuleType

from funcrl.algos.planning import (
    bellman,
    modified_policy_iteration,
    policy_evaluation,
    policy_iteration,
    value_iteration,
)
from funcrl.algos.planning.mdp import Mdp

REGISTRY: dict[str, ModuleType] = {
    "modified_policy_iteration": modified_policy_iteration,
    "policy_evaluation": policy_evaluation,
    "policy_iteration": policy_iteration,
    "value_iteration": value_iteration,
}
"""Planners by name."""

__all__ = [
    "REGISTRY",
    "Mdp",
    "bellman",
    "modified_policy_iteration",
    "policy_evaluation",
    "policy_iteration",
    "value_iteration",
]
