"""One-step actor-critic: policy and value learn from the TD error of every step as it comes.

Sutton & Barto 2018, section 13.5, "One-step actor-critic (episodic)".

    δ = r + γ V_w(s') - V_w(s),   V_w(s') = 0 where s' is terminal                             (13.12)
    w ← w + α c₁ δ ∇_w V_w(s)
    θ ← θ + α I δ ∇_θ log π_θ(a | s)                                                          (13.14)
    I ← γ I, 1 at the beginning of an episode

Departures: a step is taken on the mean of N environments, by Adam, for networks; I is left out unless
`weigh_by_discount` says otherwise: with it, what comes late in an episode is hardly learnt. A time limit is not
an end, V of the state that a truncated episode reached is bootstrapped.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.algos.policy_gradient import agent, descent
from funcrl.algos.policy_gradient.agent import LEARNT, Params, act, greedy
from funcrl.algos.policy_gradient.settings import Settings
from funcrl.core import Transition, checks, tree

__all__ = [
    "LEARNT",
    "LOOP",
    "METRICS",
    "Config",
    "State",
    "act",
    "greedy",
    "init",
    "loss",
    "update",
]

LOOP = "online"
METRICS = ("policy_loss", "value_loss", "entropy", "td_error", "grad_norm", "learning_rate")


@tree.struct
class Config(Settings):
    """Settings of the one-step actor-critic."""

    learning_rate: float = 1e-3
    """step size α of Adam"""
    value_weight: float = 0.5
    """c₁: weight of the value loss"""
    adam_epsilon: float = 1e-5
    """ε of Adam"""
    num_envs: int = tree.static(default=16)
    """N: environments of one lane"""
    weigh_by_discount: bool = tree.static(default=False)
    """weigh a step by γᵗ, t steps after the beginning of its episode, as the book does"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settings(self, self.name, positive=("adam_epsilon",), flags=("weigh_by_discount",))


@tree.struct
class State(agent.State):
    """An agent that knows how long each episode has lasted."""

    weight: Tensor
    """`[N]` I of the next step of each environment; 1 where it is not used"""


def loss(params: Params, state: State, batch: Transition) -> tuple[Tensor, dict[str, Tensor]]:
    """A loss whose gradient is that of (13.14) and of the value's half squared TD error, s' held fixed.

    Args:
        params: θ and w, the argument that is differentiated.
        state: Networks, settings and w of the targets.
        batch: `[N]` steps.

    Returns:
        `[]` loss and the figures that go into `metrics`.
    """
    config = state.config
    policy, value = agent.policy(state, params, batch.obs), agent.value(state, params, batch.obs)
    beyond = torch.where(batch.terminated, 0.0, agent.value(state, state.params, batch.next_obs))
    td_error = batch.reward + config.gamma * beyond - value
    log_prob, entropy = policy.log_prob(batch.action), policy.entropy().mean()
    policy_loss = -(state.weight * td_error.detach() * log_prob).mean()
    value_loss = 0.5 * (td_error**2).mean()
    figures = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "td_error": td_error.abs().mean(),
    }
    return policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy, figures


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    plain = agent.begin("actor_critic.init", key, config, env, METRICS, descent.adam)
    return State(**vars(plain), weight=torch.ones(config.num_envs, dtype=torch.float32, device=key.device))


def update(state: State, batch: Transition) -> State:
    """Take one gradient step on one step of each environment."""
    descent.check_rows(
        "actor_critic.update", batch, ("reward", "terminated", "truncated"), tuple(state.weight.shape)
    )
    state = descent.descend(state, batch, loss, descent.adam)
    if not state.config.weigh_by_discount:
        return state
    over = batch.terminated | batch.truncated
    return tree.replace(state, weight=torch.where(over, 1.0, state.config.gamma * state.weight))
