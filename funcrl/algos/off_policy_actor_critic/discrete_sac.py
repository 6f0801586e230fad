"""SAC for numbered actions, whose expectations over the policy are sums.

Christodoulou 2019, "Soft actor-critic for discrete action settings", arXiv 1910.07207.

    V(s') = Σ_a π(a | s') (min_i Q_i(s', a; θ̄_i) - α log π(a | s'))                             (10)
    y = r + γ V(s'),   J_Q(θ_i) = E[½ (Q_i(s, a; θ_i) - y)²]                                    (4)
    J_π(φ) = E[Σ_a π(a | s) (α log π(a | s) - min_i Q_i(s, a; θ_i))]                            (12)
    J(α) = E[Σ_a π(a | s) (-α log π(a | s) - α H̄)],  with log α in the place of α               (11)

Where a step terminated, y = r; where a time limit cut it off, y bootstraps. Observations may say which actions are valid,
see `core.masks`, and with n-step replay the entropy of the steps in between is left out; H̄ is then still a share of what all actions could have.

Departures from the paper: (11) through log α; weights drawn by fan-in alone; perceptrons for observations that are no
images. Its H̄ is 0.98 of the largest entropy, at which a policy of a few actions hardly prefers one; the default is lower.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from funcrl import nets, ops
from funcrl.algos import beginning, replayed
from funcrl.algos.off_policy_actor_critic import agent, soft
from funcrl.algos.off_policy_actor_critic.agent import LEARNT, Errors, State
from funcrl.algos.off_policy_actor_critic.settings import DEFAULT_STEPS, SHARES_OF_THE_RUN
from funcrl.algos.off_policy_actor_critic.soft import METRICS, TemperatureSettings
from funcrl.core import ReplayBatch, checks, masks, random, tree

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
    "soft_value",
    "target",
    "update",
]

LOOP = "off_policy"


@tree.struct
class Config(TemperatureSettings):
    """Settings of discrete SAC."""

    target_entropy: float = 0.5
    """H̄ / log A: entropy that the policy is to have, as a share of that of equal chances, in [0, 1]"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settings(self, "discrete_sac.Config", unit=("target_entropy",))


def soft_value(logits: Tensor, q: Tensor, temperature: Tensor) -> Tensor:
    """(10): Σ_a π(a | s) (min_i Q_i(s, a) - α log π(a | s)).

    Args:
        logits: `[B, A]` of π, -inf for actions that are not valid.
        q: `[2, B, A]`.
        temperature: `[]` α.

    Returns:
        `[B]`.

    >>> soft_value(torch.zeros(1, 2), torch.tensor([[[1.0, 3.0]], [[2.0, 2.0]]]), torch.tensor(1.0)) - math.log(2)
    tensor([1.5000])
    """
    mean = (torch.softmax(logits, dim=-1) * q.amin(dim=0)).sum(dim=-1)
    return mean + temperature * ops.categorical_entropy(logits)


def target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """R + γ V(s'), `[B]`.

    Args:
        reward: `[B]`.
        discount: `[B]` γ, and 0 where the episode terminated.
        next_value: `[B]`.

    >>> target(torch.ones(1), torch.tensor([0.5]), torch.tensor([4.0]))
    tensor([3.])
    """
    return reward + discount * next_value


def critic_loss(params: nets.Params, state: State, obs: Any, action: Tensor, goal: Tensor) -> Errors:
    """(4), of both critics, for each row."""
    values = nets.ensemble.apply(state.critic, params, obs)
    taken = values.gather(-1, action.expand(values.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    return agent.squared_errors(taken, goal)


def actor_loss(params: nets.Params, state: State, obs: Any) -> tuple[Tensor, Tensor]:
    """(12), and beside it the policy's entropy, `[]`."""
    logits = _logits(state, params, obs)
    q = nets.ensemble.apply(state.critic, state.params["critics"], obs)
    value = soft_value(logits, q, soft.temperature(state))
    return -value.mean(), ops.categorical_entropy(logits).mean()


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    function = "discrete_sac.init"
    instead = "Its actor chooses among numbered actions; for real ones take sac, tqc or td3."
    space, count = beginning.spaces_of(function, env, instead)
    actor, critic = (
        nets.own(function, f"config.{name}", getattr(config, name), space)
        or replayed.network(config, space, count)
        for name in ("actor", "critic")
    )
    made = agent.assemble(function, key, config, METRICS, actor, critic, None, 2, ("critics",))
    nets.check_output(function, "config.actor", actor, made.params["actor"], space, count)
    one = tree.index(made.params["critics"], 0)
    nets.check_output(function, "config.critic", critic, one, space, count)
    return soft.with_temperature(made)


def act(state: State, obs: Any, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an action from the policy; before the buffer is warm any valid action."""
    logits = _logits(state, state.params["actor"], obs)
    warm = state.env_steps >= state.config.warmup_steps
    return random.categorical(key, torch.where(warm, logits, masks.values(torch.zeros_like(logits), obs))), {}


def greedy(state: State, obs: Any) -> Tensor:
    """Return the most probable action."""
    return _logits(state, state.params["actor"], obs).argmax(dim=-1)


def update(state: State, batch: ReplayBatch) -> State:
    """Take one gradient step of the critics on (4), one of the actor on (12) and one of the temperature on (11)."""
    replayed.check_batch("discrete_sac.update", batch, state.config.batch_size, numbered=True)
    next_logits = _logits(state, state.params["actor"], batch.next_obs)
    next_q = nets.ensemble.apply(state.critic, state.target_params["critics"], batch.next_obs)
    next_value = soft_value(next_logits, next_q, soft.temperature(state))
    goal = target(batch.reward, batch.discount, next_value)
    state = agent.descend_critics(
        state,
        batch,
        batch.obs,
        lambda params, state: critic_loss(params, state, batch.obs, batch.action, goal),
    )
    state, entropy = agent.descend_actor(
        state, batch.obs, lambda params, state: actor_loss(params, state, batch.obs)
    )
    largest = math.log(next_logits.shape[-1])
    return soft.adapt(state, entropy, state.config.target_entropy * largest)


def _logits(state: State, params: nets.Params, obs: Any) -> Tensor:
    """Return the logits of π(· | s), `[..., A]`, -inf for actions that are not valid."""
    return masks.values(nets.apply(state.actor, params, obs), obs)
