"""What DDPG and TD3 share: an actor that is a function of the state, and the noise with which it explores."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl import nets
from funcrl.algos import replayed
from funcrl.algos.off_policy_actor_critic import agent
from funcrl.algos.off_policy_actor_critic.agent import State
from funcrl.core import checks, random


def actor(config: Any, space: spaces.Space[Any], size: int) -> tuple[nets.Network, int]:
    """Return the template of an actor for D actions, and how many numbers it puts out."""
    return nets.own(checks.name_of(config), "config.actor", config.actor, space) or replayed.network(
        config, space, size
    ), size


def policy(state: State, params: nets.Params, obs: Any) -> Tensor:
    """Return μ(s) in ±1, `[..., D]`, for one observation s, or for several."""
    return torch.tanh(nets.apply(state.actor, params, obs))


def act(state: State, obs: Any, key: Tensor, noise: Any = ()) -> tuple[Tensor, dict[str, Tensor]]:
    """Return μ(s) and noise, within the bounds; before the buffer is warm any action.

    Where the noise is Ornstein and Uhlenbeck's, `noise` is its value, `[..., D]`, see `next_noise`.
    """
    k_random, k_noise = random.split(key, 2)
    unit = policy(state, state.params["actor"], obs)
    if state.config.noise == "normal":
        noise = state.config.exploration_noise * random.normal(k_noise, unit.shape)
    else:
        found = tuple(noise.shape) if isinstance(noise, Tensor) else noise
        hold = (
            f"be that of each action, of shape {tuple(unit.shape)}, where config.noise is ornstein_uhlenbeck"
        )
        instead = "Write next_noise(state, initial_noise(state), key), with an axis for several."
        checks.require(found == tuple(unit.shape), "act", "noise", hold, found, instead)
    return agent.explored(state, torch.clamp(unit + noise, -1.0, 1.0), k_random), {}


def greedy(state: State, obs: Any) -> Tensor:
    """Return μ(s)."""
    assert state.actions is not None
    return state.actions.of_unit(policy(state, state.params["actor"], obs))


def initial_noise(state: State) -> Any:
    """Return the noise before an episode's first step, `[D]`; `()` where it is drawn anew in each step."""
    if state.config.noise == "normal":
        return ()
    assert state.actions is not None
    return torch.zeros(state.actions.size, dtype=torch.float32, device=state.step.device)


def next_noise(state: State, noise: Any, key: Tensor) -> Any:
    """Return the noise of the next step, x ← (1 - θ) x + σ ε.

    Uhlenbeck & Ornstein 1930, "On the theory of the Brownian motion", in unit steps as Lillicrap et al. 2016 have it.

    Args:
        state: The agent.
        noise: `[..., D]` x, or `()`.
        key: `[2]` int32.
    """
    if state.config.noise == "normal":
        return ()
    config = state.config
    return (1.0 - config.noise_decay) * noise + config.exploration_noise * random.normal(key, noise.shape)
