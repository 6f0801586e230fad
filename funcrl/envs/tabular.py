"""What environments with finitely many states share: a table of outcomes, and drawing one of them.

Such an environment has a method `outcomes(position, action)` that lists what may follow, and its
`transition` draws one of these. Planning reads the same list, so both see one environment.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.core import random, tree


@tree.struct
class Place:
    """State of an environment with finitely many states: where it is, and how it came there.

    The reward is remembered because the same two positions can follow each other in ways that pay
    differently: slipping off a cliff and bumping into a wall may both end where they began.
    """

    position: Tensor
    """`[]` int64, number of the state"""
    reward: Tensor
    """`[]` float32, what the outcome that led here paid; 0 at the beginning"""
    terminated: Tensor
    """`[]` boolean, whether the episode ended with it"""


@tree.struct
class Outcomes:
    """All that may follow from one position and one action, K possibilities."""

    probability: Tensor
    """`[K]` float32, sums to one"""
    position: Tensor
    """`[K]` int64, number of the state that follows"""
    reward: Tensor
    """`[K]` float32"""
    terminated: Tensor
    """`[K]` boolean"""


def begin(position: Tensor) -> Place:
    """Return the place in which an episode begins.

    Args:
        position: `[]` int64.
    """
    device = position.device
    return Place(
        position=position,
        reward=torch.zeros((), device=device),
        terminated=torch.zeros((), dtype=torch.bool, device=device),
    )


def draw(key: Tensor, outcomes: Outcomes) -> Place:
    """Return one of the outcomes, drawn with its probability.

    Args:
        key: `[2]` int32.
        outcomes: K possibilities.

    >>> two = Outcomes(torch.tensor([0.0, 1.0]), torch.tensor([3, 4]), torch.ones(2), torch.ones(2) > 0)
    >>> int(draw(random.key(0), two).position)
    4
    """
    choice = random.categorical(key, torch.log(outcomes.probability))
    return Place(
        position=outcomes.position[choice],
        reward=outcomes.reward[choice],
        terminated=outcomes.terminated[choice],
    )
