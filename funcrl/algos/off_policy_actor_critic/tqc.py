"""TQC: SAC whose critics learn distributions, and whose targets leave out the best that these promise.

Kuznetsov, Shvechikov, Grishin & Vetrov 2020, "Controlling overestimation bias with truncated mixture of continuous
distributional quantile critics", arXiv 2005.04269, algorithm 1.

    τ_m = (2m - 1) / 2M,  m = 1 … M                                                             (4)
    z_(1) ≤ … ≤ z_(NM): all quantiles θ̄ of (s', a') of all N critics, sorted                    (11)
    y_i = r + γ (z_(i) - α log π(a' | s')),  i = 1 … (M - d) N,  a' ~ π(· | s')                 (12)
    J_Z(θ_n) = (1 / (M - d) N M) Σ_m Σ_i ρ_τm(y_i - θ_n^m(s, a)),  ρ_τ(u) = |τ - 1{u < 0}| L_1(u)  (13), (14)
    J_π(φ) = E[α log π(a | s; φ) - (1 / NM) Σ_n Σ_m θ_n^m(s, a)]                                (15)
    J(α) = E[-α log π(a | s) - α H̄],  with log α in the place of α                              (10)

(In the paper k N quantiles are kept, k = M - d.) Where a step terminated, y_i = r; where a time limit cut it off, y_i
bootstraps. Densities are those of actions in ±1. With n-step replay the entropy of the steps in between is left out.

The modern method of this kind that funcrl has: it is SAC and QR-DQN put together, so both can be read beside it, it keeps
no state beside parameters (CrossQ's batch normalisation does), and costs one gradient step for each step of the
environment (DroQ takes twenty).

Departures from the paper, those of the authors' code: one learning rate, log α, and weights drawn by fan-in alone; hidden
layers are as wide as SAC's here, the paper's critics have three of 512.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from funcrl import nets, ops
from funcrl.algos.off_policy_actor_critic import agent, soft
from funcrl.algos.off_policy_actor_critic.agent import LEARNT, Errors, State
from funcrl.algos.off_policy_actor_critic.settings import DEFAULT_STEPS, SHARES_OF_THE_RUN
from funcrl.algos.off_policy_actor_critic.soft import METRICS, SoftSettings, act, greedy
from funcrl.core import ReplayBatch, checks, tree

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
    """Settings of TQC."""

    num_critics: int = tree.static(default=5)
    """N: critics"""
    num_quantiles: int = tree.static(default=25)
    """M: quantiles of each critic's distribution"""
    num_dropped: int = tree.static(default=2)
    """d: quantiles that targets leave out, for each critic"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settings(self, "tqc.Config", counts=("num_critics", "num_quantiles"))
        checks.integer("tqc.Config", "num_dropped", self.num_dropped, 0)
        hold = f"be below num_quantiles = {self.num_quantiles}"
        fine = self.num_dropped < self.num_quantiles
        checks.require(fine, "tqc.Config", "num_dropped", hold, self.num_dropped)


def target(
    reward: Tensor,
    discount: Tensor,
    next_quantiles: Tensor,
    next_log_prob: Tensor,
    temperature: Tensor,
    num_dropped: int,
) -> Tensor:
    """(12): r + γ (z_(i) - α log π(a' | s')) for the smallest quantiles of all critics together.

    Args:
        reward: `[B]`.
        discount: `[B]` γ, and 0 where the episode terminated.
        next_quantiles: `[N, B, M]`.
        next_log_prob: `[B]`.
        temperature: `[]` α.
        num_dropped: d.

    Returns:
        `[B, (M - d) N]`, ascending.

    >>> import torch
    >>> quantiles = torch.tensor([[[0.0, 9.0]], [[3.0, 2.0]]])
    >>> target(torch.ones(1), torch.ones(1), quantiles, torch.zeros(1), torch.ones(()), num_dropped=1)
    tensor([[1., 3.]])
    """
    num, rows, each = next_quantiles.shape
    pooled = next_quantiles.movedim(0, 1).reshape(rows, num * each)
    kept = pooled.sort(dim=-1).values[:, : num * (each - num_dropped)]
    return reward.unsqueeze(-1) + discount.unsqueeze(-1) * (
        kept - (temperature * next_log_prob).unsqueeze(-1)
    )


def critic_loss(params: nets.Params, state: State, obs: Any, unit: Tensor, goal: Tensor) -> Errors:
    """(13), (14), of all critics, for each row; the error is that of the means."""
    quantiles = agent.critics(state, params, obs, unit)
    each = ops.quantile_regression(quantiles, goal, 1.0).mean(dim=-1)
    q = quantiles.mean(dim=(0, -1))
    return Errors(each.sum(dim=0), (goal.mean(dim=-1) - q).abs(), q)


def actor_loss(params: nets.Params, state: State, obs: Any, key: Tensor) -> tuple[Tensor, Tensor]:
    """(15), and beside it the policy's entropy as sampled, `[]`."""
    unit, log_prob = soft.sampled(state, params, obs, key)
    q = agent.critics(state, state.params["critics"], obs, unit).mean(dim=(0, -1))
    return (soft.temperature(state) * log_prob - q).mean(), -log_prob.mean()


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    num, size = config.num_critics, config.num_quantiles
    made = agent.begin("tqc.init", key, config, env, METRICS, num, soft.actor, critic_outputs=size)
    return soft.begun(made)


def update(state: State, batch: ReplayBatch) -> State:
    """Take one gradient step of the critics on (14), one of the actor on (15) and one of the temperature on (10)."""
    unit = agent.check_batch("tqc.update", state, batch)
    k_next, k_now = (agent.draw_key(state, purpose) for purpose in range(2))
    next_unit, next_log_prob = soft.sampled(state, state.params["actor"], batch.next_obs, k_next)
    next_quantiles = agent.critics(state, state.target_params["critics"], batch.next_obs, next_unit)
    soften = (next_log_prob, soft.temperature(state), state.config.num_dropped)
    goal = target(batch.reward, batch.discount, next_quantiles, *soften)
    return soft.descend(
        state,
        batch,
        (batch.obs, unit),
        lambda params, state: critic_loss(params, state, batch.obs, unit, goal),
        lambda params, state: actor_loss(params, state, batch.obs, k_now),
    )
