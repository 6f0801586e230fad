"""Collecting a window of experience with compiled programs that write into fixed buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from funcrl import envs
from funcrl.core import Transition, collective, jit, random, tree
from funcrl.core.batching import vmap
from funcrl.core.hoist import hoist
from funcrl.core.lanes import Lanes
from funcrl.train.acting import Policy, with_carry

MAX_UNROLL = 4
"""Steps in one compiled call. Twice as many run 4 % faster here and compile 3 s longer."""

MAX_DRAWN = 16_384
"""Environment steps whose random numbers are drawn at once, where more would do: the intermediate
results then stay in the cache and in memory that the process keeps. Eight times as many made every
call ask the system for fresh pages, which took four times as long as the drawing."""


@tree.struct
class Window:
    """T steps of N environments of S lanes, `[T, S, N, ...]`."""

    transition: Transition
    episode_return: Tensor
    """`[T, S, N]` float32, return of the episode up to and with this step"""

    @property
    def ended(self) -> Tensor:
        """`[T, S, N]` boolean: this step was the last of its episode."""
        return self.transition.terminated | self.transition.truncated

    def ended_returns(self) -> tuple[Tensor, Tensor]:
        """Return the sum of the returns of all episodes that ended, `[]`, and their number, `[]` float32."""
        ended = self.ended
        total = torch.where(ended, self.episode_return, 0.0).sum()
        return total, ended.sum().to(torch.float32)


Running = tuple[envs.EnvState, Any]
"""Environments, and what a policy remembers of their episodes"""


def act_and_step(
    policy: Policy,
    env: envs.Env,
    agent: Any,
    states: envs.EnvState,
    carry: Any,
    key: Tensor,
    part: tuple[int, int] = (0, 1),
) -> tuple[envs.EnvState, Any, Window]:
    """Act once in the N environments of one lane.

    Args:
        policy: What chooses the actions.
        env: The environment.
        agent: The algorithm's state.
        states: `[N]` environments.
        carry: `[N]` what the policy remembers of their episodes; `()` where it is nothing.
        key: `[2]` int32.
        part: Which part of the lane's environments these are, and how many such parts there are.

    Returns:
        The environments after, what is remembered then, and `[N]` rows of a window; what was remembered before is
        `carry` in their extras.
    """
    k_policy, k_envs = random.split(key, 2)
    (number, count), size = part, states.episode_length.shape[0]
    with random.rows_of(number * size, size):
        remembered = policy.remember(agent, states.obs, carry, k_policy)
        action, extras = policy.act(agent, states.obs, k_policy, remembered)
    keys = random.split(k_envs, count * size)
    if count > 1:
        keys = keys[number * size : (number + 1) * size]
    states, step = envs.step_all(env, states, action, keys)
    transition = Transition(
        obs=step.obs,
        action=action,
        reward=step.reward,
        terminated=step.terminated,
        truncated=step.truncated,
        next_obs=step.next_obs,
        extras=with_carry(extras, carry),
    )
    carry = policy.next_carries(agent, remembered, step.terminated | step.truncated)
    return states, carry, Window(transition, step.episode_return)


class Collector:
    """Programs that step S lanes of N environments T times and leave the rows in `window`.

    The random numbers of all T steps (of fewer, where there are many environments) are drawn first,
    by one program; then a program that steps a few times is called on one slice of the window after
    the other. All tensors stay where they are.
    """

    def __init__(
        self,
        policy: Policy,
        env: Lanes,
        values: list[Tensor],
        agent: Any,
        states: envs.EnvState,
        carry: Any,
        key: Tensor,
        count: Tensor,
        num_steps: int,
        backend: str,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        """Trace and compile.

        Args:
            policy: What chooses the actions.
            env: The environment, taken apart.
            values: `[S]` each, the numbers in which the lanes' environments differ; only read.
            agent: `[S]` states of the algorithm; only read.
            states: `[S, N]` environments; overwritten by every collection.
            carry: `[S, N]` what the policy remembers of their episodes; likewise.
            key: `[S, 2]` int32; collection i uses `fold_in(key, i)`.
            count: `[S]` int32, number of the collection; read every time, counted on by the caller.
            num_steps: T.
            backend: See `jit`.
            part: Which part of the environments this process steps, and how many there are; the ranks of
                `torch.distributed` step the others, and tell each other of all after each collection.
        """

        def step(given: tuple[Any, list[Tensor], Running], key: Tensor) -> tuple[Running, Window]:
            def lane(agent: Any, own: list[Tensor], running: Running, key: Tensor) -> tuple[Running, Window]:
                *after, row = act_and_step(policy, env.one(own), agent, *running, key, part)
                return tuple(after), row

            return vmap(lane)(*given, key)

        self._key, self._count, self._num_steps = key, count, num_steps
        every = running = (states, carry)
        if part[1] > 1:
            seen = tree.map(lambda x: x.chunk(part[1], dim=1)[part[0]], every)
            running = tree.map(torch.clone, seen)

        # Eager is for debugging: there the user's own functions are called at every step.
        whole = (lambda key: [key]), (lambda given, noise: step(given, noise[0]))
        early, late = whole if backend == "eager" else hoist(step, (agent, values, running), key)

        def draw(noise: list[Tensor], key: Tensor, count: Tensor, begin: Tensor) -> list[Tensor]:
            keys = vmap(self._keys_of_steps, out_dims=1)(key, count)
            return vmap(early)(keys[begin + torch.arange(drawn_at_once, device=key.device)])

        def steps(
            running: Running, rows: Window, agent: Any, values: list[Tensor], noise: list[Tensor]
        ) -> tuple[Running, Window]:
            done = []
            for i in range(rows.episode_return.shape[0]):
                running, row = late((agent, values, running), tree.index(noise, i))
                done.append(row)
            return running, tree.stack(done)

        unroll = max(n for n in range(1, MAX_UNROLL + 1) if num_steps % n == 0)
        width = running[0].episode_length.numel()
        fitting = [
            n for n in range(unroll, num_steps + 1, unroll) if num_steps % n == 0 and n * width <= MAX_DRAWN
        ]
        drawn_at_once = max([unroll, *fitting])

        # Two small eager runs give the shapes of the buffers; cheaper than tracing for them.
        noise = [x.new_zeros((drawn_at_once, *x.shape)) for x in early(key)]
        _, row = step((agent, values, running), key)
        own: Window = tree.map(lambda x: x.new_zeros((num_steps, *x.shape)), row)
        self.draw = jit.jit(draw, donate=(0,), backend=backend)
        self.steps = jit.jit(steps, donate=(0, 1), backend=backend)
        self.programs = [self.draw, self.steps]
        self.calls: list[Callable[[], Any]] = []
        self._rows: list[range] = []
        if part[1] > 1:
            # What is restored from a checkpoint, or begun anew, is put into the states of all.
            self.calls.append(lambda: tree.map(Tensor.copy_, running, seen))
            self._rows.append(range(0))
        for begin in range(0, num_steps, unroll):
            offset = begin % drawn_at_once
            if offset == 0:
                place = torch.full((), begin, dtype=torch.int64, device=key.device)
                self.calls.append(self.draw.bind(noise, key, count, place))
                self._rows.append(range(0))
            rows = tree.index(own, slice(begin, begin + unroll))
            drawn = tree.index(noise, slice(offset, offset + unroll))
            self.calls.append(self.steps.bind(running, rows, agent, values, drawn))
            self._rows.append(range(begin, begin + unroll))
        self.window = own
        if part[1] > 1:
            self._tell_all(own, running, every, part[1], backend)

    def _tell_all(self, own: Window, running: Running, every: Running, count: int, backend: str) -> None:
        """Add what puts the windows and environments of all ranks together, `[T, S, N, ...]` and `[S, N, ...]`."""

        def whole(x: Tensor, dim: int) -> Tensor:
            with collective.over(count):
                return collective.rows(x.movedim(dim, -1)).movedim(-1, dim)

        def gather(
            written: tuple[Window, Running], window: Window, running: Running
        ) -> tuple[Window, Running]:
            return tree.map(lambda x: whole(x, 2), window), tree.map(lambda x: whole(x, 1), running)

        self.window = tree.map(lambda x: x.repeat_interleave(count, dim=2), own)
        program = jit.jit(gather, donate=(0,), backend=backend)
        self.programs.append(program)
        self.calls.append(program.bind((self.window, every), own, running))
        self._rows.append(range(0))

    def __call__(self) -> Window:
        """Collect one window into the buffers and return them."""
        for call in self.calls:
            call()
        return self.window

    def in_parts(self) -> Iterator[range]:
        """Collect one window by the same calls, and yield after each that steps which rows it has written."""
        for call, rows in zip(self.calls, self._rows, strict=True):
            call()
            if rows:
                yield rows

    def first_keys(self, lane: int) -> Tensor:
        """Return what the first environment of a lane steps with in the present collection, `[T, 2]`."""
        keys = self._keys_of_steps(self._key[lane], self._count[lane])
        return vmap(lambda key: random.split(random.split(key, 2)[1], 1)[0])(keys)

    def _keys_of_steps(self, key: Tensor, count: Tensor) -> Tensor:
        return random.split(random.fold_in(key, count), self._num_steps)
