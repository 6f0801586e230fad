"""What an agent's policy and value are made of: networks and a head, by settings and spaces."""

from __future__ import annotations

import functools
import math
from typing import Any

from gymnasium import spaces
from torch import nn

from funcrl import nets, policies
from funcrl.core import checks


def head(function: str, config: Any, space: Any) -> policies.Head:
    """Return what makes a policy of the actor's outputs."""
    if config.action_noise != "smooth":
        independent = config.action_noise == "independent"
        return policies.for_space(
            function, space, policies.Gaussian if independent else policies.GaussianOfState
        )
    real = isinstance(space, spaces.Box)
    instead = "Write action_noise='independent'."
    checks.require(
        real, function, "env.action_space", "be a Box where action_noise is smooth", space, instead
    )
    return policies.for_space(
        function, space, functools.partial(policies.Smooth, num_features=config.hidden[-1])
    )


def actor(config: Any, seen: spaces.Space[Any], num_outputs: int) -> nn.Module:
    """Return the template of the actor; where noise is smooth it puts out features, behind an activation."""
    if config.action_noise != "smooth":
        return network(config, seen, config.hidden, num_outputs, 0.01)
    features = network(config, seen, config.hidden[:-1], num_outputs, math.sqrt(2.0))
    return nets.activated(features, config.activation)


def network(
    config: Any, seen: spaces.Space[Any], hidden: tuple[int, ...], size: int, gain: float
) -> nn.Module:
    """Return the template of a network that the settings describe, but for its last layer."""
    gains = (math.sqrt(2.0), gain) if config.orthogonal else (None, None)
    return nets.for_observations(
        seen,
        config.channels,
        hidden,
        size,
        stride=config.stride,
        activation=config.activation,
        hidden_gain=gains[0],
        output_gain=gains[1],
    )
