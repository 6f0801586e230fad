"""What SAC and TQC share: a policy of normals squashed into ±1, and a temperature that keeps up its entropy."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from funcrl import nets, policies
from funcrl.algos.off_policy_actor_critic import agent
from funcrl.algos.off_policy_actor_critic.agent import State
from funcrl.algos.off_policy_actor_critic.settings import Settings
from funcrl.core import checks, random, tree

METRICS = (*agent.CRITIC_METRICS, *agent.ACTOR_METRICS, "entropy", "temperature")


@tree.struct
class TemperatureSettings(Settings):
    """Settings of those that are rewarded for entropy."""

    temperature: float = 1.0
    """α: what a nat of entropy is worth; where it is learnt, at the beginning"""
    learn_temperature: bool = tree.static(default=True)
    """move α so that the policy's entropy becomes the target's"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settings(self, checks.name_of(self), positive=("temperature",), flags=("learn_temperature",))


@tree.struct
class SoftSettings(TemperatureSettings):
    """Settings of those whose actions are real."""

    target_entropy: float = -1.0
    """H̄ / D: entropy that the policy is to have, in nats for each dimension of actions in ±1; at most log 2"""

    def __post_init__(self) -> None:
        super().__post_init__()
        name = checks.name_of(self)
        checks.number(name, "target_entropy", self.target_entropy, -float("inf"), 0.6931)


def policy(state: State, params: nets.Params, obs: Any) -> policies.TanhNormal:
    """Return π(· | s) over actions in ±1, `[..., D]`, for one observation s, or for several."""
    assert state.actions is not None
    head = policies.Squashed(state.actions.unit, (state.actions.size,))
    made: Any = head.distribution(nets.apply(state.actor, params, obs), {})
    return made  # type: ignore[no-any-return]


def sampled(state: State, params: nets.Params, obs: Any, key: Tensor) -> tuple[Tensor, Tensor]:
    """Draw an action in ±1, `[B, D]`, and return log π of it too, `[B]`."""
    now = policy(state, params, obs)
    before = now.sample_before(key)
    return now.squash(before), now.log_prob_before(before)


def act(state: State, obs: Any, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an action from the policy; before the buffer is warm any action."""
    k_random, k_policy = random.split(key, 2)
    unit = policy(state, state.params["actor"], obs).sample(k_policy)
    return agent.explored(state, unit, k_random), {}


def greedy(state: State, obs: Any) -> Tensor:
    """Return the squashed mean."""
    assert state.actions is not None
    return state.actions.of_unit(policy(state, state.params["actor"], obs).mode())


def with_temperature(state: State) -> State:
    """Return a new agent that knows log α."""
    return agent.with_params(state, "temperature", {"log": torch.log(state.config.temperature)})


def temperature(state: State) -> Tensor:
    """Return α, `[]`."""
    return torch.exp(state.params["temperature"]["log"])


def temperature_loss(
    params: nets.Params, entropy: Tensor, target_entropy: Tensor
) -> tuple[Tensor, tuple[()]]:
    """Return log α (H - H̄), which falls where α falls while there is more entropy than is wanted.

    Haarnoja et al. 2018, "Soft actor-critic algorithms and applications", arXiv 1812.05905, equation 18, with log α in the
    place of α as in the authors' code: α stays positive, and its steps are of the same size whatever α is.

    Args:
        params: `log` α.
        entropy: `[]` H of the policy, -E[log π(a | s)].
        target_entropy: `[]` H̄.
    """
    return params["log"] * (entropy - target_entropy), ()


def wanted_entropy(state: State) -> Tensor:
    """Return H̄, `[]`, of actions with D dimensions."""
    assert state.actions is not None
    return state.config.target_entropy * float(state.actions.size)  # type: ignore[no-any-return]


def adapt(state: State, entropy: Tensor, target_entropy: Tensor) -> State:
    """Take one gradient step of the temperature, where it is learnt, and report it.

    Args:
        state: The agent before.
        entropy: `[]` of its policy.
        target_entropy: `[]`.
    """
    if state.config.learn_temperature:
        loss = functools.partial(temperature_loss, entropy=entropy, target_entropy=target_entropy)
        state, *_ = agent.descend(state, "temperature", loss, agent.actor_learning_rate(state))
    figures = {"entropy": entropy, "temperature": temperature(state)}
    return tree.replace(state, metrics=state.metrics | figures)
