"""SAC: an actor that wants reward and entropy, and two critics that know it.

Haarnoja et al. 2018, "Soft actor-critic algorithms and applications", arXiv 1812.05905, algorithm 1.

    y = r + γ (min_i Q_i(s', a'; θ̄_i) - α log π(a' | s'; φ)),  a' ~ π(· | s'; φ)                (3), (5), (6)
    J_Q(θ_i) = E[½ (Q_i(s, a; θ_i) - y)²]                                                       (5)
    J_π(φ) = E[α log π(a | s; φ) - min_i Q_i(s, a; θ_i)],  a = tanh(μ_φ(s) + σ_φ(s) ε)          (7), (9)
    J(α) = E[-α log π(a | s) - α H̄],  with log α in the place of α                              (18)
    θ̄ ← (1 - τ) θ̄ + τ θ                                                                         (algorithm 1)

Where a step terminated, y = r; where a time limit cut it off, y bootstraps. Densities are those of actions in ±1, whatever
the bounds of the environment's are. With n-step replay the entropy of the steps in between is left out.

Departures from the paper, those of the reference results (Raffin et al. 2021): (18) through log α; weights drawn by
fan-in alone; the critics of (9) are those after their step.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from funcrl import nets
from funcrl.algos.off_policy_actor_critic import agent, soft
from funcrl.algos.off_policy_actor_critic.agent import LEARNT, Errors, State
from funcrl.algos.off_policy_actor_critic.settings import DEFAULT_STEPS, SHARES_OF_THE_RUN
from funcrl.algos.off_policy_actor_critic.soft import METRICS, SoftSettings, act, greedy
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
    "target",
    "update",
]

LOOP = "off_policy"


@tree.struct
class Config(SoftSettings):
    """Settings of SAC."""


def target(
    reward: Tensor, discount: Tensor, next_q: Tensor, next_log_prob: Tensor, temperature: Tensor
) -> Tensor:
    """(5), (6): r + γ (min_i Q_i(s', a'; θ̄_i) - α log π(a' | s')).

    Args:
        reward: `[B]`.
        discount: `[B]` γ, and 0 where the episode terminated.
        next_q: `[2, B]`.
        next_log_prob: `[B]`.
        temperature: `[]` α.

    Returns:
        `[B]`.

    >>> import torch
    >>> target(*(torch.tensor(x) for x in ([1.0], [0.5], [[4.0], [6.0]], [-2.0], 0.5)))
    tensor([3.5000])
    """
    return reward + discount * (next_q.amin(dim=0) - temperature * next_log_prob)


def critic_loss(params: nets.Params, state: State, obs: Any, unit: Tensor, goal: Tensor) -> Errors:
    """(5), of both critics, for each row."""
    return agent.squared_errors(agent.critics(state, params, obs, unit).squeeze(-1), goal)


def actor_loss(params: nets.Params, state: State, obs: Any, key: Tensor) -> tuple[Tensor, Tensor]:
    """(9), and beside it the policy's entropy as sampled, `[]`."""
    unit, log_prob = soft.sampled(state, params, obs, key)
    q = agent.critics(state, state.params["critics"], obs, unit).squeeze(-1).amin(dim=0)
    return (soft.temperature(state) * log_prob - q).mean(), -log_prob.mean()


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    return soft.begun(agent.begin("sac.init", key, config, env, METRICS, 2, soft.actor))


def update(state: State, batch: ReplayBatch) -> State:
    """Take one gradient step of the critics on (5), one of the actor on (9) and one of the temperature on (18)."""
    unit = agent.check_batch("sac.update", state, batch)
    k_next, k_now = (agent.draw_key(state, purpose) for purpose in range(2))
    next_unit, next_log_prob = soft.sampled(state, state.params["actor"], batch.next_obs, k_next)
    next_q = agent.critics(state, state.target_params["critics"], batch.next_obs, next_unit).squeeze(-1)
    goal = target(batch.reward, batch.discount, next_q, next_log_prob, soft.temperature(state))
    return soft.descend(
        state,
        batch,
        (batch.obs, unit),
        lambda params, state: critic_loss(params, state, batch.obs, unit, goal),
        lambda params, state: actor_loss(params, state, batch.obs, k_now),
    )
