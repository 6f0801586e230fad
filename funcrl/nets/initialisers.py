"""Initialisers: pure functions `(key, shape) -> Tensor`, made by the functions below.

Weights have torch's layout `[out, in, ...]`, so fan-in is the product of all axes but the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from funcrl.core import random
from funcrl.core.checks import require

Initialiser = Callable[[Tensor, Sequence[int]], Tensor]


def _fans(function: str, shape: Sequence[int]) -> tuple[int, int]:
    require(len(shape) >= 2, function, "shape", "have at least two axes", tuple(shape))
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive


def constant(value: float) -> Initialiser:
    """Return an initialiser that fills with one value; equal to `torch.nn.init.constant_`.

    >>> constant(2.0)(random.key(0), (2,))
    tensor([2., 2.])
    """
    return lambda key, shape: torch.full(tuple(shape), value, dtype=torch.float32, device=key.device)


def normal(std: float = 0.01) -> Initialiser:
    """Return an initialiser that draws from N(0, std²).

    >>> normal()(random.key(0), (3, 4)).shape
    torch.Size([3, 4])
    """
    return lambda key, shape: std * random.normal(key, shape)


def uniform(bound: float) -> Initialiser:
    """Return an initialiser that draws uniformly from [-bound, bound).

    >>> bool((uniform(0.1)(random.key(0), (9,)).abs() <= 0.1).all())
    True
    """
    return lambda key, shape: random.uniform(key, shape, -bound, bound)


def xavier_uniform(gain: float = 1.0) -> Initialiser:
    """Return Xavier's uniform initialiser, bound gain · √(6 / (fan_in + fan_out)).

    Source: Glorot & Bengio 2010, equation 16.

    >>> xavier_uniform()(random.key(0), (3, 4)).shape
    torch.Size([3, 4])
    """

    def initialise(key: Tensor, shape: Sequence[int]) -> Tensor:
        fan_in, fan_out = _fans("nets.xavier_uniform", shape)
        return uniform(gain * math.sqrt(6.0 / (fan_in + fan_out)))(key, shape)

    return initialise


def xavier_normal(gain: float = 1.0) -> Initialiser:
    """Return Xavier's normal initialiser, standard deviation gain · √(2 / (fan_in + fan_out)).

    Source: Glorot & Bengio 2010, equation 12.

    >>> xavier_normal()(random.key(0), (3, 4)).shape
    torch.Size([3, 4])
    """

    def initialise(key: Tensor, shape: Sequence[int]) -> Tensor:
        fan_in, fan_out = _fans("nets.xavier_normal", shape)
        return normal(gain * math.sqrt(2.0 / (fan_in + fan_out)))(key, shape)

    return initialise


def kaiming_uniform(gain: float = math.sqrt(2.0)) -> Initialiser:
    """Return Kaiming's uniform initialiser, bound gain · √(3 / fan_in); √2 is the gain of ReLU.

    Source: He et al. 2015, arXiv 1502.01852, equation 10.

    >>> kaiming_uniform()(random.key(0), (3, 4)).shape
    torch.Size([3, 4])
    """

    def initialise(key: Tensor, shape: Sequence[int]) -> Tensor:
        fan_in, _ = _fans("nets.kaiming_uniform", shape)
        return uniform(gain * math.sqrt(3.0 / fan_in))(key, shape)

    return initialise


def kaiming_normal(gain: float = math.sqrt(2.0)) -> Initialiser:
    """Return Kaiming's normal initialiser, standard deviation gain / √fan_in.

    Source: He et al. 2015, arXiv 1502.01852, equation 10.

    >>> kaiming_normal()(random.key(0), (3, 4)).shape
    torch.Size([3, 4])
    """

    def initialise(key: Tensor, shape: Sequence[int]) -> Tensor:
        fan_in, _ = _fans("nets.kaiming_normal", shape)
        return normal(gain / math.sqrt(fan_in))(key, shape)

    return initialise


def orthogonal(gain: float = 1.0) -> Initialiser:
    """Return an initialiser that draws `gain` times a random orthogonal matrix.

    The Q of a Gaussian matrix, its signs fixed by the diagonal of R so that the distribution is
    uniform (Haar); the flattened `[out, in·…]` matrix has orthonormal rows or columns.

    Source: Saxe et al. 2014, arXiv 1312.6120; the sign rule: Mezzadri 2007, section 5.

    >>> weight = orthogonal()(random.key(0), (2, 5))
    >>> torch.allclose(weight @ weight.T, torch.eye(2), atol=1e-5)
    True
    """

    def initialise(key: Tensor, shape: Sequence[int]) -> Tensor:
        _fans("nets.orthogonal", shape)
        rows, columns = shape[0], math.prod(shape[1:])
        gaussian = random.normal(key, (max(rows, columns), min(rows, columns)))
        q, r = torch.linalg.qr(gaussian)
        signed = torch.where(torch.diagonal(r) < 0, -q, q)
        return gain * (signed if rows >= columns else signed.T).reshape(tuple(shape))

    return initialise


def scaled(gain: float | None) -> dict[str, Initialiser]:
    """Return the initialisers of a layer: orthogonal weights and no biases, or for None those of `torch.nn`.

    >>> scaled(None)
    {}
    """
    return {} if gain is None else {"weight": orthogonal(gain), "bias": constant(0.0)}
