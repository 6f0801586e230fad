"""REINFORCE: the Monte-Carlo policy gradient, with and without a learnt baseline.

Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning";
Sutton & Barto 2018, sections 13.3 and 13.4.

    G_t = r_t + γ r_{t+1} + γ² r_{t+2} + …   to the end of the episode
    θ ← θ + α E[(G_t - b(s_t)) ∇_θ log π_θ(a_t | s_t)],   b = V_w or 0               (13.8), (13.11)
    w ← w + α c₁ E[(G_t - V_w(s_t)) ∇_w V_w(s_t)]                                    (13.4)

Returns are known where the episode ends within the window: those steps are learnt from, all others have weight
0. Steps of an episode that began in the window before count too, since only what comes after a step matters.

Which steps count must not depend on what became of them. A window's end cuts off long episodes more often than
short ones, so among its last steps those that are known are the unlucky ones. Therefore its last `lookahead`
steps only complete the returns of those before them: where no episode is longer than that, every step before
them counts, whatever came after, and the estimate has no bias. Longer episodes still count less than short
ones; `used` then falls below (T - lookahead) / T.

Departures: one step of Adam on all steps of a window in the place of one for each; the factor γᵗ of the book
is left out, as everywhere in practice (γ then says how far an action is credited, and early steps do not count
for more). Where an episode is truncated, the baseline's value of the state it reached is bootstrapped; without
a baseline nothing is known of it, and a time limit is taken for the end of the world.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from funcrl import ops
from funcrl.algos.policy_gradient import agent, descent
from funcrl.algos.policy_gradient.agent import LEARNT, Params, State, act, greedy, observe, observes
from funcrl.algos.policy_gradient.settings import WindowSettings
from funcrl.core import Transition, checks, collective, loops, tree

__all__ = [
    "LEARNT",
    "LOOP",
    "METRICS",
    "Batch",
    "Config",
    "State",
    "act",
    "greedy",
    "init",
    "loss",
    "observe",
    "observes",
    "prepare",
    "update",
]

LOOP = "on_policy"
METRICS = ("policy_loss", "value_loss", "entropy", "used", "grad_norm", "learning_rate")


@tree.struct
class Config(WindowSettings):
    """Settings of REINFORCE."""

    learning_rate: float = 5e-3
    """step size α of Adam"""
    entropy_weight: float = 0.0
    """weight of the entropy bonus"""
    value_weight: float = 0.5
    """c₁: weight of the baseline's loss"""
    adam_epsilon: float = 1e-5
    """ε of Adam"""
    num_envs: int = tree.static(default=2)
    """N: environments of one lane"""
    window_length: int = tree.static(default=1024)
    """T: steps of each environment between two updates"""
    lookahead: int = tree.static(default=0)
    """steps at the window's end that only complete returns, as many as the longest episode has; 0: half of the window"""
    baseline: bool = tree.static(default=True)
    """subtract a learnt value from the returns; without, the critic is not used"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settings(self, self.name, positive=("adam_epsilon",), flags=("baseline",))
        checks.integer(self.name, "lookahead", self.lookahead, 0)
        hold = f"be less than window_length = {self.window_length}"
        checks.require(self.lookahead < self.window_length, self.name, "lookahead", hold, self.lookahead)

    @property
    def steps_ahead(self) -> int:
        """`lookahead`, where it is 0 half of the window."""
        return self.lookahead or self.window_length // 2


@tree.struct
class Batch:
    """The B = T · N steps of a window."""

    obs: Any
    """`[B, ...]`"""
    action: Any
    """`[B, ...]`"""
    target: Tensor
    """`[B]` G, of no meaning where `weight` is 0"""
    weight: Tensor
    """`[B]` 1 where a step counts: before the last `lookahead` steps, and its episode ended within the window"""


def loss(params: Params, state: State, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """(13.8) or (13.11) and (13.4) as one loss, to be minimised.

    Args:
        params: θ and w, the argument that is differentiated.
        state: Networks and settings.
        batch: `[B]` rows.

    Returns:
        `[]` loss and the figures that go into `metrics`.
    """
    config = state.config
    policy = agent.policy(state, params, batch.obs)
    log_prob = policy.log_prob(batch.action)
    descent.check_rows("reinforce.update", batch, ("target", "weight"), tuple(log_prob.shape))
    # No step may be known: then nothing is learnt.
    share = batch.weight / torch.clamp(collective.mean(batch.weight.sum()), min=1.0 / collective.parts())
    advantage, value_loss = batch.target, torch.zeros_like(share[0])
    if config.baseline:
        error = batch.target - agent.value(state, params, batch.obs)
        advantage, value_loss = error.detach(), 0.5 * (share * error**2).sum()
    policy_loss = -(share * advantage * log_prob).sum()
    entropy = policy.entropy().mean()
    figures = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "used": batch.weight.mean(),
    }
    return policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy, figures


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    return agent.begin("reinforce.init", key, config, env, METRICS, descent.adam)


def prepare(state: State, window: Transition) -> Batch:
    """Add up rewards to the end of each episode, and flatten the window into rows."""
    if state.config.baseline:
        beyond = agent.value(state, state.params, window.next_obs)
    else:
        beyond = torch.zeros_like(window.reward)
    target = ops.discounted_return(
        agent.earned(state, window.reward), window.terminated, window.truncated, beyond, state.config.gamma
    )
    ended = (window.terminated | window.truncated).to(torch.float32)
    known = loops.linear_recurrence(1.0 - ended, ended, reverse=True)
    length = ended.shape[0]
    early = torch.arange(length, device=ended.device) < length - state.config.steps_ahead
    weight = torch.where(early.unsqueeze(-1), known, 0.0)
    data = Batch(obs=window.obs, action=window.action, target=target, weight=weight)
    return tree.map(lambda x: x.flatten(0, 1), data)  # type: ignore[no-any-return]


def update(state: State, batch: Batch) -> State:
    """Take one gradient step on the loss."""
    return descent.descend(state, batch, loss, descent.adam)
