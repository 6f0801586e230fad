"""Expected SARSA: the values of the policy that is followed, without the chance of its next action.

Van Seijen et al. 2009, "A theoretical and empirical analysis of expected Sarsa"; the equation as in
Sutton & Barto 2018, section 6.6.

    Q(S, A) ← Q(S, A) + α [R + γ Σ_a π(a | S') Q(S', a) - Q(S, A)]                            (6.9)

Where the step terminated there is no S' to add; where it was truncated there is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.algos.tabular import agent
from funcrl.algos.tabular.agent import DEFAULT_STEPS, LEARNT, METRICS, Settings, State, act, greedy
from funcrl.core import Transition, tree

__all__ = ["DEFAULT_STEPS", "LEARNT", "LOOP", "METRICS", "Config", "State", "act", "greedy", "init", "update"]

LOOP = "online"


@tree.struct
class Config(Settings):
    """Settings of expected SARSA."""


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent, see `agent.begin`."""
    return agent.begin("expected_sarsa.init", key, config, env)


def update(state: State, batch: Transition) -> State:
    """Learn from one step, (6.9)."""
    expected = agent.expected_value(state, state.values[batch.next_obs])
    goal = batch.reward + state.config.gamma * torch.where(batch.terminated, 0.0, expected)
    rate = agent.learning_rate(state)
    values, error = agent.learn(state.values, (batch.obs, batch.action), goal, rate)
    return agent.end_update(state, values, state.memory, error)
