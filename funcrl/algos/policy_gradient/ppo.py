"""Proximal policy optimisation with a clipped objective.

Schulman et al. 2017, "Proximal policy optimization algorithms", arXiv 1707.06347.

    r_t(θ) = π_θ(a_t | s_t) / π_θold(a_t | s_t)                                            (6)
    L^CLIP(θ) = E[min(r_t(θ) Â_t, clip(r_t(θ), 1 - ε, 1 + ε) Â_t)]                         (7)
    L^KLPEN(θ) = E[r_t(θ) Â_t - β KL[π_θold(· | s_t), π_θ(· | s_t)]]                           (8)
    L(θ) = E[L^CLIP(θ) - c₁ L^VF(θ) + c₂ S[π_θ](s_t)]                                      (9)
    Â_t = δ_t + γλ δ_{t+1} + …,   δ_t = r_t + γ V(s_{t+1}) - V(s_t)                   (11), (12)

Departures from the paper, all of them those of the authors' code and of the reference results
(Huang et al. 2022, "The 37 implementation details of proximal policy optimization"):

- the value loss is clipped too, `clip_value_loss`;
- advantages are normalised in each minibatch, `normalize_advantage`;
- the gradient is clipped by its global norm, Adam's ε is 1e-5, the learning rate falls linearly;
- actor and critic are separate networks with orthogonal weights, the actor's last layer scaled by
  0.01;
- real actions are normal, with a log σ that is learnt beside the network, 0 at first, or that it puts out
  itself, `action_noise`;
- with `anneal_clip_range` ε falls as the learning rate does (table 5 of the paper, for Atari).

What keeps the policy near the old one beside clipping is `kl_control`: `stop` takes no further step on a window
once a minibatch's KL is beyond 1.5 `target_kl` (the authors' later code; Huang et al. 2022, "early stopping"),
`penalty` has (8) in the place of (7), with β, 1 at first, halved or doubled after each window as in section 4. In both,
E[(r - 1) - log r] over a minibatch stands for the KL.

With a `recurrent_cell` the agent remembers, and rows are sequences, see `recurrence`.

Two departures of our own. A time limit is not an end: where an episode is truncated, V of the state it
reached is bootstrapped; the references stop there as if the agent had died. And the actions of a bounded
Box are scaled, see `policies.Gaussian`; the references are scaled for bounds of ±1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from funcrl.algos import progress
from funcrl.algos.policy_gradient import agent, descent, recurrence
from funcrl.algos.policy_gradient.agent import (
    LEARNT,
    Params,
    greedy,
    initial_carry,
    observe,
    observes,
    remember,
)
from funcrl.algos.policy_gradient.agent import act_and_tell as act
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
    "clipped_objective",
    "greedy",
    "init",
    "initial_carry",
    "loss",
    "observe",
    "observes",
    "prepare",
    "remember",
    "update",
    "value_loss",
]

LOOP = "on_policy"
KL_CONTROL = ("none", "stop", "penalty")


@tree.struct
class Config(RecurrentSettings):
    """Settings of PPO; the defaults are those of the references for CartPole."""

    gae_lambda: float = 0.95
    """λ of the advantage estimate, in [0, 1]"""
    clip_range: float = 0.2
    """ε: how far the probability ratio may move and still be rewarded"""
    adam_epsilon: float = 1e-5
    """ε of Adam"""
    target_kl: float = 0.01
    """KL to be kept to, where `kl_control` asks for it"""
    kl_control: str = tree.static(default="none")
    """none, stop (no further step on a window once KL is beyond 1.5 target_kl) or penalty (in the place of clipping)"""
    num_epochs: int = tree.static(default=4)
    """K: passes over each window"""
    num_minibatches: int = tree.static(default=4)
    """gradient steps in a pass; must divide num_envs · window_length, of a recurrent agent the number of sequences"""
    normalize_advantage: bool = tree.static(default=True)
    """give the advantages of each minibatch mean 0 and standard deviation 1"""
    clip_value_loss: bool = tree.static(default=True)
    """keep the value within clip_range of the old one in the value loss"""
    anneal_clip_range: bool = tree.static(default=False)
    """let clip_range fall to zero together with the learning rate"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settings(
            self,
            self.name,
            unit=("gae_lambda",),
            positive=("clip_range", "adam_epsilon", "target_kl"),
            counts=("num_epochs", "num_minibatches"),
            flags=("normalize_advantage", "clip_value_loss", "anneal_clip_range"),
        )
        checks.known(self.name, "kl_control", self.kl_control, KL_CONTROL)
        size, what = self.num_envs * self.window_length, "num_envs · window_length"
        if self.is_recurrent:
            size, what = size // self.sequence_length, f"{what} / sequence_length, the number of sequences"
        checks.divides(self.name, "num_minibatches", self.num_minibatches, what, size)


