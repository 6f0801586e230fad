"""What all planners do alike: how they begin, and how they act on the policy they have found."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from funcrl.algos import beginning
from funcrl.core.checks import require
from funcrl.ops import exploration


class Planned(Protocol):
    """A state with a policy."""

    @property
    def policy(self) -> Tensor:
        """`[S, A]` π(a | s)."""


def act(state: Planned, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an action from the policy: each of several best ones equally often.

    Args:
        state: The planner.
        obs: `[]` number of a state, or `[B]` several.
        key: `[2]` int32.

    Returns:
        `[]` or `[B]` int64 action, and nothing beside it.
    """
    return exploration.sample(key, state.policy[obs]), {}


def greedy(state: Planned, obs: Tensor) -> Tensor:
    """Return the most probable action, the first of several.

    Args:
        state: The planner.
        obs: `[]` number of a state, or `[B]` several.

    Returns:
        `[]` or `[B]` int64.
    """
    return state.policy[obs].argmax(dim=-1)


def sizes(function: str, env: Any) -> tuple[int, int]:
    """Return the number of states and of actions.

    Args:
        function: Who complains.
        env: An `Mdp`, or anything else whose two spaces are Discrete.

    Raises:
        ValueError: When a space is not.
    """
    instead = "A planner needs finitely many states and actions."
    num_states, num_actions = (
        beginning.count(function, env, name, instead) for name in ("observation_space", "action_space")
    )
    return num_states, num_actions


def uniform_policy(num_states: int, num_actions: int, device: torch.device) -> Tensor:
    """Return the policy that takes every action equally often, `[S, A]`."""
    return torch.full((num_states, num_actions), 1 / num_actions, dtype=torch.float64, device=device)


def first_policy(
    function: str, policy: Tensor | None, num_states: int, num_actions: int, device: torch.device
) -> Tensor:
    """Return the policy that a planner is given, or the uniform one.

    Raises:
        ValueError: When it has another shape than `[S, A]`.
    """
    if policy is None:
        return uniform_policy(num_states, num_actions, device)
    hold = f"have the shape {[num_states, num_actions]}, one row of probabilities a state"
    fits = tuple(policy.shape) == (num_states, num_actions)
    require(fits, function, "policy", hold, list(policy.shape))
    return policy.to(dtype=torch.float64, device=device)
