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
from pathlib import Path

import torch

from funcrl.core import store

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
