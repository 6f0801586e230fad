"""What an agent remembers within an episode, and how it learns to.

    h_t = cell(φ(s_t), h_{t-1}),  h_{-1} = 0 where an episode begins;  π(a | h_t),  V(h_t)

One cell stands in front of actor and critic. A window is cut into sequences of L steps. Each begins with what was
remembered when it was collected, as R2D2 begins with a stored state (Kapturowski et al. 2019, section 3), and gradients
go back to its first step: back-propagation through time, truncated. An episode that begins within a sequence
begins there with nothing. A gradient step is taken on whole sequences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl import nets
from funcrl.core import Transition, checks, tree


def network(config: Any, observations: spaces.Space[Any]) -> nets.Recurrent | None:
    """Return what remembers observations of a space; None where the settings ask for nothing."""
    if not getattr(config, "is_recurrent", False):
        return None
    given = (config.recurrent_cell, config.recurrent_size, config.channels, config.stride, config.activation)
    return nets.recurrent(observations, *given)


def space(config: Any) -> spaces.Box:
    """Return the space of what actor and critic see in the place of an observation."""
    return spaces.Box(-np.inf, np.inf, (config.recurrent_size,), np.float32)


def rows(config: Any, window: Transition, data: Any) -> Any:
    """Return what is learnt from a window as rows: steps, or sequences in an agent that remembers.

    Args:
        config: The settings.
        window: `[T, N, ...]`.
        data: A batch, `[T, N, ...]`, with `carry` and `begins`, which are set here.

    Returns:
        `[T · N, ...]`; or `[T · N / L, L, ...]`, with `carry` `[T · N / L, H]` each before the first step, and `begins`
        `[T · N / L, L]`.
    """
    if not config.is_recurrent:
        return tree.map(lambda x: x.flatten(0, 1), data)
    over = (window.terminated | window.truncated)[:-1]
    begins = torch.cat([torch.zeros_like(over[:1]), over])
    length, steps = config.sequence_length, over.shape[0] + 1
    hold = f"have a multiple of sequence_length = {length} steps"
    checks.require(steps % length == 0, f"{checks.name_of(config)[:-7]}.prepare", "window", hold, steps)

    def sequences(x: Tensor) -> Tensor:
        return x.reshape(-1, length, *x.shape[1:]).movedim(2, 1).flatten(0, 1)

    cut = tree.map(sequences, tree.replace(data, begins=begins))
    return tree.replace(cut, carry=tree.map(lambda x: sequences(x)[:, 0], window.extras["carry"]))
