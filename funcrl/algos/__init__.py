"""Algorithms: one paper a file, each a module with the same few pure functions."""

from types import ModuleType

from funcrl.algos import ppo
from funcrl.algos.bandits import (
    boltzmann,
    decaying_epsilon,
    epsilon_greedy,
    gradient_bandit,
    linucb,
    neural_epsilon_greedy,
    neural_thompson,
    optimistic,
    thompson_beta,
    thompson_gaussian,
    ucb,
)
from funcrl.algos.tabular import (
    double_q_learning,
    dyna_q,
    expected_sarsa,
    n_step_sarsa,
    q_learning,
    sarsa,
)

_BANDITS = (
    boltzmann,
    decaying_epsilon,
    epsilon_greedy,
    gradient_bandit,
    linucb,
    neural_epsilon_greedy,
    neural_thompson,
    optimistic,
    thompson_beta,
    thompson_gaussian,
    ucb,
)
_TABULAR = (double_q_learning, dyna_q, expected_sarsa, n_step_sarsa, q_learning, sarsa)

REGISTRY: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module for module in (*_BANDITS, *_TABULAR, ppo)
}
"""Algorithms by name; a new one needs one line here and inherits the command line and the tests."""

__all__ = [
    "REGISTRY",
    "boltzmann",
    "decaying_epsilon",
    "double_q_learning",
    "dyna_q",
    "epsilon_greedy",
    "expected_sarsa",
    "gradient_bandit",
    "linucb",
    "n_step_sarsa",
    "neural_epsilon_greedy",
    "neural_thompson",
    "optimistic",
    "ppo",
    "q_learning",
    "sarsa",
    "thompson_beta",
    "thompson_gaussian",
    "ucb",
]
