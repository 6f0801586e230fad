"""Threefry-2x32, the generator behind every random number: as tensor operations, and as one operator.

The block function is written twice. `threefry2x32` is its definition, in int32 tensor operations that run
anywhere. On the CPU the operators `funcrl::threefry` and `funcrl::threefry_keys` do the same in
twenty lines of `native.cpp`: a compiler that meets one operator where there were a hundred operations needs half
the time, and the loop uses the processor's vector instructions whatever the shapes. The bits are the
same; on a GPU the definition is traced like any other code, and where there is no C++ compiler
the operators run it.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from funcrl.core import native, operators

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def threefry2x32(key: tuple[Tensor, Tensor], counter: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Encrypt a counter: the 20-round Threefry-2x32 block function.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.2; the
    constants are those of Random123's `threefry.h`.

    Args:
        key: Two int32 tensors.
        counter: Two int32 tensors that broadcast with the key.

    Returns:
        Two int32 tensors of 32 random bits each.

    >>> zero = torch.tensor(0, dtype=torch.int32)
    >>> [hex(int(x) & 0xFFFFFFFF) for x in threefry2x32((zero, zero), (zero, zero))]
    ['0x6b200159', '0x99ba4efe']
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x, y = counter[0] + schedule[0], counter[1] + schedule[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = _rotate_left(y, rotation) ^ x
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + (group + 1)
    return x, y


def _rotate_left(x: Tensor, by: int) -> Tensor:
    # int32 shifts to the right copy the sign bit, so the bits that wrap around are masked.
    return (x << by) | ((x >> (32 - by)) & ((1 << by) - 1))


def words(key: Tensor, counter: Tensor, purpose: int) -> tuple[Tensor, Tensor]:
    """Return the blocks of several counters, `(counter, purpose)` each.

    Args:
        key: `[2]` int32.
        counter: `[C]` int32.
        purpose: Second word of the counters, from 0 to 2³¹ - 1.

    Returns:
        Two `[C]` int32.
    """
    if _has_operator(key):
        first, second = torch.ops.funcrl.threefry(key, counter, purpose).unbind(dim=0)
        return first, second
    return threefry2x32((key[0], key[1]), (counter, torch.full_like(counter, purpose)))


def keys(key: Tensor, counter: Tensor, purpose: int) -> Tensor:
    """Return the blocks of several counters as keys, `[C, 2]` int32; see `words`."""
    if _has_operator(key):
        return torch.ops.funcrl.threefry_keys(key, counter, purpose)  # type: ignore[no-any-return]
    return torch.stack(threefry2x32((key[0], key[1]), (counter, torch.full_like(counter, purpose))), dim=-1)


def _has_operator(key: Tensor) -> bool:
    # A program that leaves this library must do without its operators. Tensors without numbers need but a shape.
    return key.device.type in ("cpu", "meta") and not torch.compiler.is_exporting()


def _call(key: Tensor, counter: Tensor, purpose: int, first: Tensor, second: Tensor, step: int) -> None:
    """Write the blocks' words to every step-th element of two tensors, in C++ or by the definition."""
    key, counter = key.contiguous(), counter.contiguous()
    library = native.library()
    if library is None:
        k0, k1 = key.unsqueeze(-2).unbind(dim=-1)
        x, y = threefry2x32((k0, k1), (counter, torch.full_like(counter, purpose)))
        first[::step], second[::step] = x.reshape(-1), y.reshape(-1)
        return
    number, pointer, count = ctypes.c_int64, ctypes.c_void_p, counter.shape[-1]
    library.funcrl_threefry(
        pointer(key.data_ptr()),
        number(key.numel() // 2),
        pointer(counter.data_ptr()),
        number(count),
        number(count if counter.ndim > 1 else 0),
        ctypes.c_uint32(purpose),
        pointer(first.data_ptr()),
        pointer(second.data_ptr()),
        number(step),
    )


def _threefry(key: Tensor, counter: Tensor, purpose: int) -> Tensor:
    """Key `[*B, 2]`, counter `[*B, C]` or `[C]`; `[2, *B, C]`."""
    out = _empty_words(key, counter, purpose)
    _call(key, counter, purpose, out[0].view(-1), out[1].view(-1), 1)
    return out


def _threefry_keys(key: Tensor, counter: Tensor, purpose: int) -> Tensor:
    """Key `[*B, 2]`, counter `[*B, C]` or `[C]`; `[*B, C, 2]`."""
    out = _empty_keys(key, counter, purpose)
    flat = out.view(-1)
    _call(key, counter, purpose, flat, flat[1:], 2)
    return out


def _empty_words(key: Tensor, counter: Tensor, purpose: int) -> Tensor:
    return key.new_empty((2, *key.shape[:-1], counter.shape[-1]))


def _empty_keys(key: Tensor, counter: Tensor, purpose: int) -> Tensor:
    return key.new_empty((*key.shape[:-1], counter.shape[-1], 2))


def _lead(info: Any, in_dims: Any, key: Tensor, counter: Tensor) -> tuple[Tensor, Tensor]:
    """Put a mapped axis in front of both, unless one counter serves all keys."""
    key_dim, counter_dim, _ = in_dims
    size = info.batch_size
    key = key.expand(size, *key.shape) if key_dim is None else key.movedim(key_dim, 0)
    batch = key.shape[:-1]
    if counter_dim is not None:
        counter = counter.movedim(counter_dim, 0)
        counter = counter.reshape(size, *(1,) * (len(batch) + 1 - counter.ndim), *counter.shape[1:])
        counter = counter.expand(*batch, counter.shape[-1])
    elif counter.ndim > 1:
        counter = counter.expand(*batch, counter.shape[-1])
    return key, counter


def _map_words(info: Any, in_dims: Any, key: Tensor, counter: Tensor, purpose: int) -> Any:
    return torch.ops.funcrl.threefry(*_lead(info, in_dims, key, counter), purpose), 1


def _map_keys(info: Any, in_dims: Any, key: Tensor, counter: Tensor, purpose: int) -> Any:
    return torch.ops.funcrl.threefry_keys(*_lead(info, in_dims, key, counter), purpose), 0


operators.add(
    "threefry(Tensor key, Tensor counter, int purpose) -> Tensor", _threefry, _empty_words, _map_words
)
operators.add(
    "threefry_keys(Tensor key, Tensor counter, int purpose) -> Tensor", _threefry_keys, _empty_keys, _map_keys
)
