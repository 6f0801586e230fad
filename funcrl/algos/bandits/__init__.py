"""Algorithms for K-armed bandits, one idea a file: each chooses arms and learns from every pull."""

from funcrl.algos.bandits import (
    boltzmann,
    decaying_epsilon,
    epsilon_greedy,
    gradient_bandit,
    optimistic,
    thompson_beta,
    thompson_gaussian,
    ucb,
)

__all__ = [
    "boltzmann",
    "decaying_epsilon",
    "epsilon_greedy",
    "gradient_bandit",
    "optimistic",
    "thompson_beta",
    "thompson_gaussian",
    "ucb",
]