@tree.struct
class State(agent.State):
    """A PPO agent."""

    kl_control: Any
    """`[]` whether the present window has been stopped at, or β; `()` without"""


@tree.struct
class Batch:
    """A minibatch of B rows, each with what the old parameters made of it."""

    obs: Any
    """`[B, ...]`"""
    action: Any
    """`[B, ...]`"""
    log_prob: Tensor
    """`[B]` log π_θold(a | s)"""
    value: Tensor
    """`[B]` V_θold(s)"""
    advantage: Tensor
    """`[B]` Â"""
    target: Tensor
    """`[B]` Â + V_θold(s), the λ-return"""
    carry: Any = ()
    """`[B, H]` each, in an agent that remembers; its rows are sequences, `[B, L]` in the place of `[B]`"""
    begins: Any = ()
    """`[B, L]` boolean, likewise: an episode begins here"""


ROWS = ("log_prob", "value", "advantage", "target")
"""Fields of a batch with one number for each action."""

METRICS = (
    "policy_loss",
    "value_loss",
    "entropy",
    "kl",
    "clip_fraction",
    "grad_norm",
    "learning_rate",
)


def clipped_objective(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip_range: Tensor
) -> Tensor:
    """(7): E[min(r Â, clip(r, 1 - ε, 1 + ε) Â)], to be maximised.

    Args:
        log_prob: `[B]` log π_θ(a | s).
        old_log_prob: `[B]` log π_θold(a | s).
        advantage: `[B]`.
        clip_range: `[]` ε.

    Returns:
        `[]`.

    >>> zero = torch.zeros(1)
    >>> clipped_objective(zero + 1.0, zero, torch.ones(1), torch.tensor(0.2))
    tensor(1.2000)
    """
    ratio = torch.exp(log_prob - old_log_prob)
    clipped = torch.clamp(ratio, 1.0 - clip_range, 1.0 + clip_range)
    return torch.minimum(ratio * advantage, clipped * advantage).mean()


def value_loss(value: Tensor, old_value: Tensor, target: Tensor, clip_range: Tensor, clip: bool) -> Tensor:
    """L^VF of (9), with the ½ of the authors' code: ½ E[max((V - R)², (V_clipped - R)²)].

    Args:
        value: `[B]` V_θ(s).
        old_value: `[B]` V_θold(s).
        target: `[B]` λ-returns R.
        clip_range: `[]` how far V may move from the old value before it is clipped.
        clip: Whether to clip at all; the plain squared error otherwise.

    Returns:
        `[]`.

    >>> one = torch.ones(1)
    >>> value_loss(one, 0 * one, one, torch.tensor(0.2), True)
    tensor(0.3200)
    """
    error = (value - target) ** 2
    if clip:
        clipped = old_value + torch.clamp(value - old_value, -clip_range, clip_range)
        error = torch.maximum(error, (clipped - target) ** 2)
    return 0.5 * error.mean()


