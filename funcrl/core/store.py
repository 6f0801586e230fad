"""Compiled programs on the disk: a program that was compiled once is loaded from then on.

torch's compiler has a cache of its own, which takes half a second to import and a tenth of a second a
program; here a program is one file, named by a hash of all that its code depends on, and loading it
is the dynamic linker's work. It holds the CPU's programs; others stay with torch's cache alone.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import platform
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.fx import GraphModule, Node

from funcrl.core import internals


def _chosen() -> str | None:
    """Return where the user wants compiled programs, if that was said before this module was imported.

    Torch sets the variable to a folder of its own when it compiles, also for processes that this one starts then.
    """
    said = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    torchs = os.path.join(tempfile.gettempdir(), "torchinductor_")
    return None if said and said.startswith(torchs) else said


_CHOSEN = _chosen()


@functools.cache
def folder() -> Path:
    """Return where what funcrl compiles is kept, which is a folder of the user's own that can be written.

    Beside torch's own programs where `TORCHINDUCTOR_CACHE_DIR` names a place for them, else
    `~/.cache/funcrl`; where that cannot be, one among temporary files, of this process alone if need be.
    """
    places = []
    if _CHOSEN:
        places.append(Path(_CHOSEN).absolute() / "funcrl")
    else:
        with contextlib.suppress(RuntimeError):  # a user without a home
            places.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "funcrl")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    places.append(Path(tempfile.gettempdir()) / f"funcrl-{user}")
    for candidate in places:
        with contextlib.suppress(OSError):
            candidate.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Libraries are loaded from here: nobody else may put any.
            if os.access(candidate, os.W_OK) and (user == "user" or candidate.stat().st_uid == user):
                return candidate
    own = tempfile.mkdtemp(prefix="funcrl-")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return Path(own)


def compiler() -> str | None:
    """Return the path of the C++ compiler; None where there is none."""
    names = (os.environ.get("CXX"), "g++", "clang++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def place(graph: GraphModule, also: str = "") -> Path | None:
    """Return the file that holds the program of a flat graph, whether it is there or not.

    Args:
        graph: Its constants are single numbers.
        also: What its code depends on besides the graph, torch and this machine.

    Returns:
        None where programs are not kept: on a GPU, and where caches are turned off.
    """
    nodes = list(graph.graph.nodes)
    inputs = [node.meta["val"] for node in nodes if node.op == "placeholder"]
    if not internals.keeps_programs() or any(value.device.type != "cpu" for value in inputs):
        return None
    constants = [getattr(graph, str(node.target)) for node in nodes if node.op == "get_attr"]
    text = "\n".join(
        [
            graph.code,
            *(repr(constant.item()) for constant in constants),
            *(_layout(node) for node in nodes),
            surroundings(),
            also,
            internals.compiler_settings(),
            internals.way_of_compiling(),
            str(torch.get_num_threads()),
        ]
    )
    return folder() / "programs" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.so"


def _layout(node: Node) -> str:
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return ""
    return f"{node.name} {tuple(value.shape)} {value.stride()} {value.dtype}"


@functools.cache
def surroundings() -> str:
    """Return what compiled code depends on and no graph says: versions, and the processor's instructions."""
    processor = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        processor = "".join(sorted(x for x in lines if x.startswith(("model name", "flags", "Features"))))
    path = compiler()
    changed = Path(path).stat().st_mtime_ns if path else 0
    versions = (torch.__version__, torch.version.git_version, sys.implementation.cache_tag)
    return repr(
        (versions, platform.machine(), processor, os.environ.get("ATEN_CPU_CAPABILITY"), path, changed)
    )


def load(path: Path) -> internals.Program | None:
    """Return the program in a file; None where there is none, or none that can be loaded."""
    if not is_whole(path):
        return None
    try:
        return internals.load_library(path)
    except (ImportError, AttributeError, OSError):
        return None


def keep(path: Path, program: internals.Program) -> None:
    """Keep a program in a file where it has one of its own; a folder that cannot be written keeps nothing."""
    library = internals.library(program)
    if library is None:
        return
    with contextlib.suppress(OSError), new_file(path) as copied:
        shutil.copy(library, copied)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a file to write, which then takes its place whole, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as own:
        written = Path(own) / path.name
        yield written
        with written.open("rb") as file:
            os.fsync(file.fileno())
        written.replace(path)


def is_whole(path: Path) -> bool:
    """Return whether a library is there, and as long as its header says (of those of Linux).

    To load a shorter one would end the process.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(64)
    except OSError:
        return False
    if header[:5] != b"\x7fELF\x02":
        return sys.platform != "linux"
    table, entry, entries = struct.unpack_from("<Q", header, 40)[0], *struct.unpack_from("<HH", header, 58)
    return bool(size >= table + entry * entries)
