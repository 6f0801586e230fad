"""IMPALA's learner: an actor-critic whose targets are corrected for experience of an older policy.

Espeholt et al. 2018, "IMPALA: Scalable distributed deep-RL with importance weighted actor-learner architectures",
arXiv 1802.01561.

    v_s = V(x_s) + Σ_t γ^{t-s} (Π_{i<t} c_i) δ_t V,   δ_t V = ρ_t (r_t + γ V(x_{t+1}) - V(x_t))            (1)
    ρ_t = min(ρ̄, π(a_t | x_t) / μ(a_t | x_t)),   c_i = λ min(c̄, π(a_i | x_i) / μ(a_i | x_i))
    L(θ) = -E[ρ_s log π_θ(a_s | x_s) (r_s + γ v_{s+1} - V(x_s))] + c₁ ½ E[(v_s - V_θ(x_s))²] - c₂ E[S[π_θ](x_s)]
                                                                                             section 4.2

μ is the policy that acted. Where the paper's actors are behind the learner because they run elsewhere, here the
learner moves on while it goes through a window several times, `num_epochs`; v and the advantages are made anew with
the present θ at each update. Corrections run along time, so a minibatch is made of whole environments.

Departures: means over steps in the place of sums, and with them the clipping of gradients at 0.5 and RMSProp's ε of
1e-5 outside the root, as in `a2c`; rewards are not clipped. A time limit is not an end: V of the state that a
truncated episode reached is bootstrapped.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from funcrl import ops
from funcrl.algos.policy_gradient import agent, descent
from funcrl.algos.policy_gradient.agent import LEARNT, Params, State, greedy, observe, observes
from funcrl.algos.policy_gradient.agent import act_and_tell as act
from funcrl.algos.policy_gradient.settings import WindowSettings
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
    "loss",
    "observe",
    "observes",
    "prepare",
    "update",
]

LOOP = "on_policy"
METRICS = ("policy_loss", "value_loss", "entropy", "kl", "rho", "grad_norm", "learning_rate")


@tree.struct
class Config(WindowSettings):
    """Settings of IMPALA."""

    learning_rate: float = 3e-3
    """step size α of RMSProp"""
    entropy_weight: float = 0.01
    """c₂: weight of the entropy bonus"""
    value_weight: float = 0.5
    """c₁: weight of the value loss"""
    trace_lambda: float = 1.0
    """λ of the traces, in [0, 1]; 1 is the paper's"""
    clip_rho: float = 1.0
    """ρ̄, at least clip_c: how much more an action may count that has become more probable; it says whose values are learnt"""
    clip_c: float = 1.0
    """c̄: how far later steps count"""
    rms_decay: float = 0.99
    """β of RMSProp, in [0, 1]"""
    rms_epsilon: float = 1e-5
    """ε of RMSProp, outside the root"""
    num_envs: int = tree.static(default=8)
    """N: environments of one lane"""
    window_length: int = tree.static(default=20)
    """T: steps of each environment between two rounds of updates, the paper's unroll length"""
    num_epochs: int = tree.static(default=2)
    """passes over each window"""
    num_minibatches: int = tree.static(default=2)
    """gradient steps in a pass; must divide num_envs"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settings(
            self,
            self.name,
            unit=("trace_lambda", "rms_decay"),
            positive=("clip_rho", "clip_c", "rms_epsilon"),
            counts=("num_epochs", "num_minibatches"),
        )
        checks.divides(self.name, "num_minibatches", self.num_minibatches, "num_envs", self.num_envs)


@tree.struct
class Batch:
    """What B environments went through in a window of T steps, with B in front."""

    obs: Any
    """`[B, T, ...]`"""
    action: Any
    """`[B, T, ...]`"""
    log_prob: Tensor
    """`[B, T]` log μ(a | x)"""
    reward: Tensor
    """`[B, T]`"""
    terminated: Tensor
    """`[B, T]` boolean"""
    truncated: Tensor
    """`[B, T]` boolean"""
    next_obs: Any
    """`[B, T, ...]`"""


ROWS = ("log_prob", "reward", "terminated", "truncated")
"""Fields of a batch with one number for each action."""


def loss(params: Params, state: State, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """L, to be minimised; v, ρ and the advantages are held fixed.

    Args:
        params: θ, the argument that is differentiated.
        state: Networks and settings.
        batch: `[B, T]` steps.

    Returns:
        `[]` loss and the figures that go into `metrics`.
    """
    config = state.config
    policy, value = agent.policy(state, params, batch.obs), agent.value(state, params, batch.obs)
    log_prob, entropy = policy.log_prob(batch.action), policy.entropy().mean()
    descent.check_rows("impala.update", batch, ROWS, tuple(log_prob.shape))
    log_ratio = (log_prob - batch.log_prob).detach()
    beyond = agent.value(state, state.params, batch.next_obs)
    target, advantage = ops.v_trace(
        _swapped(log_ratio),
        _swapped(batch.reward),
        _swapped(batch.terminated),
        _swapped(batch.truncated),
        _swapped(value.detach()),
        _swapped(beyond),
        config.gamma,
        config.trace_lambda,
        config.clip_rho,
        config.clip_c,
    )
    policy_loss = -(log_prob * _swapped(advantage)).mean()
    value_loss = 0.5 * ((value - _swapped(target)) ** 2).mean()
    figures = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "kl": descent.divergence(log_ratio),
        "rho": torch.clamp(log_ratio.exp(), max=config.clip_rho).mean(),
    }
    return policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy, figures


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    return agent.begin("impala.init", key, config, env, METRICS, descent.rmsprop)


def prepare(state: State, window: Transition) -> Batch:
    """Put environments in front of time, so that what is shuffled and cut are whole environments."""
    data = Batch(
        obs=window.obs,
        action=window.action,
        log_prob=window.extras["log_prob"],
        reward=agent.earned(state, window.reward),
        terminated=window.terminated,
        truncated=window.truncated,
        next_obs=window.next_obs,
    )
    return tree.map(_swapped, data)  # type: ignore[no-any-return]


def update(state: State, batch: Batch) -> State:
    """Take one gradient step on L."""
    return descent.descend(state, batch, loss, descent.rmsprop)


def _swapped(x: Tensor) -> Tensor:
    """Swap the axes of environments and of time."""
    return x.transpose(0, 1)
