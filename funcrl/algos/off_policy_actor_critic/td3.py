"""TD3: DDPG with two critics, smoothed targets and a slower actor.

Fujimoto, van Hoof & Meger 2018, "Addressing function approximation error in actor-critic methods", arXiv 1802.09477,
algorithm 1.

    ã = clip(μ(s'; θ̄_μ) + clip(ε, -c, c), -1, 1),  ε ~ N(0, σ̃²)                                 (14)
    y = r + γ min_i Q_i(s', ã; θ̄_i)                                                             (10)
    L(θ_i) = E[½ (y - Q_i(s, a; θ_i))²]                                             (algorithm 1)
    L(θ_μ) = -E[Q_1(s, μ(s; θ_μ); θ_1)]   at every d-th step                        (algorithm 1)
    θ̄ ← (1 - τ) θ̄ + τ θ                   likewise                                  (algorithm 1)

Where a step terminated, y = r; where a time limit cut it off, y bootstraps.

The first step of a run is one of the actor too, then every d-th. `update` is such a step whatever its number: it chooses
by the number what to keep. Whoever knows the number can save what is thrown away by `parts`, as the training loop does.

Departures from the paper: as in the authors' code ã stays within ±1, as in their later one there is one size of all hidden layers, batches of 256 and a learning
rate of the critics' and actor's own; weights drawn by fan-in alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
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
from funcrl.core import ReplayBatch, checks, random, tree

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
    "parts",
    "smoothed",
    "target",
    "update",
]

LOOP = "off_policy"

MOST = 1000
"""A delay: the training loop arranges the updates from one of the actor's to the next beforehand."""

METRICS = (*agent.CRITIC_METRICS, *agent.ACTOR_METRICS)


@tree.struct
class Config(DeterministicSettings):
    """Settings of TD3."""

    target_noise: float = 0.2
    """σ̃ of the noise that smooths targets, of actions in ±1"""
    target_noise_clip: float = 0.5
    """c: largest size of it"""
    policy_delay: int = tree.static(default=2)
    """d: steps of the critics to one of the actor"""

    def __post_init__(self) -> None:
        super().__post_init__()
        named = ("target_noise", "target_noise_clip")
        checks.settings(self, "td3.Config", not_negative=named, counts=("policy_delay",))
        most, hold = self.policy_delay <= MOST, f"be at most {MOST}"
        checks.require(most, "td3.Config", "policy_delay", hold, self.policy_delay)


def smoothed(unit: Tensor, noise: Tensor, clip: Tensor) -> Tensor:
    """(14): clip(a + clip(ε, -c, c), -1, 1), `[B, D]`.

    >>> smoothed(torch.tensor([0.0, 0.9]), torch.tensor([-3.0, 0.2]), torch.tensor(0.5))
    tensor([-0.5000,  1.0000])
    """
    return torch.clamp(unit + torch.clamp(noise, -clip, clip), -1.0, 1.0)


def target(reward: Tensor, discount: Tensor, next_q: Tensor) -> Tensor:
    """(10): r + γ min_i Q_i(s', ã; θ̄_i).

    Args:
        reward: `[B]`.
        discount: `[B]` γ, and 0 where the episode terminated.
        next_q: `[2, B]`.

    Returns:
        `[B]`.

    >>> target(torch.ones(1), torch.tensor([0.5]), torch.tensor([[4.0], [6.0]]))
    tensor([3.])
    """
    return reward + discount * next_q.amin(dim=0)


def critic_loss(params: nets.Params, state: State, obs: Any, unit: Tensor, goal: Tensor) -> Errors:
    """Algorithm 1's loss of both critics, for each row."""
    return agent.squared_errors(agent.critics(state, params, obs, unit).squeeze(-1), goal)


def actor_loss(params: nets.Params, state: State, obs: Any) -> tuple[Tensor, tuple[()]]:
    """Algorithm 1's loss of the actor: -E[Q_1(s, μ(s))]."""
    unit = deterministic.policy(state, params, obs)
    first = tree.index(state.params["critics"], 0)
    return -nets.apply(state.critic, first, (obs, unit)).mean(), ()


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    make, targets = deterministic.actor, ("actor", "critics")
    return agent.begin("td3.init", key, config, env, METRICS, 2, make, targets=targets)


def update(state: State, batch: ReplayBatch) -> State:
    """Take one gradient step of the critics, and one of the actor where it is due."""
    due = state.step % torch.full_like(state.step, state.config.policy_delay) == 0
    state = _update_critics(state, batch)
    return tree.where(due, _update_actor(state, batch), state)


def parts(config: Config) -> tuple[tuple[Callable[[State, ReplayBatch], State], int], ...]:
    """Return what `update` consists of: functions like it, and of how many updates each is a part, from the first on."""
    return (_update_critics, 1), (_update_actor, config.policy_delay)


def _update_critics(state: State, batch: ReplayBatch) -> State:
    unit = agent.check_batch("td3.update", state, batch)
    config, targets = state.config, state.target_params
    next_unit = deterministic.policy(state, targets["actor"], batch.next_obs)
    noise = config.target_noise * random.normal(agent.draw_key(state, 0), next_unit.shape)
    next_unit = smoothed(next_unit, noise, config.target_noise_clip)
    next_q = agent.critics(state, targets["critics"], batch.next_obs, next_unit).squeeze(-1)
    goal = target(batch.reward, batch.discount, next_q)
    return agent.descend_critics(
        state,
        batch,
        (batch.obs, unit),
        lambda params, state: critic_loss(params, state, batch.obs, unit, goal),
        targets=False,
    )


def _update_actor(state: State, batch: ReplayBatch) -> State:
    state, _ = agent.descend_actor(
        state, batch.obs, lambda params, state: actor_loss(params, state, batch.obs)
    )
    return agent.follow(state)
