"""Threefry-2x32, the generator behind every random number: as tensor operations, and as one operator.

The block function is written twice. `threefry2x32` is its definition, in int32 tensor operations that run
anywhere. On the CPU the operators `funcrl::threefry` and `funcrl::threefry_keys` do the same in
twenty lines of C: a compiler that meets one operator where there were a hundred operations needs half
the time, and the loop uses the processor's vector instructions whatever the shapes. The bits are the
same; on a GPU the definition is traced like any other code, and where there is no C compiler the
operators run it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from funcrl.core import operators, store

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA

_SOURCE = r"""
#include <stdint.h>
#define CHUNK 256
#define ROUND(r) x[i] += y[i]; y[i] = (y[i] << r) | (y[i] >> (32 - r)); y[i] ^= x[i];
#define FOUR(a, b, c, d) ROUND(a) ROUND(b) ROUND(c) ROUND(d)
#define INJECT(k, l, n) x[i] += k[i]; y[i] += l[i] + n;

/* Block (b, c) encrypts the counter (counter[b * counter_step + c], purpose) with key b; its two words
   go to first[n * step] and second[n * step], n = b * count + c. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
void threefry(const uint32_t *key, int64_t num_keys, const uint32_t *counter, int64_t count,
              int64_t counter_step, uint32_t purpose, uint32_t *first, uint32_t *second, int64_t step) {
  uint32_t k0[CHUNK], k1[CHUNK], k2[CHUNK], x[CHUNK], y[CHUNK];
  int64_t b = 0, c = 0;
  for (int64_t begin = 0; begin < num_keys * count; begin += CHUNK) {
    int64_t rest = num_keys * count - begin, size = rest < CHUNK ? rest : CHUNK;
    for (int64_t i = 0; i < size; i++) {
      k0[i] = key[2 * b];
      k1[i] = key[2 * b + 1];
      x[i] = counter[b * counter_step + c];
      if (++c == count) { c = 0; b++; }
    }
    for (int64_t i = 0; i < size; i++) {
      k2[i] = k0[i] ^ k1[i] ^ 0x1BD11BDA;
      x[i] += k0[i];
      y[i] = purpose + k1[i];
      FOUR(13, 15, 26, 6) INJECT(k1, k2, 1)
      FOUR(17, 29, 16, 24) INJECT(k2, k0, 2)
      FOUR(13, 15, 26, 6) INJECT(k0, k1, 3)
      FOUR(17, 29, 16, 24) INJECT(k1, k2, 4)
      FOUR(13, 15, 26, 6) INJECT(k2, k0, 5)
    }
    if (step == 1) {
      for (int64_t i = 0; i < size; i++) first[begin + i] = x[i];
      for (int64_t i = 0; i < size; i++) second[begin + i] = y[i];
    } else {
      for (int64_t i = 0; i < size; i++) {
        first[2 * (begin + i)] = x[i];
        first[2 * (begin + i) + 1] = y[i];
      }
    }
  }
}
"""


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
        return torch.ops.funcrl.threefry(key, counter, purpose)  # type: ignore[no-any-return]
    return threefry2x32((key[0], key[1]), (counter, torch.full_like(counter, purpose)))


def keys(key: Tensor, counter: Tensor, purpose: int) -> Tensor:
    """Return the blocks of several counters as keys, `[C, 2]` int32; see `words`."""
    if _has_operator(key):
        return torch.ops.funcrl.threefry_keys(key, counter, purpose)  # type: ignore[no-any-return]
    return torch.stack(threefry2x32((key[0], key[1]), (counter, torch.full_like(counter, purpose))), dim=-1)


def _has_operator(key: Tensor) -> bool:
    return key.device.type == "cpu"


@functools.cache
def _native() -> Callable[..., None] | None:
    """Return the C function, built once for all processes; None where that cannot be done."""
    path = store.folder() / f"threefry-{hashlib.sha256(_SOURCE.encode()).hexdigest()[:16]}.so"
    try:
        if not path.exists():
            _build(path)
        function = ctypes.CDLL(str(path)).threefry
    except (OSError, subprocess.SubprocessError):
        return None
    function.restype = None
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    function.argtypes = [
        pointer,
        number,
        pointer,
        number,
        number,
        ctypes.c_uint32,
        pointer,
        pointer,
        number,
    ]
    return function


def _build(path: Path) -> None:
    compiler = next(
        (
            found
            for name in (os.environ.get("CXX"), "g++", "clang++")
            if name and (found := shutil.which(name))
        ),
        None,
    )
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source, library = Path(folder) / "threefry.c", Path(folder) / "threefry.so"
        source.write_text(_SOURCE)
        command = [compiler, "-x", "c", "-O3", "-fPIC", "-shared", str(source), "-o", str(library)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        library.replace(path)


def _call(key: Tensor, counter: Tensor, purpose: int, first: Tensor, second: Tensor, step: int) -> None:
    """Write the blocks to where `step` says, in C or by the definition."""
    function = _native()
    key, counter = key.contiguous(), counter.contiguous()
    count = counter.shape[-1]
    if function is None:
        k0, k1 = key.unsqueeze(-2).unbind(dim=-1)
        x, y = threefry2x32((k0, k1), (counter, torch.full_like(counter, purpose)))
        flat = first.view(-1)
        flat[::step] = x.reshape(-1)
        (second.view(-1) if step == 1 else flat[1:])[::step] = y.reshape(-1)
        return
    function(
        key.data_ptr(),
        key.numel() // 2,
        counter.data_ptr(),
        count,
        count if counter.ndim > 1 else 0,
        purpose,
        first.data_ptr(),
        second.data_ptr(),
        step,
    )


def _threefry(key: Tensor, counter: Tensor, purpose: int) -> tuple[Tensor, Tensor]:
    """Key `[*B, 2]`, counter `[*B, C]` or `[C]`; two `[*B, C]`."""
    first, second = _empty_words(key, counter, purpose)
    _call(key, counter, purpose, first, second, 1)
    return first, second


def _threefry_keys(key: Tensor, counter: Tensor, purpose: int) -> Tensor:
    """Key `[*B, 2]`, counter `[*B, C]` or `[C]`; `[*B, C, 2]`."""
    out = _empty_keys(key, counter, purpose)
    _call(key, counter, purpose, out, out, 2)
    return out


def _empty_words(key: Tensor, counter: Tensor, purpose: int) -> tuple[Tensor, Tensor]:
    shape = (*key.shape[:-1], counter.shape[-1])
    return key.new_empty(shape), key.new_empty(shape)


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
    return torch.ops.funcrl.threefry(*_lead(info, in_dims, key, counter), purpose), (0, 0)


def _map_keys(info: Any, in_dims: Any, key: Tensor, counter: Tensor, purpose: int) -> Any:
    return torch.ops.funcrl.threefry_keys(*_lead(info, in_dims, key, counter), purpose), 0


operators.add(
    "threefry(Tensor key, Tensor counter, int purpose) -> (Tensor, Tensor)",
    _threefry,
    _empty_words,
    _map_words,
)
operators.add(
    "threefry_keys(Tensor key, Tensor counter, int purpose) -> Tensor", _threefry_keys, _empty_keys, _map_keys
)