def loss(params: Params, state: State, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """(9) with its sign turned, to be minimised: -L^CLIP + c₁ L^VF - c₂ S.

    Args:
        params: θ, the argument that is differentiated.
        state: Networks and settings.
        batch: `[B]` rows.

    Returns:
        `[]` loss and the figures that go into `metrics`.
    """
    config = state.config
    carry = agent.recall(state, params, batch.obs, batch.carry, batch.begins)
    new = agent.policy(state, params, batch.obs, carry)
    value = agent.value(state, params, batch.obs, carry)
    log_prob = new.log_prob(batch.action)
    descent.check_rows("ppo.update", batch, ROWS, tuple(log_prob.shape))
    advantage = descent.normalized(batch.advantage) if config.normalize_advantage else batch.advantage
    clip_range = config.clip_range
    if config.anneal_clip_range:
        clip_range = clip_range * progress.remaining(state.step, config)
    critic_loss = value_loss(value, batch.value, batch.target, clip_range, config.clip_value_loss)
    entropy = new.entropy().mean()

    log_ratio = log_prob - batch.log_prob
    kl = descent.divergence(log_ratio)
    if config.kl_control == "penalty":
        objective = (torch.exp(log_ratio) * advantage).mean() - state.kl_control * kl
    else:
        objective = clipped_objective(log_prob, batch.log_prob, advantage, clip_range)
    figures = {
        "policy_loss": -objective,
        "value_loss": critic_loss,
        "entropy": entropy,
        "kl": kl,
        "clip_fraction": (torch.expm1(log_ratio).abs() > clip_range).to(torch.float32).mean(),
    }
    return -objective + config.value_weight * critic_loss - config.entropy_weight * entropy, figures


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    plain = agent.begin("ppo.init", key, config, env, METRICS, descent.adam)
    first = {"none": (), "stop": torch.zeros_like(plain.step, dtype=torch.bool)}
    first["penalty"] = torch.ones_like(plain.step, dtype=torch.float32)
    return State(**vars(plain), kl_control=first[config.kl_control])


def prepare(state: State, window: Transition) -> Batch:
    """Estimate advantages, (11) and (12), and flatten the window into rows.

    The agent's parameters are θold.
    """
    value, advantage = agent.advantages(state, window, state.config.gae_lambda)
    data = Batch(
        obs=window.obs,
        action=window.action,
        log_prob=window.extras["log_prob"],
        value=value,
        advantage=advantage,
        target=advantage + value,
    )
    return recurrence.rows(state.config, window, data)  # type: ignore[no-any-return]


def update(state: State, batch: Batch) -> State:
    """Take one gradient step on (9), or none where the window has been stopped at."""
    after = descent.descend(state, batch, loss, descent.adam)
    if state.config.kl_control == "stop":
        return _stopped(state, after)
    if state.config.kl_control == "penalty":
        return tree.replace(after, kl_control=_next_penalty(state, after.metrics["kl"]))
    return after


def _stopped(before: State, after: State) -> State:
    """Return the agent before, as to what it has learnt, where KL is too large now or was since the window began."""
    begins = _place_in_window(before) == 0
    over = (before.kl_control & ~begins) | (after.metrics["kl"] > 1.5 * before.config.target_kl)

    def kept(old: Any, new: Any) -> Any:
        return tree.map(lambda a, b: torch.where(over, a, b), old, new)

    return tree.replace(
        after,
        params=kept(before.params, after.params),
        optimizer=kept(before.optimizer, after.optimizer),
        kl_control=over,
    )


def _next_penalty(state: State, kl: Tensor) -> Tensor:
    """Section 4: return β, halved or doubled after the last step on a window."""
    last = _place_in_window(state) == progress.updates_per_window(state.config) - 1
    goal, beta = state.config.target_kl, state.kl_control
    adapted = torch.where(kl < goal / 1.5, beta / 2, torch.where(kl > 1.5 * goal, beta * 2, beta))
    return torch.where(last, adapted, beta)


def _place_in_window(state: State) -> Tensor:
    """Return how many steps on the present window came before, `[]`."""
    return state.step % torch.full_like(state.step, progress.updates_per_window(state.config))
