"""Smooth exploration for squashed normals: noise that is a function of what the actor sees, see `policies.smooth`.

Raffin, Kober & Stulp 2021, "Smooth exploration for robotic reinforcement learning", arXiv 2005.05719 (gSDE), as their
reference code has it for SAC: means are kept within ±2 before the tanh, and gradients reach the features through the
spread too.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from funcrl import nets, policies
from funcrl.algos import replayed
from funcrl.core import checks, random
from funcrl.nets import initialisers
from funcrl.nets.mlp import Linear
from funcrl.policies.bounds import Bounds

LOG_STD = "log_std"

LARGEST_MEAN = 2.0
"""Before the tanh."""


class SmoothActor(nn.Module):
    """A network whose last layer has a spread for each of its weights.

    It puts out D means, D log σ of this state, and the Z features that both are made of.
    """

    def __init__(self, body: nn.Module, num_features: int, size: int) -> None:
        super().__init__()
        self.initialisers = {LOG_STD: initialisers.constant(0.0)}
        self.body = body
        self.mean = Linear(num_features, size, None)
        self.log_std = nn.Parameter(torch.empty(num_features, size, dtype=torch.float32, device="meta"))

    def forward(self, obs: object) -> Tensor:
        """Map `[...]` observations to `[..., 2 D + Z]`."""
        features = self.body(obs)
        mean = torch.clamp(self.mean(features), -LARGEST_MEAN, LARGEST_MEAN)
        variance = (features**2) @ torch.exp(2.0 * self.log_std)
        # All features may be zero; the reference has the same floor.
        return torch.cat([mean, 0.5 * torch.log(variance + 1e-6), features], dim=-1)


def actor(config: Any, space: spaces.Space[Any], size: int) -> nn.Module:
    """Return the template of such an actor; the user's own network, where there is one, puts out the features."""
    body, name = config.actor, checks.name_of(config)
    if body is not None:
        params = nets.init(body, random.key(0, "cpu"))
        nets.check_output(name, "actor", body, params, space, config.hidden[-1])
    else:
        features = replayed.network(config, space, config.hidden[-1], config.hidden[:-1])
        body = nets.activated(features, config.activation)
    return _actor(body, config.hidden[-1], size)


def distribution(outputs: Tensor, log_std: Tensor, bounds: Bounds) -> policies.SmoothTanhNormal:
    """Return the policy of such an actor.

    Args:
        outputs: `[..., 2 D + Z]`.
        log_std: `[Z, D]` log σ of its weights.
        bounds: Of D dimensions.
    """
    size = log_std.shape[-1]
    mean, spread, features = torch.split(outputs, [size, size, log_std.shape[0]], dim=-1)
    return policies.SmoothTanhNormal(mean, spread, bounds=bounds, features=features, scale=torch.exp(log_std))


@functools.cache
def _actor(body: nn.Module, num_features: int, size: int) -> nn.Module:
    return SmoothActor(body, num_features, size)
