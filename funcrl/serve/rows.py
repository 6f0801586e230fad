"""What JSON says of observations, checked and put into arrays; and actions put into JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from funcrl.core.checks import require
from funcrl.io.exporting import Exported, Signature, description_of, open_exported
from funcrl.io.settings import read_json_file


class RefusedError(Exception):
    """A request that does not fit; its text says why."""


@dataclass(frozen=True)
class Part:
    """One input of a policy."""

    name: str
    shape: tuple[int, ...]
    """without rows"""
    dtype: np.dtype[Any]
    seen: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None
    """least and largest numbers that the agent saw while it played"""
    first: Any = None
    """of what is remembered, where an episode begins"""


@dataclass(frozen=True)
class Policy:
    """A policy in a file, and what it takes."""

    exported: Exported
    described: dict[str, Any]
    observations: tuple[Part, ...]
    carries: tuple[Part, ...]

    @property
    def draws(self) -> bool:
        """Whether it draws its actions, from a key."""
        return self.exported.signature.sampling


def open_policy(path: Path) -> Policy:
    """Open what `funcrl export` has left.

    Raises:
        FileNotFoundError: When the file is not there, or its description.
        ValueError: When they are damaged, or something else.
    """
    require(path.suffix in (".onnx", ".pt2"), "serve", "FILE", "end in .onnx or .pt2", str(path))
    for needed in (path, description_of(path)):
        if not needed.is_file():
            raise FileNotFoundError(f"serve: {needed} must be there. Write funcrl export DIR --out {path}.")
    described = read_json_file(description_of(path), "serve")
    try:
        parts = [_part(one) for one in described["inputs"]]
        outputs = [one["name"] for one in described["outputs"]]
    except (KeyError, TypeError, ValueError):
        hold = "describe a policy of funcrl export"
        require(False, "serve", str(description_of(path)), hold, "something else")
    observations = tuple(part for part in parts if part.name.startswith("observation"))
    carries = tuple(part for part in parts if part.name.startswith("carry"))
    names = Signature(
        tuple(part.name for part in observations),
        tuple(part.name for part in carries),
        any(part.name == "key" for part in parts),
    )
    hold = "describe the policy beside it"
    require(bool(observations) and tuple(outputs) == names.outputs, "serve", str(path), hold, outputs)
    try:
        exported = open_exported(path, names)
        policy = Policy(exported, described, observations, carries)
        run(policy, [zeros(policy)])
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"serve: {path} must be a policy that runs, got {str(error).splitlines()[0]!r}."
        ) from error
    return policy


def _part(one: dict[str, Any]) -> Part:
    dtype = np.dtype(one["dtype"])
    shape = tuple(int(n) for n in one["shape"][1:])
    seen = None
    if "seen_low" in one:
        seen = (np.asarray(one["seen_low"], dtype=np.float64), np.asarray(one["seen_high"], dtype=np.float64))
    return Part(one["name"], shape, dtype, seen, one.get("first"))


@dataclass(frozen=True)
class Row:
    """Some observations of one request, rows first, and what is remembered."""

    inputs: tuple[np.ndarray[Any, Any], ...]
    """observations, then carries"""
    single: bool
    """whether it was one observation without an axis for rows"""

    @property
    def count(self) -> int:
        """Observations."""
        return int(self.inputs[0].shape[0])


def zeros(policy: Policy) -> Row:
    """Return a request that any policy can be asked."""
    parts = (*policy.observations, *policy.carries)
    return Row(tuple(np.zeros((1, *part.shape), part.dtype) for part in parts), single=True)


def read(policy: Policy, asked: Any, most: int) -> Row:
    """Return what a request asks for.

    Args:
        policy: What is asked.
        asked: Content of its JSON.
        most: Observations in one request at most.

    Raises:
        RefusedError: When it does not fit.
    """
    if not isinstance(asked, dict) or "observation" not in asked:
        raise RefusedError('write {"observation": [...]}')
    unknown = sorted(set(asked) - {"observation", "carry"})
    if unknown:
        raise RefusedError(
            f"there is nothing called {', '.join(map(str, unknown))[:100]}, only observation and carry"
        )
    values = [_within(part, asked["observation"]) for part in policy.observations]
    found = [_array(part, value) for part, value in zip(policy.observations, values, strict=True)]
    singles = {single for _, single in found}
    if len(singles) > 1:
        raise RefusedError("all parts of an observation have as many rows")
    single = singles.pop()
    arrays = [array for array, _ in found]
    counts = {array.shape[0] for array in arrays}
    if len(counts) > 1:
        raise RefusedError("all parts of an observation have as many rows")
    count = counts.pop()
    if count == 0:
        raise RefusedError("there is no observation")
    if count > most:
        raise RefusedError(f"there are {count} observations, and {most} at most in one request")
    return Row((*arrays, *_carried(policy, asked.get("carry"), count, single)), single)


def _within(part: Part, value: Any) -> Any:
    for word in part.name.split(".")[1:]:
        if not isinstance(value, dict) or word not in value:
            raise RefusedError(f"observation has a part called {word}")
        value = value[word]
    return value


def _carried(policy: Policy, given: Any, count: int, single: bool) -> list[np.ndarray[Any, Any]]:
    if not policy.carries and given is not None:
        raise RefusedError("this policy remembers nothing: leave carry out")
    if given is None:
        firsts = [np.asarray(part.first, part.dtype) for part in policy.carries]
        return [np.broadcast_to(x, (count, *x.shape)).copy() for x in firsts]
    if not isinstance(given, dict) or set(given) != {part.name for part in policy.carries}:
        raise RefusedError(
            f"carry has {', '.join(part.name for part in policy.carries)}, as the answer before said"
        )
    arrays = []
    for part in policy.carries:
        array, alone = _array(part, given[part.name])
        if alone != single or array.shape[0] != count:
            raise RefusedError("carry has as many rows as observation")
        arrays.append(array)
    return arrays


def _array(part: Part, value: Any) -> tuple[np.ndarray[Any, Any], bool]:
    """Return numbers with an axis for rows, and whether there was none."""
    what = f"{part.name} is {_shape_text(part.shape)}, or rows of that"
    _check_numbers(value, what, len(part.shape) + 1)
    try:
        array = np.asarray(value, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise RefusedError(f"{what}, all of one length") from None
    if array.shape == part.shape:
        array, single = array[None], True
    elif array.shape[1:] == part.shape and array.ndim == len(part.shape) + 1:
        single = False
    else:
        raise RefusedError(f"{what}, not {_shape_text(array.shape)}")
    if not np.isfinite(array).all():
        raise RefusedError(f"{part.name} has finite numbers only")
    if part.dtype.kind in "iub":
        limits = np.iinfo(part.dtype) if part.dtype.kind in "iu" else None
        whole = (array == np.round(array)).all()
        fits = (
            limits is None
            or ((array >= max(limits.min, 1 - 2**53)) & (array <= min(limits.max, 2**53 - 1))).all()
        )
        if not (whole and fits):
            raise RefusedError(f"{part.name} has whole numbers ({part.dtype}) only")
    elif (np.abs(array) > np.finfo(part.dtype).max).any():
        raise RefusedError(f"{part.name} has numbers that {part.dtype} can hold only")
    return array.astype(part.dtype), single


def _check_numbers(value: Any, what: str, depth: int) -> None:
    """Check that nested lists hold numbers only, no deeper than they may be."""
    if isinstance(value, list):
        if depth == 0:
            raise RefusedError(f"{what}, and no deeper")
        for one in value:
            _check_numbers(one, what, depth - 1)
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RefusedError(f"{what}, of numbers")


def _shape_text(shape: tuple[int, ...]) -> str:
    return "a number" if not shape else "numbers [" + ", ".join(map(str, shape)) + "]"


def outside(policy: Policy, rows: Row) -> int:
    """Return how many observations have a number that the agent did not see while it played."""
    found = np.zeros(rows.count, dtype=bool)
    for part, array in zip(policy.observations, rows.inputs, strict=False):
        if part.seen is not None:
            beyond = (array < part.seen[0]) | (array > part.seen[1])
            found |= beyond.reshape(rows.count, -1).any(axis=1)
    return int(found.sum())


def run(policy: Policy, each: list[Row]) -> list[tuple[np.ndarray[Any, Any], ...]]:
    """Return what a policy answers to several requests, computed together.

    Args:
        policy: What is asked.
        each: The requests.
    """
    joined = [np.concatenate(columns) for columns in zip(*(row.inputs for row in each), strict=True)]
    tensors = [torch.from_numpy(np.ascontiguousarray(x)) for x in joined]
    num = len(policy.observations)
    key = []
    if policy.draws:
        bits = np.random.default_rng().integers(-(2**31), 2**31, 2, dtype=np.int64).astype(np.int32)
        key = [torch.from_numpy(bits)]
    found = [x.numpy() for x in policy.exported.run(*tensors[:num], *key, *tensors[num:])]
    ends = np.cumsum([row.count for row in each])[:-1]
    return list(zip(*(np.split(x, ends) for x in found), strict=True))


def answer(policy: Policy, rows: Row, found: tuple[np.ndarray[Any, Any], ...]) -> dict[str, Any]:
    """Return the content of an answer's JSON.

    Raises:
        RefusedError: When an action is not finite, which no JSON can say.
    """
    if not all(math.isfinite(float(np.abs(x).sum())) for x in found if x.dtype.kind == "f"):
        raise RefusedError("the policy's answer to this observation is not finite")
    lists = [(x[0] if rows.single else x).tolist() for x in found]
    said: dict[str, Any] = {"action": lists[0]}
    if policy.carries:
        said["carry"] = {part.name: x for part, x in zip(policy.carries, lists[1:], strict=True)}
    return said
