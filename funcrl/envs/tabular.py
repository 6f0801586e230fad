"""What environments with finitely many states share: a table of outcomes, and drawing one of them.

Such an environment has a method `outcomes(position, action, dtype)` that lists what may follow, and
its `transition` draws one of these. Planning reads the same list in float64, so both see one
environment.
"""

from __future__ import annotations

import functools

import torch
from gymnasium import spaces
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
    """`[K]` float32, or float64 where that was asked for; sums to one"""
    position: Tensor
    """`[K]` int64, number of the state that follows"""
    reward: Tensor
    """`[K]`, likewise"""
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
        reward=torch.zeros((), dtype=torch.float32, device=device),
        terminated=torch.zeros((), dtype=torch.bool, device=device),
    )


def draw(key: Tensor, outcomes: Outcomes) -> Place:
    """Return one of the outcomes, drawn with its probability; a single one costs no random number.

    Args:
        key: `[2]` int32.
        outcomes: K possibilities.

    >>> two = Outcomes(torch.tensor([0.0, 1.0]), torch.tensor([3, 4]), torch.ones(2), torch.ones(2) > 0)
    >>> int(draw(random.key(0), two).position)
    4
    """
    possibilities = Place(outcomes.position, outcomes.reward, outcomes.terminated)
    if outcomes.probability.shape[0] == 1:
        return tree.index(possibilities, 0)
    return tree.index(possibilities, random.categorical(key, torch.log(outcomes.probability)))


def number(value: float | Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a number of an environment as a tensor, without a detour through float32.

    Args:
        value: A number, or a tensor that `vmap` may map.
        dtype: Of the result.
        device: Where the result is to live, unless `value` is a tensor already.

    >>> number(0.1, torch.float64, torch.device("cpu"))
    tensor(0.1000, dtype=torch.float64)
    """
    if isinstance(value, Tensor):
        return value.to(dtype)
    return torch.full((), value, dtype=dtype, device=device)


def headings(action: Tensor, is_slippery: bool) -> Tensor:
    """Return the directions in which an agent may really move.

    Args:
        action: `[]` the direction it wants, 0 to 3 clockwise or anticlockwise around.
        is_slippery: Whether it may slip to either side instead.

    Returns:
        `[1]`, or `[3]` with the one it wants in the middle.

    >>> headings(torch.tensor(0), True)
    tensor([3, 0, 1])
    """
    if not is_slippery:
        return action.reshape(1)
    return (action + torch.arange(-1, 2, device=action.device)) % 4


@functools.cache
def discrete(size: int) -> spaces.Discrete:
    """Return the space of the numbers 0 to `size` - 1."""
    return spaces.Discrete(size)
