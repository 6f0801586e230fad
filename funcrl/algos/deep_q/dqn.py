"""DQN: Q-learning with a deep network, replayed experience and a target network.

Mnih et al. 2015, "Human-level control through deep reinforcement learning", Nature 518.

    y = r + γ max_a' Q(s', a'; θ⁻)                                                             (1)
    L(θ) = E[(y - Q(s, a; θ))²]                                                                (2)

(Numbered here; the paper does not.) Where a step terminated, y = r; where a time limit cut it off, y
bootstraps as anywhere else. With n-step replay, r is Σ_{k<m} γᵏ r_{t+k} and γ is γᵐ, for the m ≤ n steps until the
episode ends.

Departures from the paper, those of the reference results (Huang et al. 2022, CleanRL): Adam in the
place of RMSProp, perceptrons for observations that are no images, and the squared loss as (2) has
it; `huber_threshold=1` clips the error as the paper's methods describe.
"""

from __future__ import annotations

from torch import Tensor

from funcrl.algos.deep_q import agent
from funcrl.algos.deep_q.agent import LEARNT, METRICS, State, act, greedy
from funcrl.algos.deep_q.settings import SHARES_OF_THE_RUN, ErrorSettings
from funcrl.core import ReplayBatch, tree

__all__ = [
    "LEARNT",
    "LOOP",
    "METRICS",
    "SHARES_OF_THE_RUN",
    "Config",
    "State",
    "act",
    "greedy",
    "init",
    "target",
    "update",
]

LOOP = "off_policy"


@tree.struct
class Config(ErrorSettings):
    """Settings of DQN."""


def target(reward: Tensor, discount: Tensor, next_values: Tensor) -> Tensor:
    """(1): r + γ max_a' Q(s', a'; θ⁻).

    Args:
        reward: `[B]`.
        discount: `[B]` γ, and 0 where the episode terminated.
        next_values: `[B, A]` Q(s', ·; θ⁻).

    Returns:
        `[B]`.

    >>> import torch
    >>> target(torch.ones(1), torch.tensor([0.5]), torch.tensor([[2.0, 4.0]]))
    tensor([3.])
    """
    return reward + discount * next_values.amax(dim=-1)


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    return agent.begin("dqn.init", key, config, env)


def update(state: State, batch: ReplayBatch) -> State:
    """Take one gradient step on (2)."""
    agent.check_batch("dqn.update", state, batch)
    next_values = agent.values(state, state.target_params, batch.next_obs)
    goal = target(batch.reward, batch.discount, next_values)
    return agent.descend_towards(state, batch, goal)
