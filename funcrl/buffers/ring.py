"""The memory that all replay buffers share: the last R steps of N environments, in a ring.

Rows are steps in time: the newest takes the place of the oldest. Everything is a pure function;
where the buffer is donated (see `jit`), `add` writes in place and takes as long for a million rows
as for a thousand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from funcrl import ops
from funcrl.core import ReplayBatch, Transition, checks, tree

FIELDS = ("obs", "action", "reward", "terminated", "truncated", "next_obs")
"""What is kept of a transition."""

STORABLE = ("obs", "action", "reward")
"""What may be stored in another dtype; `obs` says it for `next_obs` too."""


@tree.struct
class Replay:
    """The last R steps of N environments."""

    data: Transition
    """`[R, N, ...]` by row of the ring; zeros where nothing has been written yet; no extras"""
    count: Tensor
    """`[]` int64, steps of each environment written so far, those that were overwritten included;
    step i lies in row i modulo R"""
    dtypes: tuple[torch.dtype, ...] = tree.static()
    """of each leaf of `data` as it is given and sampled; it may be stored in another"""


def init(example: Transition, num_rows: int, storage: Mapping[str, torch.dtype] | None = None) -> Replay:
    """Return a buffer that holds nothing.

    Args:
        example: `[N, ...]` one step, for shapes, dtypes and the device; its values are not kept.
        num_rows: R, at least 1.
        storage: Dtypes to store fields in, by name: `{"obs": torch.uint8}` for images of whole
            numbers up to 255, a quarter of the memory. Samples have the example's dtypes again. What
            the storage cannot hold is changed without a word; see `check_storage`.

    Returns:
        A `Replay` of R · N transitions.

    Raises:
        ValueError: When there is no row, or `storage` names an unknown field.

    >>> no = torch.tensor([False, False])
    >>> example = Transition(torch.ones(2, 3), no.long(), torch.ones(2), no, no, torch.ones(2, 3), {})
    >>> init(example, 100, {"obs": torch.uint8}).data.next_obs.dtype
    torch.uint8
    """
    checks.integer("buffers.init", "num_rows", num_rows, 1)
    stored = dict(storage or {})
    for field, kind in stored.items():
        checks.known("buffers.init", "storage", field, STORABLE)
        number = isinstance(kind, torch.dtype) and kind != torch.bool and not kind.is_complex
        checks.require(number, "buffers.init", "storage", "be a dtype of numbers", kind, "Write torch.uint8.")
    if "obs" in stored:
        stored["next_obs"] = stored["obs"]

    def zeros(field: str) -> Any:
        def empty(x: Tensor) -> Tensor:
            return x.new_zeros((num_rows, *x.shape), dtype=stored.get(field, x.dtype))

        return tree.map(empty, getattr(example, field))

    return Replay(
        data=Transition(extras={}, **{field: zeros(field) for field in FIELDS}),
        count=torch.zeros((), dtype=torch.int64, device=example.reward.device),
        dtypes=tuple(x.dtype for x in tree.leaves(tree.replace(example, extras={}))),
    )


def add(buffer: Replay, window: Transition) -> Replay:
    """Return the buffer with T steps more, over the oldest ones where it is full.

    Args:
        buffer: Of R rows.
        window: `[T, N, ...]` steps that follow each other and what was added before; T at most R.

    Raises:
        ValueError: When the window has more steps than the buffer has rows.
    """
    num_rows, num_new = buffer.data.reward.shape[0], window.reward.shape[0]
    checks.require(
        num_new <= num_rows,
        "buffers.add",
        "window",
        f"hold at most the buffer's {num_rows} steps",
        num_new,
        "Lower window_length, or raise buffer_size.",
    )
    _check_window(buffer, window)
    rows = (buffer.count + torch.arange(num_new, device=buffer.count.device)) % num_rows
    # index_put is what the compiler turns into a write in place where the buffer is donated.
    write = lambda old, new: torch.index_put(old, (rows,), new.to(old.dtype))
    return Replay(
        data=tree.map(write, buffer.data, tree.replace(window, extras={})),
        count=buffer.count + num_new,
        dtypes=buffer.dtypes,
    )


def _check_window(buffer: Replay, window: Transition) -> None:
    kinds = iter(buffer.dtypes)
    num_new = window.reward.shape[0]
    for field in FIELDS:
        own, new = (tree.named_leaves(getattr(of, field)) for of in (buffer.data, window))
        for name, leaf in own.items():
            hold = f"be {(num_new, *leaf.shape[1:])} {next(kinds)}"
            found = f"{tuple(new[name].shape)} {new[name].dtype}" if name in new else "nothing"
            checks.require(hold == f"be {found}", "buffers.add", f"window.{field}{name}", hold, found)


def oldest(buffer: Replay) -> Tensor:
    """Return the number of the oldest step that the buffer still holds, `[]` int64.

    >>> no = torch.tensor([False])
    >>> step = Transition(torch.ones(1), no.long(), torch.ones(1), no, no, torch.ones(1), {})
    >>> buffer, window = init(step, 3), tree.map(lambda x: x.expand(2, 1), step)
    >>> oldest(add(buffer, window)), oldest(add(add(buffer, window), window))
    (tensor(0), tensor(1))
    """
    return (buffer.count - buffer.data.reward.shape[0]).clamp(min=0)


def holds(buffer: Replay, length: int) -> Tensor:
    """Return whether the buffer holds so many steps in a row, `[]` boolean."""
    return buffer.count - oldest(buffer) >= length


def read(buffer: Replay, field: str, step: Tensor, env: Tensor) -> Any:
    """Return one field of chosen transitions, in the dtype in which it was given.

    Args:
        buffer: The buffer.
        field: Name of a field of `Transition`.
        step: `[...]` int64 number of the step, as `Replay.count` counts, or its row.
        env: `[...]` int64 number of the environment, of a shape that broadcasts.

    Returns:
        A tree of `[..., *]`.
    """
    num_rows = buffer.data.reward.shape[0]
    row = (step % num_rows).contiguous()
    kinds = iter(buffer.dtypes)
    given = getattr(tree.map(lambda _: next(kinds), buffer.data), field)
    return tree.map(lambda x, kind: x[row, env].to(kind), getattr(buffer.data, field), given)


def gather(buffer: Replay, step: Tensor, env: Tensor, gamma: float | Tensor, n_step: int) -> ReplayBatch:
    """Return the transitions over n steps that begin at chosen ones.

    A transition goes over fewer steps where its episode ends before: `reward` and `discount` are
    those of `ops.n_step`, and `next_obs` is what the last of these steps led to.

    Args:
        buffer: The buffer.
        step: `[B]` int64 number of the first step, or its row; all n must be in the buffer.
        env: `[B]` int64 number of the environment.
        gamma: Discount γ in [0, 1].
        n_step: n, at least 1.

    Returns:
        `[B]` rows of weight 1.
    """
    checks.number("buffers.sample", "gamma", gamma, 0, 1)
    check_length("buffers.sample", "n_step", n_step, buffer)
    steps = step + torch.arange(n_step, device=step.device).unsqueeze(-1)
    reward, terminated, truncated = (
        read(buffer, field, steps, env) for field in ("reward", "terminated", "truncated")
    )
    total, discount, last = ops.n_step(reward, terminated, truncated, gamma)
    return ReplayBatch(
        obs=read(buffer, "obs", step, env),
        action=read(buffer, "action", step, env),
        reward=total,
        discount=discount,
        next_obs=read(buffer, "next_obs", step + last, env),
        weight=torch.ones_like(total),
    )


def check_length(function: str, name: str, length: int, buffer: Replay) -> None:
    """Check that a buffer has room for so many steps in a row."""
    checks.integer(function, name, length, 1)
    num_rows = buffer.data.reward.shape[0]
    checks.require(length <= num_rows, function, name, f"be at most the buffer's {num_rows} rows", length)


def check_storage(function: str, buffer: Replay, window: Transition) -> None:
    """Check that the buffer can hold a window's values without changing them.

    Rounding is what other dtypes than whole numbers are asked for, and is no change. It reads the
    values, so it belongs beside `add`, not into a compiled program.

    Args:
        function: Who complains, `"dqn.Config"`.
        buffer: `[R, N, ...]`, or with axes of lanes in front; only its dtypes are looked at.
        window: Any number of transitions.

    Raises:
        ValueError: When a value would change, naming the field.

    >>> no = torch.tensor([False])
    >>> step = Transition(torch.full((1,), 0.5), no.long(), torch.ones(1), no, no, torch.ones(1), {})
    >>> check_storage("train", init(step, 3, {"obs": torch.uint8}), step)
    Traceback (most recent call last):
    ValueError: train: storage must hold obs: torch.uint8 holds whole numbers from 0 to 255, got 0.5. Write storage='' for the dtype that they come in.
    """
    for field in FIELDS:
        given, stored = tree.leaves(getattr(window, field)), tree.leaves(getattr(buffer.data, field))
        for value, kind in zip(given, (x.dtype for x in stored), strict=True):
            if kind == value.dtype:
                continue
            if kind.is_floating_point:
                beyond = value.isfinite() & ~value.to(kind).isfinite()
                hold = f"hold {field}: {kind} holds numbers up to {torch.finfo(kind).max:g} in size"
                found, instead = value[beyond][:1].tolist(), "Write storage='bfloat16'."
                checks.require(not beyond.any(), function, "storage", hold, found, instead)
                continue
            limits = torch.iinfo(kind)
            # Beyond its range a conversion does anything, so the range is looked at first.
            inside = (value >= limits.min) & (value <= limits.max)
            changed = ~inside | (torch.where(inside, value, 0).to(kind).to(value.dtype) != value)
            if changed.any():
                checks.require(
                    False,
                    function,
                    "storage",
                    f"hold {field}: {kind} holds whole numbers from {limits.min} to {limits.max}",
                    value[changed][0].item(),
                    "Write storage='' for the dtype that they come in.",
                )
