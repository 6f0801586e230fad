"""How operations are written for the compiler on a CPU: the same numbers to rounding, in less time.

Tracing replaces an operation by what stands here, in every program alike, so that no algorithm has to
be written for speed. Each rewrite is tested against the operation that it replaces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from funcrl.core import internals, native, operators

THIN = 4
"""Matrices this narrow are multiplied by loops that fuse with what follows: the libraries' kernels for
products run at a tenth of their rate there."""

SMALL = 1 << 18
"""Elements of a second factor that stays in the processor's cache, of 1 MiB; the libraries know how to
multiply larger ones piece by piece, and take longer to begin."""

_TANH_CLAMP = 7.90531110763549805
_TANH_NUMERATOR = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_TANH_DENOMINATOR = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)


def tanh(x: Tensor) -> Tensor:
    """Return tanh by the rational function that Eigen and XLA use, within 4e-7; a third faster than by exp.

    Other types than float32 are left as they are.

    >>> tanh(torch.tensor([0.0, 1.0, 20.0]))
    tensor([0.0000, 0.7616, 1.0000])
    """
    if x.dtype != torch.float32:
        return NotImplemented  # type: ignore[no-any-return]
    x = torch.clamp(x, -_TANH_CLAMP, _TANH_CLAMP)
    square = x * x
    return x * _polynomial(_TANH_NUMERATOR, square) / _polynomial(_TANH_DENOMINATOR, square)


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    first, *rest = coefficients
    total = torch.full_like(x, first)
    for coefficient in rest:
        total = total * x + coefficient
    return total


def _polynomial_in_cpp(coefficients: tuple[float, ...]) -> str:
    first, *rest = coefficients
    total = f"N({first})"
    for coefficient in rest:
        total = f"({total} * square + N({coefficient}))"
    return total


_TANH_IN_CPP = f"""[](auto x) {{{{
    using N = decltype(x);
    if constexpr (std::is_same_v<N, float>)
        x = min_propagate_nan(max_propagate_nan(x, N(-{_TANH_CLAMP})), N({_TANH_CLAMP}));
    else
        x = at::vec::clamp_max(at::vec::clamp_min(x, N(-{_TANH_CLAMP})), N({_TANH_CLAMP}));
    auto square = x * x;
    return x * {_polynomial_in_cpp(_TANH_NUMERATOR)} / {_polynomial_in_cpp(_TANH_DENOMINATOR)};
}}}}({{x}})"""
"""`tanh` once more, operation by operation, as C++"""


def bmm(a: Tensor, b: Tensor) -> Tensor:
    """Return a · b for batches of matrices that are thin or small.

    Args:
        a: `[B, M, K]`.
        b: `[B, K, N]`.

    Returns:
        `[B, M, N]`; NotImplemented where the compiler knows better.
    """
    if not a.is_floating_point() or not _fits(a, b) or 0 in (*a.shape, *b.shape):
        return NotImplemented  # type: ignore[no-any-return]
    if min(a.shape[1], b.shape[2]) <= THIN < a.shape[2]:
        return _thin(a, b)
    if a.shape[2] <= THIN and b.stride(2) == 1 and min(a.shape[1], b.shape[2]) > THIN:
        products = [a[:, :, k : k + 1] * b[:, k : k + 1, :] for k in range(a.shape[2])]
        return _sum(products)
    if a.dtype == torch.float32 and b.shape[1] * b.shape[2] <= SMALL and native.library() is not None:
        return torch.ops.funcrl.bmm(a, b)  # type: ignore[no-any-return]
    return NotImplemented  # type: ignore[no-any-return]


def _fits(a: Tensor, b: Tensor) -> bool:
    """Return whether these are factors; what says so where they are not is the operation that is replaced."""
    if a.ndim != 3 or b.ndim != 3 or a.dtype != b.dtype:
        return False
    return a.shape[0] == b.shape[0] and a.shape[2] == b.shape[1]


def _thin(a: Tensor, b: Tensor) -> Tensor:
    """Return a · b where it has few rows or columns.

    What is read lies side by side. So do a row's elements in the result where there are few rows: as columns they
    would fill a quarter of a vector in all that follows.
    """
    if b.shape[2] <= THIN and a.stride(1) == 1:
        columns = [(a * b[:, :, n].unsqueeze(1)).sum(dim=2) for n in range(b.shape[2])]
        return torch.stack(columns, dim=1).transpose(1, 2)
    if a.shape[1] <= THIN and b.stride(2) == 1:
        rows = [(a[:, m].unsqueeze(2) * b).sum(dim=1) for m in range(a.shape[1])]
        return torch.stack(rows, dim=1)
    return (a.unsqueeze(2) * b.transpose(1, 2).unsqueeze(1)).sum(dim=3)


def _sum(terms: list[Tensor]) -> Tensor:
    total, *rest = terms
    for term in rest:
        total = total + term
    return total


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    """The operator: `[B, M, K]` times `[B, K, N]`; `native.cpp` has what compiled programs run."""
    return torch.bmm(a, b)


operators.add("bmm(Tensor a, Tensor b) -> Tensor", _bmm, lambda a, b: a.new_empty((*a.shape[:2], b.shape[2])))


def _as_it_is(*arguments: Any, **options: Any) -> Any:
    return NotImplemented


def for_cpu() -> dict[Any, Callable[..., Any]]:
    """Return the compiler's own decompositions with these rewrites in front."""
    table = dict(internals.decompositions())  # a copy: other devices have the compiler's own
    aten = torch.ops.aten
    otherwise = table.get(aten.bmm.default, _as_it_is)
    one_otherwise = table.get(aten.mm.default, _as_it_is)

    def product(a: Tensor, b: Tensor, **options: Any) -> Tensor:
        result = NotImplemented if options else bmm(a, b)
        return otherwise(a, b, **options) if result is NotImplemented else result

    def one_product(a: Tensor, b: Tensor, **options: Any) -> Tensor:
        result = NotImplemented if options else bmm(a.unsqueeze(0), b.unsqueeze(0))
        return one_otherwise(a, b, **options) if result is NotImplemented else result.squeeze(0)

    scaled_otherwise = table.get(aten.mul.Scalar, _as_it_is)

    def scaled(x: Tensor, factor: Any) -> Any:
        # vmap of a linear layer multiplies the bias by 1. The compiler counts what an element takes, and writes
        # to memory what takes too much: here the mask of a ReLU, in bytes, one by one.
        return x if type(factor) is int and factor == 1 else scaled_otherwise(x, factor)

    if internals.write_as("tanh", _TANH_IN_CPP):
        table.pop(aten.tanh.default, None)
    else:
        table[aten.tanh.default] = tanh
    return table | {
        aten.bmm.default: product,
        aten.mm.default: one_product,
        aten.mul.Scalar: scaled,
    }
