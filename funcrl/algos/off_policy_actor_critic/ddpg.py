"""DDPG: Q-learning for real actions, with an actor for the maximum.

Lillicrap et al. 2016, "Continuous control with deep reinforcement learning", arXiv 1509.02971, algorithm 1.

    y = r + γ Q(s', μ(s'; θ̄_μ); θ̄_Q)                                                            (1)
    L(θ_Q) = E[½ (y - Q(s, a; θ_Q))²]                                                           (2)
    L(θ_μ) = -E[Q(s, μ(s; θ_μ); θ_Q)]                                                           (3)
    θ̄ ← (1 - τ) θ̄ + τ θ                                                                         (4)

(Numbered here; the paper does not.) Where a step terminated, y = r; where a time limit cut it off, y bootstraps.

Departures from the paper, those of the reference results (Fujimoto et al. 2018, "our DDPG"; Raffin et al. 2021): no batch
normalisation, no weight decay, actions enter a critic at its first layer, one learning rate and a larger τ, batches
of 256, weights drawn by fan-in alone in all layers, actions from all of the space until the buffer is warm.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from funcrl import nets
from funcrl.algos.off_policy_actor_critic import agent, deterministic
from funcrl.algos.off_policy_actor_critic.agent import LEARNT, Errors, State
from funcrl.algos.off_policy_actor_critic.deterministic import act, greedy, initial_noise, next_noise
from funcrl.algos.off_policy_actor_critic.settings import (
    DEFAULT_STEPS,
    SHARES_OF_THE_RUN,
    DeterministicSettings,
)
from funcrl.core import ReplayBatch, tree

__all__ = [
    "DEFAULT_STEPS",
    "LEARNT",
    "LOOP",
    "METRICS",
    "SHARES_OF_THE_RUN",
    "Config",
    "State",
    "act",
    "actor_loss",
    "critic_loss",
    "greedy",
    "init",
    "initial_noise",
    "next_noise",
    "target",
    "update",
]

LOOP = "off_policy"

METRICS = (*agent.CRITIC_METRICS, *agent.ACTOR_METRICS)


@tree.struct
class Config(DeterministicSettings):
    """Settings of DDPG."""

    exploration_noise: float = 0.2
    """σ of the noise that is added to actions in ±1; where it is of Ornstein and Uhlenbeck's kind that of each of its steps"""
    noise: str = tree.static(default="ornstein_uhlenbeck")
    """normal, drawn anew in each step, or ornstein_uhlenbeck, which goes on from step to step within an episode:
    x ← (1 - θ) x + σ ε"""


def target(reward: Tensor, discount: Tensor, next_q: Tensor) -> Tensor:
    """(1): r + γ Q(s', μ(s'; θ̄_μ); θ̄_Q).

    Args:
        reward: `[B]`.
        discount: `[B]` γ, and 0 where the episode terminated.
        next_q: `[B]`.

    Returns:
        `[B]`.

    >>> import torch
    >>> target(torch.ones(1), torch.tensor([0.5]), torch.tensor([4.0]))
    tensor([3.])
    """
    return reward + discount * next_q


def critic_loss(params: nets.Params, state: State, obs: Any, unit: Tensor, goal: Tensor) -> Errors:
    """(2), for each row."""
    return agent.squared_errors(agent.critics(state, params, obs, unit).squeeze(-1), goal)


def actor_loss(params: nets.Params, state: State, obs: Any) -> tuple[Tensor, tuple[()]]:
    """(3)."""
    unit = deterministic.policy(state, params, obs)
    return -agent.critics(state, state.params["critics"], obs, unit).mean(), ()


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    make, targets = deterministic.actor, ("actor", "critics")
    return agent.begin("ddpg.init", key, config, env, METRICS, 1, make, targets=targets)


def update(state: State, batch: ReplayBatch) -> State:
    """Take one gradient step of the critic on (2), then one of the actor on (3), then (4)."""
    unit = agent.check_batch("ddpg.update", state, batch)
    next_unit = deterministic.policy(state, state.target_params["actor"], batch.next_obs)
    next_q = agent.critics(state, state.target_params["critics"], batch.next_obs, next_unit)
    goal = target(batch.reward, batch.discount, next_q[0].squeeze(-1))
    state = agent.descend_critics(
        state,
        batch,
        (batch.obs, unit),
        lambda params, state: critic_loss(params, state, batch.obs, unit, goal),
        targets=False,
    )
    state, _ = agent.descend_actor(
        state, batch.obs, lambda params, state: actor_loss(params, state, batch.obs)
    )
    return agent.follow(state)
