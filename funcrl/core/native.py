"""The library of functions in C++ that compiled programs call on a CPU; `native.cpp` is its source.

It is built once for a processor and a C++ compiler, which torch's own compiler needs as well, and kept
beside the compiled programs. Where there is no compiler there is no library: everything that it does
is defined in tensor operations too.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import subprocess
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from funcrl.core import internals, store

_SOURCE = Path(__file__).with_suffix(".cpp")


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the library, built and loaded on the first call; None where that cannot be done."""
    compiler = store.compiler()
    if compiler is None:
        return None
    path = store.folder() / f"native-{version()[:16]}.so"
    if store.is_whole(path):
        with contextlib.suppress(OSError):  # it is no library after all
            return _load(path)
    try:
        _build(compiler, path)
        return _load(path)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", b"") or b"").decode(errors="replace")[-300:]
        warnings.warn(
            f"funcrl does without its C++ library, which takes longer: {error} {said}", stacklevel=2
        )
        return None


def _load(path: Path) -> ctypes.CDLL:
    # Programs find its functions by their names, as they find torch's.
    return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def bind(program: internals.Program, tensors: Sequence[Tensor]) -> Callable[[], None] | None:
    """Return a function that runs a compiled program on these very tensors, without a list of them.

    A call then costs a third of a microsecond of Python, whatever the number of tensors.

    Args:
        program: All its outputs are written into its inputs.
        tensors: Its inputs, which are kept alive.

    Returns:
        None where there is no library, or the program is not in one.
    """
    functions = library()
    address = internals.entry_address(program) if functions else None
    return _Bound(functions, address, tensors) if functions and address else None


class _Bound:
    """A program in C++ with handles of its tensors."""

    def __init__(self, functions: ctypes.CDLL, address: int, tensors: Sequence[Tensor]) -> None:
        # Unlike CDLL, this keeps Python's lock for the program to let go.
        own = ctypes.PyDLL(None, handle=functions._handle)
        self._run, self._unbind = own.funcrl_run, own.funcrl_unbind
        own.funcrl_bind.restype, self._run.restype = ctypes.c_void_p, ctypes.c_char_p
        handles = internals.handles(tensors)
        array = (ctypes.c_void_p * len(handles))(*handles)
        self._bound = ctypes.c_void_p(
            own.funcrl_bind(ctypes.c_void_p(address), array, ctypes.c_int64(len(handles)))
        )

    def __call__(self) -> None:
        error = self._run(self._bound)
        if error:
            raise RuntimeError(error.decode(errors="replace"))

    def __del__(self) -> None:
        self._unbind(self._bound)


@functools.cache
def version() -> str:
    """Return a hash of the source and of what it is built for."""
    return hashlib.sha256(
        f"{_SOURCE.read_text(encoding='utf-8')} {store.surroundings()}".encode()
    ).hexdigest()


def _build(compiler: str, path: Path) -> None:
    torchs = Path(torch.__file__).parent / "lib"
    with store.new_file(path) as built:
        command = [compiler, "-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", str(_SOURCE)]
        command += ["-o", str(built), f"-L{torchs}", "-ltorch_cpu", f"-Wl,-rpath,{torchs}"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
