"""Q-learning: the values of the best policy, learnt while following another.

Watkins 1989, "Learning from delayed rewards"; the equation as in Sutton & Barto 2018, section 6.5.

    Q(S, A) ← Q(S, A) + α [R + γ max_a Q(S', a) - Q(S, A)]                                    (6.8)

Where the step terminated there is no S' to add; where it was truncated there is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.algos.tabular import agent
from funcrl.algos.tabular.agent import DEFAULT_STEPS, LEARNT, METRICS, Settings, State, act, greedy
from funcrl.core import Transition, tree

__all__ = [
    "DEFAULT_STEPS",
    "LEARNT",
    "LOOP",
    "METRICS",
    "Config",
    "State",
    "act",
    "greedy",
    "init",
    "target",
    "update",
]

LOOP = "online"


@tree.struct
class Config(Settings):
    """Settings of Q-learning."""


def target(next_values: Tensor, reward: Tensor, terminated: Tensor, gamma: Tensor) -> Tensor:
    """(6.8): R + γ max_a Q(S', a), without the second term where the episode terminated.

    Args:
        next_values: `[A]` Q(S', ·).
        reward: `[]`.
        terminated: `[]` boolean.
        gamma: `[]` γ.

    Returns:
        `[]`.

    >>> target(torch.tensor([1.0, 4.0]), torch.tensor(-1.0), torch.tensor(False), torch.tensor(0.5))
    tensor(1.)
    """
    return reward + gamma * torch.where(terminated, 0.0, next_values.amax(dim=-1))


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent, see `agent.begin`."""
    return agent.begin("q_learning.init", key, config, env)


def update(state: State, batch: Transition) -> State:
    """Learn from one step, (6.8)."""
    goal = target(state.values[batch.next_obs], batch.reward, batch.terminated, state.config.gamma)
    rate = agent.learning_rate(state)
    values, error = agent.learn(state.values, (batch.obs, batch.action), goal, rate)
    return agent.end_update(state, values, state.memory, error)
