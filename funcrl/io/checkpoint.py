"""Saving and loading pytrees, without pickle.

A checkpoint is one safetensors file: the leaves by name, and text entries in its JSON header.
Loading needs a tree of the same structure, which gives the static fields: code is never loaded.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch.utils._pytree as torch_pytree
from torch import Tensor

from funcrl.core import tree
from funcrl.core.checks import require
from funcrl.io.files import write_atomically

T = TypeVar("T")

_CHECKSUM = "crc32"
"""Name of the checksum of all tensors in the text of a file's header; a file without one is not checked."""


def save(path: str | Path, state: object, metadata: dict[str, str] | None = None) -> None:
    """Write every leaf of a tree to a file.

    Args:
        path: File to write, `something.safetensors` by custom; replaced in one step if it exists.
        state: Tree of tensors (numbers are stored as tensors).
        metadata: Text to put into the header.

    Raises:
        OSError: When it cannot be written.

    >>> import tempfile
    >>> import torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/x.safetensors", {"a": torch.ones(2)})
    ...     load(f"{folder}/x.safetensors", like={"a": torch.zeros(2)})
    {'a': tensor([1., 1.])}
    """
    write_atomically(Path(path), encode(tree.named_leaves(state), metadata))


def encode(leaves: dict[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    """Return the content of a file with these leaves; the same ones and the same text give the same bytes."""
    tensors = {
        name: tree.as_tensor(leaf).detach().cpu().contiguous().clone() for name, leaf in leaves.items()
    }
    return _finished(safetensors.torch.save(tensors, {**(metadata or {}), _CHECKSUM: ""}))


def _finished(data: bytes) -> bytes:
    """Put a checksum of the tensors into a file's header, and its text in order.

    safetensors writes the text in an order that it draws in each process.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    text_of_file = header["__metadata__"] | {_CHECKSUM: f"{zlib.crc32(data[end:]):08x}"}
    header["__metadata__"] = dict(sorted(text_of_file.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + data[end:]


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it is damaged.
    """
    data = path.read_bytes()
    try:
        tensors = safetensors.torch.load(data)
        end = 8 + int.from_bytes(data[:8], "little")
        kept = json.loads(data[8:end]).get("__metadata__", {}).get(_CHECKSUM)
    except (safetensors.SafetensorError, ValueError, AttributeError) as error:
        raise ValueError(f"load: {path} must be a whole safetensors file, got: {error}.") from error
    whole = kept is None or kept == f"{zlib.crc32(data[end:]):08x}"
    require(whole, "load", str(path), "be as it was written", "another checksum")
    return tensors


def load(path: str | Path, like: T) -> T:
    """Read a tree that `save` wrote.

    Args:
        path: File to read.
        like: Tree of the same structure, for example a freshly made state; its tensors say which
            shapes, dtypes and devices are expected, its values are not used.

    Returns:
        A new tree with the static fields of `like` and the file's tensors.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When the file is damaged or holds another structure.
    """
    path = Path(path)
    require(not path.is_dir(), "load", "path", "be a file", str(path), "Write .../states.safetensors.")
    return fill(str(path), read(path), like)


def fill(path: str, tensors: dict[str, Tensor], like: T) -> T:
    """Return a tree with the static fields of `like` and the tensors of a file, see `load`."""
    expected = {name: tree.as_tensor(leaf) for name, leaf in tree.named_leaves(like).items()}
    missing, unknown = sorted(expected.keys() - tensors), sorted(tensors.keys() - expected)
    if missing or unknown:
        raise ValueError(
            f"load: {path} must hold the leaves of `like`, got {len(unknown)} others {unknown[:3]} "
            f"and misses {len(missing)} {missing[:3]}. Make `like` with the settings of that run."
        )
    for name, wanted in expected.items():
        found = tensors[name]
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise ValueError(
                f"load: {name} must be {tuple(wanted.shape)} {wanted.dtype} as in `like`, "
                f"got {tuple(found.shape)} {found.dtype} from {path}."
            )
    _, structure = torch_pytree.tree_flatten(like)
    leaves = [tensors[name].to(wanted.device) for name, wanted in expected.items()]
    return torch_pytree.tree_unflatten(leaves, structure)  # type: ignore[no-any-return]
