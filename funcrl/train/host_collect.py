"""Collecting a window of experience from environments on the host."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from funcrl.core import Transition, jit, random, tree
from funcrl.core.batching import vmap
from funcrl.envs.host_vector import HostStep, HostVector
from funcrl.train.acting import Policy, with_carry
from funcrl.train.collect import Window


class HostCollector:
    """Acts with one compiled program and steps the host environments of all lanes in between.

    Each environment gives T rows. Where a vector environment spends a step on beginning an episode
    (NEXT_STEP autoreset) that step is no row, so the lane's other environments make a few steps more
    than the window holds; those are dropped. Other lanes do not wait: they would see each other.

    On a GPU a window is put together in pinned memory and copied over in one go.
    """

    def __init__(
        self,
        policy: Policy,
        env: HostVector,
        agent: Any,
        key: Tensor,
        count: Tensor,
        num_steps: int,
        backend: str,
    ) -> None:
        """Compile the policy; `reset` must be called before the first window.

        Args:
            policy: What chooses the actions.
            env: The environments of all S lanes, N each.
            agent: `[S]` states of the algorithm; only read.
            key: `[S, 2]` int32; step t of collection i uses `fold_in(fold_in(key, i), t)`.
            count: `[S]` int32, number of the collection; read every time, counted on by the caller.
            num_steps: T.
            backend: See `jit`.
        """

        def act(agent: Any, obs: Any, carry: Any, key: Tensor, count: Tensor, step: Tensor) -> Any:
            key = random.fold_in(random.fold_in(key, count), step)
            now = policy.remember(agent, obs, carry, key)
            return policy.act(agent, obs, key, now), now

        self.env = env
        self.num_steps = num_steps
        self.act = jit.jit(vmap(act, in_dims=(0, 0, 0, 0, 0, None)), backend=backend)
        self.programs = [self.act]
        self.window: Any = None
        self.seconds = 0.0
        """that windows have waited for environments so far"""
        self._thread: ThreadPoolExecutor | None = None
        self._policy = policy
        self._arguments = (agent, key, count)
        self._step = torch.zeros((), dtype=torch.int32, device=key.device)
        self._device = key.device

    def reset(self, seeds: Sequence[int]) -> None:
        """Begin an episode everywhere.

        Args:
            seeds: One a lane.
        """
        obs = self.env.reset(seeds)
        self._next = obs
        agent, key, count = self._arguments
        self._obs = tree.map(lambda x: self._by_lane(x).clone(), obs)
        self._carry = tree.map(torch.clone, self._initial_carries())
        self._act = self.act.bind(agent, self._obs, self._carry, key, count, self._step)
        self._returns = torch.zeros(self.env.num_lanes * self.env.num_envs, dtype=torch.float32, device="cpu")
        if self.window is None:
            self._make_buffers()

    def reopen(self) -> None:
        """Make the environments anew, for a process that inherited those of another by a fork.

        Those of before are kept out of use, not closed: their processes and pipes are the other's.
        """
        self._inherited = self.env
        self.env = HostVector(self.env.env, self.env.num_lanes, self.env.num_envs)

    def close(self) -> None:
        """End all environments, and their processes."""
        if self._thread is not None:
            self._thread.shutdown()
        self.env.close()

    def __call__(self, meanwhile: Callable[[int], object] | None = None) -> Window:
        """Collect one window and return it; the next call overwrites it.

        Args:
            meanwhile: Called with t while the environments take their step t of the window on another thread, once
                for each t below T. It may change the agent, which has chosen the actions of that step before.
        """
        rows = torch.zeros_like(self._returns, dtype=torch.int64)
        self._step.zero_()
        taken = 0
        while int(rows.min()) < self.num_steps:
            tree.map(lambda buffer, obs: buffer.copy_(self._by_lane(obs)), self._obs, self._next)
            (action, extras), carry = self._act()
            told = (action, with_carry(extras, self._carry))
            chosen = tree.map(lambda x: x.flatten(0, 1).cpu(), told)
            self._step += 1
            unfinished = rows.reshape(self.env.num_lanes, -1).amin(1) < self.num_steps
            # Steps that only begin episodes can make it more than T.
            work = functools.partial(meanwhile, taken) if meanwhile and taken < self.num_steps else None
            step = self._take(chosen[0], unfinished.tolist(), work)
            taken += 1
            self._returns += torch.where(step.valid, step.reward, 0.0)
            self._write(rows, chosen, step)
            rows += step.valid
            over = step.terminated | step.truncated
            self._returns[over] = 0.0
            self._remember(carry, step.valid, over)
            self._next = step.obs
        if self._staged is not self.window:
            tree.map(lambda there, here: there.copy_(here, non_blocking=True), self.window, self._staged)
        return self.window  # type: ignore[no-any-return]

    def forget(self) -> None:
        """Remember nothing of what `choose` has been shown: another episode begins."""
        tree.map(lambda buffer, first: buffer.copy_(first), self._carry, self._initial_carries())

    def choose(self, lane: int, obs: Any, step: int) -> Any:
        """Return what the first environment of a lane is to do, by the program that acts in all of them.

        What it remembers is gone on from, see `forget`.

        Args:
            lane: Which.
            obs: `[...]` what is seen there, on the host; what others see is left as it is.
            step: Number of the step in the present collection.

        Returns:
            `[...]` action, on the host.
        """
        tree.map(lambda buffer, own: buffer[lane, 0].copy_(own), self._obs, obs)
        self._step.fill_(step)
        (action, _), carry = self._act()
        tree.map(lambda buffer, after: buffer[lane, 0].copy_(after[lane, 0]), self._carry, carry)
        return tree.map(lambda x: x[lane, 0].cpu(), action)

    def _take(self, action: Any, wanted: list[bool], work: Callable[[], object] | None) -> HostStep:
        """Take a step in all environments, on a thread of its own where there is work to do meanwhile."""
        if work is None:
            began = time.perf_counter()
            step = self.env.step(action, wanted)
        else:
            self._thread = self._thread or ThreadPoolExecutor(1, "funcrl environments")
            coming = self._thread.submit(self.env.step, action, wanted)
            try:
                work()
            finally:
                began = time.perf_counter()
                step = coming.result()
        self.seconds += time.perf_counter() - began
        return step

    def _remember(self, carry: Any, valid: Tensor, over: Tensor) -> None:
        """Keep what was remembered where a step was none, and nothing where an episode is over."""
        if not tree.leaves(carry):
            return
        valid, over = self._by_lane(valid), self._by_lane(over)
        after = vmap(self._policy.next_carries)(self._arguments[0], carry, over)
        tree.map(lambda buffer, new: buffer.copy_(new), self._carry, tree.where(valid, after, self._carry))

    def _initial_carries(self) -> Any:
        """Return what is remembered where episodes begin, `[S, N]`."""
        begin = lambda agent: self._policy.initial_carries(agent, self.env.num_envs)
        return vmap(begin)(self._arguments[0])

    def _write(self, rows: Tensor, chosen: tuple[Tensor, Any], step: HostStep) -> None:
        """Put a step into row `rows[e]` of each environment e that has one to come."""
        which = (step.valid & (rows < self.num_steps)).nonzero().flatten()
        at = rows[which]
        action, extras = chosen
        row = Window(
            Transition(
                obs=self._next,
                action=action,
                reward=step.reward,
                terminated=step.terminated,
                truncated=step.truncated,
                next_obs=step.next_obs,
                extras=extras,
            ),
            episode_return=self._returns,
        )

        def put(buffer: Tensor, values: Tensor) -> None:
            buffer.flatten(1, 2)[at, which] = values[which]

        tree.map(put, self._staged, row)

    def _make_buffers(self) -> None:
        (action, extras), carry = self._act()
        extras = with_carry(extras, carry)
        shape = (self.num_steps, self.env.num_lanes, self.env.num_envs)
        flag = torch.zeros(shape, dtype=torch.bool, device="cpu")
        number = torch.zeros(shape, dtype=torch.float32, device="cpu")

        def like(x: Tensor) -> Tensor:
            return torch.zeros((self.num_steps, *x.shape), dtype=x.dtype, device="cpu")

        obs = tree.map(like, self._obs)
        transition = Transition(
            obs=obs,
            action=tree.map(like, action),
            reward=number,
            terminated=flag,
            truncated=flag.clone(),
            next_obs=tree.map(torch.clone, obs),
            extras=tree.map(like, extras),
        )
        self._staged = Window(transition, number.clone())
        self.window = self._staged
        if self._device.type == "cuda":
            self._staged = tree.map(lambda x: x.pin_memory(), self._staged)
            self.window = tree.map(lambda x: x.to(self._device), self._staged)

    def _by_lane(self, values: Tensor) -> Tensor:
        """Turn `[E, ...]` on the host into `[S, N, ...]` on the device."""
        by_lane = values.reshape(self.env.num_lanes, self.env.num_envs, *values.shape[1:])
        return by_lane.to(self._device)
