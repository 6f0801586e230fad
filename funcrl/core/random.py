"""Random numbers as pure functions of a key.

A key is an int32 tensor of shape `[2]`. The same key gives the same numbers on every device, alone
or under `vmap`, eager or compiled; there is no global state. Use each key once: `split` it (or
`fold_in` a number) to get more.

The generator is Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy
as 1, 2, 3", section 3.2) in counter mode, written in int32 tensor operations. The counter is
`(i, purpose)`: word `i` of a draw, child `i` of a split and `fold_in(key, i)` come from different
blocks, so a key's children never repeat the words that were drawn from it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from funcrl.core import loops, operators, threefry
from funcrl.core.checks import require

_DRAW, _SPLIT, _FOLD = 0, 1, 2

Shape = Sequence[int]

_rows: tuple[int, int] | None = None


@contextlib.contextmanager
def rows_of(first: int, count: int) -> Iterator[None]:
    """Let draws whose first axis has `count` rows be the rows from `first` on of a longer draw, within this context.

    So one of several processes draws for its part of a batch what one process draws there for the whole. It is for
    functions that draw by row alone. `split`, `permutation`, `gamma` and `beta` are as ever.

    >>> with rows_of(2, 3):
    ...     part = uniform(key(0), (3, 2))
    >>> bool((part == uniform(key(0), (8, 2))[2:5]).all())
    True
    """
    global _rows
    before, _rows = _rows, (first, count)
    try:
        yield
    finally:
        _rows = before


def _words(key: Tensor, count: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Return the `count` blocks of a draw from the first on, two `[count]` int32."""
    return threefry.words(
        key, torch.arange(first, first + count, dtype=torch.int32, device=key.device), _DRAW
    )


