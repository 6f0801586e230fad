"""The dueling network: one body, two streams, for the value of a state and the advantages of its actions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from gymnasium import spaces
from torch import Tensor, nn

from funcrl.core import checks
from funcrl.nets.mlp import ACTIVATIONS, MLP
from funcrl.nets.observations import for_observations

AGGREGATIONS = ("mean", "max")


class Dueling(nn.Module):
    """Q(s, ·) from V(s) and A(s, ·), one number of each or several; built by `dueling`, on the meta device."""

    def __init__(
        self,
        body: nn.Module,
        width: int,
        stream: int,
        num_actions: int,
        activation: str,
        aggregation: str,
        gain: float | None,
        size: int,
    ) -> None:
        super().__init__()
        self.aggregation, self.size = aggregation, size
        self.body = nn.Sequential(body, ACTIVATIONS[activation]())
        layers: dict[str, Any] = {
            "activation": activation,
            "hidden_gain": gain,
            "output_gain": gain,
            "input_axes": 1,
        }
        self.value = MLP((width, stream, size), **layers)
        self.advantage = MLP((width, stream, num_actions * size), **layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map observations `[...]` to `[..., A · size]`, the numbers of the first action first."""
        features = self.body(x)
        value, advantage = self.value(features), self.advantage(features)
        advantage = advantage.reshape(*value.shape[:-1], -1, self.size)
        if self.aggregation == "max":
            baseline = advantage.amax(dim=-2, keepdim=True)
        else:
            baseline = advantage.mean(dim=-2, keepdim=True)
        return (value.unsqueeze(-2) + advantage - baseline).flatten(start_dim=-2)  # type: ignore[no-any-return]


def dueling(
    space: spaces.Space[Any],
    channels: Sequence[int],
    hidden: Sequence[int],
    num_actions: int,
    *,
    stride: int | Sequence[int] = 2,
    activation: str = "relu",
    aggregation: str = "mean",
    gain: float | None = None,
    size: int = 1,
) -> nn.Module:
    """Return the template of a dueling network.

    Source: Wang et al. 2016, arXiv 1511.06581, equations 8 and 9; with a size above 1, for each atom
    of a distribution, Hessel et al. 2018, arXiv 1710.02298.

    Args:
        space: Of one observation, see `for_observations`.
        channels: Of each convolution, where there are images.
        hidden: Widths of the body's hidden layers, and last that of the hidden layer in each stream.
        num_actions: A.
        stride: Of every convolution, or one for each.
        activation: One of `elu`, `gelu`, `relu`, `silu`, `tanh`.
        aggregation: `mean` or `max`, what is subtracted from the advantages.
        gain: Scale of orthogonal weights; None for U(±1/√fan_in).
        size: Numbers that the state and each action have.

    Raises:
        ValueError: When a size or a name is not possible.

    >>> network = dueling(spaces.Box(-1, 1, (4,)), (), (8, 6), 2)
    >>> sum(p.numel() for p in network.parameters())  # 4·8+8, and 8·6+6 twice, 6+1, 6·2+2
    169
    """
    name = "nets.dueling"
    checks.known(name, "activation", activation, ACTIVATIONS)
    checks.known(name, "aggregation", aggregation, AGGREGATIONS)
    hold = "hold two widths at least, those of the body and last that of the two streams"
    checks.require(len(hidden) >= 2, name, "hidden", hold, tuple(hidden))
    *shared, width, stream = hidden
    body = for_observations(
        space,
        channels,
        shared,
        width,
        stride=stride,
        activation=activation,
        hidden_gain=gain,
        output_gain=gain,
    )
    return _cached(body, width, stream, num_actions, activation, aggregation, gain, size)


@functools.cache
def _cached(*arguments: object) -> nn.Module:
    return Dueling(*arguments)  # type: ignore[arg-type]
