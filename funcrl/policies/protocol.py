"""What a distribution over actions is, and what makes one of a network's outputs.

`[...]` stands for axes in front: none for one observation, `[B]` for several. Distributions are pytrees, made anew
inside each program; heads are part of the program and hold no tensors.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

Parameters = dict[str, Tensor]
"""what a head learns beside the network's parameters, by name"""


class Distribution(Protocol):
    """Actions of one or of several observations, each drawn by itself."""

    def sample(self, key: Tensor) -> Any:
        """Draw an action, `[..., *action]`. For real actions it has a gradient in the parameters."""

    def mode(self) -> Any:
        """Return the most probable action, the first of several, `[..., *action]`."""

    def log_prob(self, action: Any) -> Tensor:
        """Return the logarithm of an action's probability, or density, `[...]`.

        Raises:
            ValueError: When the actions are not as many, or have another shape.
        """

    def entropy(self) -> Tensor:
        """Return the entropy in nats, `[...]`."""

    def kl(self, other: Any) -> Tensor:
        """Return KL(self ‖ other) to a distribution of the same kind, `[...]`."""


class Choosing(Distribution, Protocol):
    """Choices, of which some may be ruled out: `Categorical`, `MultiCategorical`, and these reshaped."""

    def masked(self, valid: Tensor) -> Choosing:
        """Return the distribution of valid actions alone.

        Args:
            valid: `[..., A]` boolean, the actions of one choice after those of the other; at least one of each is
                valid.
        """


class Head(Protocol):
    """What makes a distribution of the outputs of a network, for one action space. Hashable."""

    @property
    def num_outputs(self) -> int:
        """How many numbers the network has to put out."""

    def parameters(self, device: torch.device) -> Parameters:
        """Return what is learnt beside the network, before the first update; often nothing."""

    def distribution(self, outputs: Tensor, parameters: Parameters) -> Distribution:
        """Return the distribution of the actions.

        Args:
            outputs: `[..., num_outputs]` of the network.
            parameters: Like those of `parameters`.
        """
