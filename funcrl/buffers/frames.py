"""Stacked frames for a replay buffer, each of them kept once.

A stack of K frames shares all but one with the stack after it, and with what its step leads to; kept as it is, each frame is
there 2 K times. Here the frames lie in a ring of their own, one after the other, and a row of the buffer keeps where its
newest one lies and how many of those before belong to its episode. An episode begins with copies of its first frame, as
`envs.FrameStack` and Gymnasium's `FrameStackObservation` with `padding_type="reset"` begin it.

    store, window = frames.put(store, window)      stacks become places
    buffer = uniform.add(buffer, window)
    batch = frames.look(store, uniform.sample(buffer, key, ...))    places become stacks again

so that every buffer, and every way to draw from it, keeps stacks in this way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from funcrl.buffers import ring
from funcrl.buffers.ring import Replay
from funcrl.core import ReplayBatch, Transition, checks, tree
from funcrl.core.batching import vmap


@tree.struct
class Frames:
    """The frames of N environments."""

    frames: Tensor
    """`[F, N, ...]` by place modulo F"""
    written: Tensor
    """`[N]` int64, frames so far; the newest one is what the last step led to, or where its episode ended"""
    age: Tensor
    """`[N]` int64, frames before the newest one that belong to its episode, at most K - 1; -1 before the first step"""
    ended: Tensor
    """`[N]` boolean: the last step ended its episode"""
    num_rows: int = tree.static()
    """steps that the buffer keeps, whose frames must be here"""
    num_frames: int = tree.static()
    """K"""
    dtype: torch.dtype = tree.static()
    """of frames as they are given and returned; they may be stored in another"""


@tree.struct
class Shared:
    """A buffer of places, and the frames that are there."""

    buffer: Any
    """of windows that `put` returned, whichever kind it is"""
    store: Frames


@tree.struct
class Place:
    """Where stacks are, each `[...]` int64."""

    newest: Tensor
    """place of the newest frame"""
    age: Tensor
    """frames before it that belong to its episode, at most K - 1"""
    env: Tensor
    """number of the environment"""


def init(example: Tensor, num_rows: int, dtype: torch.dtype | None = None, ends: float = 0.125) -> Frames:
    """Return a store that holds nothing.

    Args:
        example: `[N, K, ...]` stacks of N environments, the oldest frame first; for shapes and the device.
        num_rows: R, steps of each environment that the buffer keeps.
        dtype: To store frames in, `torch.uint8` for whole numbers up to 255; as they come by default.
        ends: Share of the steps that may end an episode, whose last frame is kept besides, in (0, 1]; where more do,
            frames of the oldest steps are lost, see `has_room`.

    Returns:
        A store of R · (1 + ends) + K frames of each environment.

    Raises:
        ValueError: When there is no row, no axis of frames, or the share is none.

    >>> init(torch.zeros(2, 4, 84, 84), 1000, torch.uint8).frames.shape
    torch.Size([1129, 2, 84, 84])
    """
    checks.integer("frames.init", "num_rows", num_rows, 1)
    checks.number("frames.init", "ends", ends, 0, 1, open_low=True)
    fine = isinstance(example, Tensor) and example.ndim >= 2
    found = tuple(example.shape) if isinstance(example, Tensor) else type(example).__name__
    checks.require(fine, "frames.init", "example", "be stacks [N, K, ...]", found)
    num, depth, *frame = example.shape
    size = num_rows + max(1, int(num_rows * ends)) + depth
    count = torch.full((num,), depth - 1, dtype=torch.int64, device=example.device)
    return Frames(
        frames=example.new_zeros((size, num, *frame), dtype=dtype or example.dtype),
        written=count,
        age=torch.full_like(count, -1),
        ended=torch.zeros_like(count, dtype=torch.bool),
        num_rows=num_rows,
        num_frames=depth,
        dtype=example.dtype,
    )


def put(store: Frames, window: Transition) -> tuple[Frames, Transition]:
    """Return the store with a window's frames, and the window with places where its stacks were.

    Args:
        store: Before.
        window: `[T, N, ...]` steps that follow each other and what was put before; T at most R.

    Raises:
        ValueError: When stacks are of another shape.
    """
    obs, next_obs = window.obs, window.next_obs
    shape = (window.reward.shape[0], store.frames.shape[1], store.num_frames, *store.frames.shape[2:])
    found = tuple(obs.shape) if isinstance(obs, Tensor) else type(obs).__name__
    checks.require(found == shape, "frames.put", "window.obs", f"be stacks {shape}", found)
    steps, num = shape[:2]
    checks.require(
        steps <= store.num_rows, "frames.put", "window", f"hold at most {store.num_rows} steps", steps
    )
    time = torch.arange(steps, device=obs.device).unsqueeze(-1)
    ended = window.terminated | window.truncated
    before = torch.cat([store.ended.unsqueeze(0), ended[:-1]])
    # Nothing has been put yet: what is older than the first step's newest frame comes with it.
    first = store.age < 0

    # A step's newest frame lies where the one before has put what it led to, but for one more place after each end.
    newest = store.written - 1 + time + before.cumsum(0)
    newest = torch.where(first, newest + 1, newest)
    begins = torch.where(before, time, -1).cummax(0).values
    since = torch.where(begins < 0, time + torch.where(first, store.num_frames - 1, store.age), time - begins)
    age = since.clamp(max=store.num_frames - 1)

    env = torch.arange(num, device=obs.device)
    size = store.frames.shape[0]
    frames = store.frames
    older = torch.arange(store.num_frames - 1, device=obs.device).unsqueeze(-1)
    past = frames[older, env]
    given = obs[0, :, :-1].movedim(1, 0).to(frames.dtype)
    flags = first.reshape(1, -1, *[1] * (past.ndim - 2))
    frames = torch.index_put(frames, (older, env), torch.where(flags, given, past))
    for place, given in ((newest, obs[:, :, -1]), (newest + 1, next_obs[:, :, -1])):
        frames = torch.index_put(frames, (place % size, env), given.to(frames.dtype))
    after = Frames(
        frames=frames,
        written=newest[-1] + 2,
        age=(age[-1] + 1).clamp(max=store.num_frames - 1),
        ended=ended[-1],
        num_rows=store.num_rows,
        num_frames=store.num_frames,
        dtype=store.dtype,
    )
    places = Place(newest, age, env.expand_as(newest))
    next_places = Place(newest + 1, (age + 1).clamp(max=store.num_frames - 1), places.env)
    return after, tree.replace(window, obs=places, next_obs=next_places)


def look(store: Frames, batch: ReplayBatch) -> ReplayBatch:
    """Return a batch with stacks where it has places.

    Args:
        store: As it is after the newest of the batch's steps was put.
        batch: `[B]` rows, from a buffer of windows that `put` returned.
    """
    return tree.replace(batch, obs=stacks(store, batch.obs), next_obs=stacks(store, batch.next_obs))


def stacks(store: Frames, place: Place) -> Tensor:
    """Return the stacks at some places, `[..., K, ...]`, the oldest frame first."""
    back = torch.arange(store.num_frames - 1, -1, -1, device=store.frames.device)
    newest, age, env = (x.unsqueeze(-1) for x in (place.newest, place.age, place.env))
    row = (newest - torch.minimum(back, age)) % store.frames.shape[0]
    return store.frames[row.contiguous(), env].to(store.dtype)


def example_of(stack: Tensor) -> Place:
    """Return a place for each of `[N, K, ...]` stacks, for a buffer to be made by."""
    nothing = torch.zeros(stack.shape[0], dtype=torch.int64, device=stack.device)
    return Place(nothing, nothing, nothing)


def has_room(store: Frames, replay: Replay) -> Tensor:
    """Return whether the frames of all rows of a buffer are still there, `[]` boolean.

    Args:
        store: As it is now.
        replay: The ring of the buffer to which windows from `put` were added.
    """
    oldest = ring.oldest(replay) % store.num_rows
    needed = store.written - replay.data.obs.newest[oldest] + store.num_frames - 1
    return (replay.count == 0) | (needed <= store.frames.shape[0]).all()  # type: ignore[no-any-return]


def check(function: str, store: Frames, replay: Replay, window: Transition) -> None:
    """Check that a window which was just put can be told from its frames; it reads values, so it belongs beside a program.

    Args:
        function: Who complains, `"train"`.
        store: `[S, ...]` of lanes.
        replay: `[S, ...]` the rings of their buffers.
        window: `[S, T, N, ...]`.

    Raises:
        ValueError: When observations are no stacks of frames, when their storage changes them, or when there are more
            ends of episodes than room for their frames.
    """

    def found(store: Frames, replay: Replay, window: Transition) -> tuple[Tensor, Tensor]:
        steps = (
            replay.count
            - window.reward.shape[0]
            + torch.arange(window.reward.shape[0], device=replay.count.device)
        )
        env = torch.arange(window.reward.shape[1], device=steps.device)
        places = (ring.read(replay, name, steps[:, None], env) for name in ("obs", "next_obs"))
        same = [
            (stacks(store, place) == seen).all()
            for place, seen in zip(places, (window.obs, window.next_obs), strict=True)
        ]
        return has_room(store, replay), same[0] & same[1]

    room, same = vmap(found)(store, replay, window)
    hold = f"hold an episode's end every {store.num_rows // (store.frames.shape[1] - store.num_rows)} steps at the most"
    instead = "Episodes are shorter: leave share_frames out."
    checks.require(bool(room.all()), function, "share_frames", hold, "more", instead)
    hold = "be False where observations are not the last frames, the oldest first, an episode beginning with copies of one"
    instead = "Leave it out, or storage where it changes what is seen."
    checks.require(bool(same.all()), function, "share_frames", hold, True, instead)
