"""Advantage actor-critic, the synchronous form of A3C.

Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning", arXiv 1602.01783, section 4 and
algorithm S3, with the environments of a lane in the place of asynchronous actors.

    R_t = r_t + γ r_{t+1} + … + γᵏ V(s_{t+k}),  Â_t = R_t - V(s_t)                  section 4, `gae_lambda = 1`
    L(θ) = -E[log π_θ(a_t | s_t) Â_t] + c₁ ½ E[(R_t - V_θ(s_t))²] - c₂ E[S[π_θ](s_t)]
    θ ← θ - RMSProp(∇L)                                                               section 4, "Optimization"

With a `recurrent_cell` the agent remembers (the paper's A3C has an LSTM too), see `recurrence`. One gradient step is
taken on each window. `gae_lambda` below 1 puts generalised advantage estimates (Schulman
et al. 2016, arXiv 1506.02438) in the place of the n-step returns.

Departures from the paper, all of them those of the references (OpenAI's baselines, stable-baselines3): actor and
critic are separate networks; ε of RMSProp stands outside the root; the gradient is clipped by its global norm;
advantages can be normalised. One of our own: a time limit is not an end, V of the state that a truncated
episode reached is bootstrapped.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from funcrl.algos.policy_gradient import agent, descent, recurrence
from funcrl.algos.policy_gradient.agent import (
    LEARNT,
    Params,
    State,
    act,
    greedy,
    initial_carry,
    observe,
    observes,
    remember,
)
from funcrl.algos.policy_gradient.settings import RecurrentSettings
from funcrl.core import Transition, checks, tree

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
    "initial_carry",
    "loss",
    "observe",
    "observes",
    "prepare",
    "remember",
    "update",
]

LOOP = "on_policy"
METRICS = ("policy_loss", "value_loss", "entropy", "grad_norm", "learning_rate")


@tree.struct
class Config(RecurrentSettings):
    """Settings of A2C; the defaults are those of stable-baselines3, and of RL Baselines3 Zoo for CartPole."""

    learning_rate: float = 7e-4
    """step size α of RMSProp"""
    anneal_steps: float = math.inf
    """environment steps over which the learning rate falls linearly to zero; 0: the whole run where its length is known; inf: never"""
    entropy_weight: float = 0.0
    """c₂: weight of the entropy bonus"""
    value_weight: float = 0.5
    """c₁: weight of the value loss"""
    gae_lambda: float = 1.0
    """λ of the advantage estimate, in [0, 1]; 1: n-step returns"""
    rms_decay: float = 0.99
    """β of RMSProp, in [0, 1]"""
    rms_epsilon: float = 1e-5
    """ε of RMSProp, outside the root"""
    num_envs: int = tree.static(default=8)
    """N: environments of one lane"""
    window_length: int = tree.static(default=5)
    """T: steps of each environment between two updates, and the longest return"""
    sequence_length: int = tree.static(default=5)
    """L: steps that gradients go back through in a recurrent agent; must divide window_length"""
    normalize_advantage: bool = tree.static(default=False)
    """give the advantages of each window mean 0 and standard deviation 1"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settings(
            self,
            self.name,
            unit=("gae_lambda", "rms_decay"),
            positive=("rms_epsilon",),
            flags=("normalize_advantage",),
        )


@tree.struct
class Batch:
    """The B = T · N steps of a window."""

    obs: Any
    """`[B, ...]`"""
    action: Any
    """`[B, ...]`"""
    advantage: Tensor
    """`[B]` Â"""
    target: Tensor
    """`[B]` Â + V(s), with `gae_lambda = 1` the n-step return R"""
    carry: Any = ()
    """`[B, H]` each, in an agent that remembers; its rows are sequences, `[B, L]` in the place of `[B]`"""
    begins: Any = ()
    """`[B, L]` boolean, likewise: an episode begins here"""


def loss(params: Params, state: State, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """L, to be minimised.

    Args:
        params: θ, the argument that is differentiated.
        state: Networks and settings.
        batch: `[B]` rows.

    Returns:
        `[]` loss and the figures that go into `metrics`.
    """
    config = state.config
    carry = agent.recall(state, params, batch.obs, batch.carry, batch.begins)
    policy = agent.policy(state, params, batch.obs, carry)
    value = agent.value(state, params, batch.obs, carry)
    log_prob, entropy = policy.log_prob(batch.action), policy.entropy().mean()
    descent.check_rows("a2c.update", batch, ("advantage", "target"), tuple(log_prob.shape))
    advantage = descent.normalized(batch.advantage) if config.normalize_advantage else batch.advantage
    policy_loss = -(log_prob * advantage).mean()
    value_loss = 0.5 * ((value - batch.target) ** 2).mean()
    figures = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
    return policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy, figures


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    return agent.begin("a2c.init", key, config, env, METRICS, descent.rmsprop)


def prepare(state: State, window: Transition) -> Batch:
    """Estimate advantages, and flatten the window into rows."""
    value, advantage = agent.advantages(state, window, state.config.gae_lambda)
    data = Batch(obs=window.obs, action=window.action, advantage=advantage, target=advantage + value)
    return recurrence.rows(state.config, window, data)  # type: ignore[no-any-return]


def update(state: State, batch: Batch) -> State:
    """Take one gradient step on L."""
    return descent.descend(state, batch, loss, descent.rmsprop)
