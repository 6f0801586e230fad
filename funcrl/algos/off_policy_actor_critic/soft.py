"""What SAC and TQC share: a policy of normals squashed into ±1, and a temperature that keeps up its entropy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl import nets, policies
from funcrl.algos import replayed
from funcrl.algos.off_policy_actor_critic import agent, smooth
from funcrl.algos.off_policy_actor_critic.agent import State
from funcrl.algos.off_policy_actor_critic.settings import Settings
from funcrl.core import ReplayBatch, checks, random, tree

ACTION_NOISE = ("independent", "smooth")

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
        name = checks.name_of(self)
        checks.settings(self, name, positive=("temperature",), flags=("learn_temperature",))
        checks.number(name, "temperature", self.temperature, -math.inf, math.inf)


@tree.struct
class SoftSettings(TemperatureSettings):
    """Settings of those whose actions are real."""

    target_entropy: float = -1.0
    """H̄ / D: entropy that the policy is to have, in nats for each dimension of actions in ±1; at most log 2"""
    initial_log_std: float = -3.0
    """where action_noise is smooth, log σ of each weight before anything is learnt: features z make exp(this) · |z|"""
    action_noise: str = tree.static(default="independent")
    """independent (of every step anew, the actor puts out σ) or smooth (a function of the observation, one for each window;
    gSDE)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        name = checks.name_of(self)
        checks.number(name, "target_entropy", self.target_entropy, -math.inf, math.log(2.0))
        for finite in ("target_entropy", "initial_log_std"):
            checks.number(name, finite, getattr(self, finite), -math.inf, math.inf)
        checks.known(name, "action_noise", self.action_noise, ACTION_NOISE)
        hold = "name a layer where action_noise is smooth: noise is made of what it puts out"
        fine = self.action_noise != "smooth" or len(self.hidden) > 0
        checks.require(fine, name, "hidden", hold, self.hidden, "Write hidden=(64, 64).")


def actor(config: Any, space: spaces.Space[Any], size: int) -> tuple[nets.Network, int]:
    """Return the template of an actor for D actions, and how many numbers it puts out."""
    if config.action_noise == "smooth":
        return smooth.actor(config, space, size), 2 * size + config.hidden[-1]
    return nets.own(checks.name_of(config), "config.actor", config.actor, space) or replayed.network(
        config, space, 2 * size
    ), 2 * size


def begun(state: State) -> State:
    """Return a new agent that knows log α, and with smooth noise its first σ."""
    if state.config.action_noise == "smooth":
        own = state.params["actor"]
        first = own[smooth.LOG_STD] + state.config.initial_log_std
        state = agent.with_params(state, "actor", own | {smooth.LOG_STD: first})
    return with_temperature(state)


def policy(state: State, params: nets.Params, obs: Any) -> policies.TanhNormal:
    """Return π(· | s) over actions in ±1, `[..., D]`, for one observation s, or for several."""
    assert state.actions is not None
    outputs, unit = nets.apply(state.actor, params, obs), state.actions.unit
    if state.config.action_noise == "smooth":
        return smooth.distribution(outputs, params[smooth.LOG_STD], unit)
    made: Any = policies.Squashed(unit, (state.actions.size,)).distribution(outputs, {})
    return made  # type: ignore[no-any-return]


def sampled(state: State, params: nets.Params, obs: Any, key: Tensor) -> tuple[Tensor, Tensor]:
    """Draw an action in ±1, `[B, D]`, and return log π of it too, `[B]`."""
    now = policy(state, params, obs)
    before = now.sample_before(key)
    return now.squash(before), now.log_prob_before(before)


def act(state: State, obs: Any, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an action from the policy; before the buffer is warm any action."""
    k_random, k_policy = random.split(key, 2)
    if state.config.action_noise == "smooth":
        # One function of the observation until the next update.
        k_policy = agent.exploration_key(state)
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
    """Return α, `[]`; where it is not learnt that of the settings, whatever the agent began with."""
    if not state.config.learn_temperature:
        return state.config.temperature  # type: ignore[no-any-return]
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


def descend(
    state: State,
    batch: ReplayBatch,
    seen: Any,
    critic_errors: Callable[[nets.Params, State], agent.Errors],
    actor_loss: Callable[[nets.Params, State], tuple[Tensor, Tensor]],
) -> State:
    """Take one gradient step of the critics, then of the actor, then of the temperature.

    Args:
        state: The agent before.
        batch: `[B]` rows.
        seen: `[B, ...]` what a critic is given of it.
        critic_errors: See `agent.descend_critics`.
        actor_loss: See `agent.descend_actor`; beside it the policy's entropy.
    """
    state = agent.descend_critics(state, batch, seen, critic_errors)
    state, entropy = agent.descend_actor(state, batch.obs, actor_loss)
    return adapt(state, entropy, wanted_entropy(state))


def adapt(state: State, entropy: Tensor, target_entropy: Tensor) -> State:
    """Take one gradient step of the temperature, where it is learnt, and report it.

    Args:
        state: The agent before.
        entropy: `[]` of its policy.
        target_entropy: `[]`.
    """
    if state.config.learn_temperature:
        loss = lambda params, _: temperature_loss(params, entropy, target_entropy)
        state, *_ = agent.descend(state, "temperature", loss, agent.actor_learning_rate(state))
    figures = {"entropy": entropy, "temperature": temperature(state)}
    return tree.replace(state, metrics=state.metrics | figures)