def _words_of(key: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Return a block an element, two `[elements]` int32."""
    count = math.prod(shape)
    is_part = _rows is not None and len(shape) > 0 and shape[0] == _rows[1]
    return _words(key, count, count // _rows[1] * _rows[0] if _rows is not None and is_part else 0)


def key(seed: int, device: torch.device | str | None = None) -> Tensor:
    """Return the key of a seed.

    Args:
        seed: Integer from 0 to 2⁶⁴ - 1; different seeds give different keys.
        device: Where the key lives.

    Returns:
        `[2]` int32.

    Raises:
        ValueError: When the seed is out of range.
        TypeError: When it is not an integer.

    >>> key(7)
    tensor([0, 7], dtype=torch.int32)
    """
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"random.key: seed must be an integer, got {seed!r}.")
    seed = seed.__index__()
    require(0 <= seed < 2**64, "random.key", "seed", "lie between 0 and 2**64 - 1", seed)
    words = [word - (1 << 32) if word >> 31 else word for word in (seed >> 32, seed & 0xFFFFFFFF)]
    return torch.tensor(words, dtype=torch.int32, device=device)


def split(key: Tensor, num: int = 2) -> Tensor:
    """Return `num` independent keys, one a row.

    Args:
        key: `[2]` int32; not to be used again.
        num: Number of keys, at least 1.

    Returns:
        `[num, 2]` int32. The first rows do not depend on `num`.

    >>> split(key(0), 3).shape
    torch.Size([3, 2])
    """
    require(num >= 1, "random.split", "num", "be at least 1", num)
    return threefry.keys(key, torch.arange(num, dtype=torch.int32, device=key.device), _SPLIT)


def fold_in(key: Tensor, number: int | Tensor) -> Tensor:
    """Return the key that belongs to `number` (an iteration, an index) under `key`.

    Args:
        key: `[2]` int32.
        number: Integer or 0-d integer tensor; its low 32 bits count.

    Returns:
        `[2]` int32.

    >>> bool((fold_in(key(0), 1) == fold_in(key(0), torch.tensor(1))).all())
    True
    """
    if isinstance(number, Tensor):
        counter = number.to(torch.int32).reshape(1)
    else:
        counter = torch.full((1,), (number + 2**31) % 2**32 - 2**31, dtype=torch.int32, device=key.device)
    return threefry.keys(key, counter, _FOLD)[0]


def bits(key: Tensor, shape: Shape = ()) -> Tensor:
    """Return 32 random bits an element.

    Args:
        key: `[2]` int32.
        shape: Shape of the result; fewer than 2³¹ elements.

    Returns:
        `shape` int32, every bit pattern equally likely.

    >>> bits(key(0), (3,)).dtype
    torch.int32
    """
    return _words_of(key, shape)[0].reshape(tuple(shape))


def _unit(words: Tensor) -> Tensor:
    # The 24 high bits: every value is a multiple of 2⁻²⁴, which float32 holds exactly.
    return ((words >> 8) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def uniform(key: Tensor, shape: Shape = (), low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Tensor:
    """Return uniform numbers in [low, high).

    Args:
        key: `[2]` int32.
        shape: Shape of the result.
        low: Smallest value; number or tensor that broadcasts to `shape`.
        high: Upper end, excluded for the unit interval (rounding may reach it for others).

    Returns:
        `shape` float32.

    >>> bool((uniform(key(0), (100,)) < 1).all())
    True
    """
    unit = _unit(bits(key, shape))
    return low + (high - low) * unit


def normal(key: Tensor, shape: Shape = ()) -> Tensor:
    """Return standard normal numbers by the Box-Muller transform.

    √(-2 ln u) cos(2πv) with u in (0, 1] and v in [0, 1) (Box & Muller 1958, equation 1).
    With 24 bits the largest magnitude is 5.77.

    Args:
        key: `[2]` int32.
        shape: Shape of the result.

    Returns:
        `shape` float32.

    >>> normal(key(0), (2, 3)).shape
    torch.Size([2, 3])
    """
    first, second = _words_of(key, shape)
    radius = torch.sqrt(-2.0 * torch.log(1.0 - _unit(first)))
    return (radius * torch.cos(2.0 * math.pi * _unit(second))).reshape(tuple(shape))


def _unsigned(words: Tensor) -> Tensor:
    return words.to(torch.int64) & 0xFFFFFFFF


def randint(key: Tensor, shape: Shape, low: int, high: int) -> Tensor:
    """Return integers from `low` to `high` - 1, each equally likely.

    A 62-bit number modulo the range: no value is favoured by more than 2⁻³⁰ of its probability,
    for any range up to 2³².

    Args:
        key: `[2]` int32.
        shape: Shape of the result.
        low: Smallest value.
        high: One above the largest value.

    Returns:
        `shape` int64.

    Raises:
        ValueError: When the range is empty or wider than 2³².

    >>> sorted(set(randint(key(0), (100,), -1, 2).tolist()))
    [-1, 0, 1]
    """
    require(0 < high - low <= 2**32, "random.randint", "high - low", "lie between 1 and 2**32", high - low)
    first, second = _words_of(key, shape)
    wide = ((_unsigned(first) & 0x3FFFFFFF) << 32) | _unsigned(second)
    return (low + wide % (high - low)).reshape(tuple(shape))


def bernoulli(key: Tensor, probability: float | Tensor = 0.5, shape: Shape | None = None) -> Tensor:
    """Return True with the given probability.

    Args:
        key: `[2]` int32.
        probability: Number or tensor in [0, 1].
        shape: Shape of the result; that of `probability` by default.

    Returns:
        `shape` boolean. Exact at 0 and 1.

    >>> bernoulli(key(0), 1.0, (2,))
    tensor([True, True])
    """
    if shape is None:
        shape = probability.shape if isinstance(probability, Tensor) else ()
    return uniform(key, shape) < probability


def categorical(key: Tensor, logits: Tensor) -> Tensor:
    """Return an index drawn with probability softmax(logits), by inverting the cumulative sum.

    One uniform number an index, where the Gumbel trick takes one a class. A logit of -inf is never
    drawn.

    Args:
        key: `[2]` int32.
        logits: `[..., A]` unnormalised log-probabilities.

    Returns:
        `[...]` int64 in [0, A).

    >>> categorical(key(0), torch.tensor([-torch.inf, 0.0]))
    tensor(1)
    """
    probability = torch.softmax(logits, dim=-1)
    cumulative = loops.prefix_sum(probability, dim=-1)
    threshold = uniform(key, logits.shape[:-1]).unsqueeze(-1) * cumulative[..., -1:]
    # The last possible class that begins at or below the threshold. Asking for possible ones is not
    # redundant: rounding differs from class to class in a prefix sum, so it may rise where p = 0.
    begins = torch.cat([torch.zeros_like(cumulative[..., :1]), cumulative[..., :-1]], dim=-1)
    classes = torch.arange(logits.shape[-1], device=logits.device)
    return torch.where((probability > 0) & (begins <= threshold), classes, 0).amax(dim=-1)


def permutation(key: Tensor, num: int) -> Tensor:
    """Return the integers 0 to `num` - 1 in random order.

    Sorts 62-bit random numbers: two of `num` agree with probability below num² / 2⁶³.

    Args:
        key: `[2]` int32.
        num: Length, at least 1.

    Returns:
        `[num]` int64.

    >>> permutation(key(0), 4).sort().values
    tensor([0, 1, 2, 3])
    """
    require(num >= 1, "random.permutation", "num", "be at least 1", num)
    first, second = _words(key, num)
    numbers = ((_unsigned(first) & 0x3FFFFFFF) << 32) | _unsigned(second)
    if numbers.device.type == "cpu":
        return torch.ops.funcrl.argsort(numbers)  # type: ignore[no-any-return]
    return _argsort(numbers)


def _argsort(numbers: Tensor) -> Tensor:
    """Return places in the order of the numbers, along the last axis: `[*B, N]` int64."""
    return torch.argsort(numbers, dim=-1, stable=True)


operators.add(
    "argsort(Tensor numbers) -> Tensor",
    _argsort,
    torch.empty_like,
    lambda info, in_dims, numbers: (torch.ops.funcrl.argsort(numbers.movedim(in_dims[0], 0)), 0),
)

_ATTEMPTS = 4


def _log_gamma(key: Tensor, shape_parameter: Tensor) -> Tensor:
    """Return logarithms of gamma-distributed numbers, `[...]` like the shape parameters."""
    shape = shape_parameter.shape
    first, second = (
        words.reshape(_ATTEMPTS + 1, *shape)
        for words in _words(key, (_ATTEMPTS + 1) * shape_parameter.numel())
    )
    half = _ATTEMPTS // 2
    # Both numbers of a Box-Muller pair: two attempts from one block.
    radius = torch.sqrt(-2.0 * torch.log(1.0 - _unit(first[:half])))
    angle = 2.0 * math.pi * _unit(second[:half])
    x = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)])
    log_u = torch.log(1.0 - _unit(torch.cat([first[half:_ATTEMPTS], second[half:_ATTEMPTS]])))

    boosted = shape_parameter < 1.0
    d = torch.where(boosted, shape_parameter + 1.0, shape_parameter) - 1.0 / 3.0
    z = x / torch.sqrt(9.0 * d)
    log_1_z = torch.log1p(z)
    # NaN or -∞ where 1 + z is not positive, which is never accepted.
    accepted = log_u < 3.0 * d * (log_1_z - z + z**2 / 2.0 - z**3 / 3.0)
    log_v = torch.zeros_like(d)
    for attempt in reversed(range(_ATTEMPTS)):
        log_v = torch.where(accepted[attempt], 3.0 * log_1_z[attempt], log_v)
    boost = torch.log(1.0 - _unit(first[_ATTEMPTS])) / shape_parameter
    return torch.log(d) + log_v + torch.where(boosted, boost, 0.0)


def _parameters(key: Tensor, shape: Shape | None, *values: float | Tensor) -> list[Tensor]:
    """Return parameters of a distribution as float32 tensors of one shape."""
    tensors = [
        value.to(torch.float32)
        if isinstance(value, Tensor)
        else torch.full((), value, dtype=torch.float32, device=key.device)
        for value in values
    ]
    if shape is None:
        return list(torch.broadcast_tensors(*tensors))  # type: ignore[no-untyped-call]
    return [tensor.expand(tuple(shape)) for tensor in tensors]


def gamma(key: Tensor, shape_parameter: float | Tensor, shape: Shape | None = None) -> Tensor:
    """Return numbers with density x^(a-1) e^(-x) / Γ(a), a the shape parameter.

    With d = a - 1/3, z = x / √(9d) and v = (1 + z)³, x standard normal and u uniform, d v is such a
    number if v > 0 and ln u < x²/2 + d - d v + d ln v = 3d (ln(1 + z) - z + z²/2 - z³/3), where the
    form on the right keeps its digits for large a. For a < 1 it is a number for a + 1 times u^(1/a).

    Source: Marsaglia & Tsang 2000, "A simple method for generating gamma variables", sections 3, 6.
    Departure: four attempts instead of as many as it takes, so that it vmaps and compiles. All four
    fail with a probability of less than 6e-6 (4.9 % each at a = 1, fewer for larger a); the number
    is then a - 1/3, close to the median. For small a many results are 0, too small for float32.

    Args:
        key: `[2]` int32.
        shape_parameter: a > 0, number or tensor that broadcasts to `shape`.
        shape: Shape of the result; that of `shape_parameter` by default.

    Returns:
        `shape` float32, not negative; NaN where a is negative or NaN.

    >>> bool((gamma(key(0), torch.tensor([0.5, 2.0])) > 0).all())
    True
    """
    (expanded,) = _parameters(key, shape, shape_parameter)
    return torch.exp(_log_gamma(key, expanded))


def beta(key: Tensor, a: float | Tensor, b: float | Tensor, shape: Shape | None = None) -> Tensor:
    """Return numbers with density proportional to x^(a-1) (1 - x)^(b-1).

    g_a / (g_a + g_b) with g of `gamma` (Devroye 1986, "Non-uniform random variate generation",
    section IX.4.1), from their logarithms, because for small a and b both can be too small for float32.

    Args:
        key: `[2]` int32.
        a: Number or tensor > 0 that broadcasts to `shape`.
        b: Likewise.
        shape: Shape of the result; the common shape of a and b by default.

    Returns:
        `shape` float32 in [0, 1]; NaN where a or b is negative or NaN.

    >>> bool((beta(key(0), 2.0, 3.0, (100,)) < 1).all())
    True
    """
    log_a, log_b = _log_gamma(key, torch.stack(_parameters(key, shape, a, b)))
    return torch.sigmoid(log_a - log_b)
