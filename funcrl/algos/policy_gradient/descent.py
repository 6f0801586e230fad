"""Gradient steps, and what losses of policies and values have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from funcrl import optim
from funcrl.algos import progress
from funcrl.algos.policy_gradient import agent
from funcrl.algos.policy_gradient.agent import Figures, Params, State
from funcrl.core import checks, collective, tree
from funcrl.optim import descending

S = TypeVar("S", bound=State)


def normalized(advantage: Tensor) -> Tensor:
    """Return advantages with mean 0 and standard deviation 1.

    >>> normalized(torch.tensor([1.0, 3.0]))
    tensor([-1.,  1.])
    """
    if collective.parts() == 1:
        return (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
    # Of all parts of the minibatch, of which this is one.
    centred = advantage - collective.mean(advantage.mean())
    return centred / (torch.sqrt(collective.mean((centred**2).mean())) + 1e-8)


def divergence(log_ratio: Tensor) -> Tensor:
    """Return KL[π_old, π] by actions of π_old: E[(r - 1) - log r], unbiased and never negative.

    Source: Schulman 2020, "Approximating KL divergence".
    Often wrong: E[-log r], unbiased too, but negative for many a minibatch.

    Args:
        log_ratio: `[...]` log r = log π(a | s) - log π_old(a | s).

    Returns:
        `[]`.

    >>> divergence(torch.zeros(1))
    tensor(0.)
    """
    return (torch.expm1(log_ratio) - log_ratio).mean()


def check_rows(function: str, batch: Any, names: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Check that a batch holds one number for each action: other shapes would be stretched to one another.

    Raises:
        ValueError: When a field has another shape.
    """
    for name in names:
        found = tuple(getattr(batch, name).shape)
        hold = f"have one number for each action, shape {shape}"
        checks.require(found == shape, function, f"batch.{name}", hold, found)


def adam(config: Any, rate: float | Tensor) -> optim.Optimizer:
    """Return Adam behind a clipped gradient, by the settings' `max_grad_norm` and `adam_epsilon`."""
    clipped = optim.clip_by_global_norm(config.max_grad_norm)
    return optim.chain(clipped, optim.adam(rate, epsilon=config.adam_epsilon))


def rmsprop(config: Any, rate: float | Tensor) -> optim.Optimizer:
    """Return RMSProp behind a clipped gradient, by the settings' `max_grad_norm`, `rms_decay` and `rms_epsilon`."""
    clipped = optim.clip_by_global_norm(config.max_grad_norm)
    return optim.chain(clipped, optim.rmsprop(rate, config.rms_decay, config.rms_epsilon))


def descend(
    state: S,
    batch: Any,
    loss: Callable[[Params, S, Any], tuple[Tensor, Figures]],
    optimizer: Callable[[Any, Any], optim.Optimizer],
) -> S:
    """Take one gradient step, with the learning rate of now.

    Args:
        state: The agent before.
        batch: What it learns from.
        loss: From θ, the agent and the batch to what is to be made small, `[]`, and to figures of it.
        optimizer: From settings and a learning rate to what descends, as in `begin`.

    Returns:
        The agent after; its metrics are the figures, `grad_norm` and `learning_rate`.
    """
    rate, learner = progress.learning_rate(state.step, state.config), agent.learner(state)
    descends = optimizer(state.config, rate)
    after = descending.step(
        lambda params: loss(params, learner, batch), learner.params, descends, state.optimizer, state.rates
    )
    return tree.replace(
        state,
        params=descending.having_seen(after.params, agent.observed(learner, batch), state.rates),
        optimizer=after.optimizer,
        step=state.step + 1,
        metrics=after.beside | {"grad_norm": after.grad_norm, "learning_rate": rate},
    )
