"""From action values to the probabilities with which a policy takes actions, ties shared equally."""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.core import random


def greedy_probabilities(values: Tensor) -> Tensor:
    """Return the policy that takes a best action, each of several best ones equally often.

    Often wrong: taking the first of several best actions, which explores one direction only as long
    as all values are equal.

    Args:
        values: `[..., A]` action values.

    Returns:
        `[..., A]` probabilities.

    >>> greedy_probabilities(torch.tensor([1.0, 2.0, 2.0]))
    tensor([0.0000, 0.5000, 0.5000])
    """
    best = (values == values.amax(dim=-1, keepdim=True)).to(values.dtype)
    return best / best.sum(dim=-1, keepdim=True)


def epsilon_greedy(values: Tensor, epsilon: float | Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the ε-greedy policy: any valid action with probability ε, a best one otherwise.

    π(a) = ε / A + (1 - ε) · [a is best] / number of best actions

    Source: Sutton & Barto 2018, section 2.2.
    Often wrong: never exploring the best action, which then has 1 - ε instead of 1 - ε + ε / A.

    Args:
        values: `[..., A]` action values.
        epsilon: ε in [0, 1].
        valid: `[..., A]` boolean, at least one; all by default. Others have the value -inf.

    Returns:
        `[..., A]` probabilities.

    >>> epsilon_greedy(torch.tensor([1.0, 2.0]), 0.5)
    tensor([0.2500, 0.7500])
    """
    if valid is not None:
        share = valid.to(values.dtype) / valid.sum(dim=-1, keepdim=True)
        return epsilon * share + (1.0 - epsilon) * greedy_probabilities(values)
    return epsilon / values.shape[-1] + (1.0 - epsilon) * greedy_probabilities(values)


def boltzmann(values: Tensor, temperature: float | Tensor) -> Tensor:
    """Return the Boltzmann policy, π(a) ∝ exp(Q(a) / β).

    Source: Sutton & Barto 2018, section 13.1 (soft-max in action preferences), with Q / β for the
    preferences.

    Args:
        values: `[..., A]` action values Q.
        temperature: β > 0; towards 0 the policy becomes greedy, towards infinity uniform.

    Returns:
        `[..., A]` probabilities.

    >>> boltzmann(torch.tensor([0.0, 0.0]), 1.0)
    tensor([0.5000, 0.5000])
    """
    # The best action's share is exp(0) for every β, however small.
    return torch.softmax((values - values.amax(dim=-1, keepdim=True)) / temperature, dim=-1)


def sample(key: Tensor, probabilities: Tensor) -> Tensor:
    """Return actions drawn with the given probabilities; one of probability 0 is never drawn.

    Args:
        key: `[2]` int32.
        probabilities: `[..., A]`, each row sums to one.

    Returns:
        `[...]` int64.

    >>> sample(random.key(0), torch.tensor([0.0, 1.0]))
    tensor(1)
    """
    return random.categorical(key, torch.log(probabilities))
