"""The off-policy loop: collect a window, add it to the replay buffer, learn from what the buffer holds.

One cycle is a fixed row of calls of compiled programs over buffers that never move: drawing and
stepping (see `collect`), adding, and, once warm, a number of times the one program that samples a
batch and takes a gradient step. An iteration, what lies between two reports, is several cycles.
With an environment on the host, acting is a program and the stepping happens in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from funcrl import envs
from funcrl.buffers import Replay, check_storage, memory, prioritised, uniform
from funcrl.core import Transition, checks, jit, lanes, random, tree
from funcrl.ops.schedules import known_length, linear
from funcrl.train.collect import Window
from funcrl.train.resolve import resolve_config
from funcrl.train.windows import WindowRun

STEPS_PER_ITERATION = 1000
"""Environment steps of a lane in one iteration, about: what lies between two reports."""


@tree.struct
class Memory:
    """What one lane of the loop remembers beside agent and environments."""

    buffer: Any
    """the replay buffer"""
    cycle: Tensor
    """`[]` int32, windows collected so far"""
    returns: Tensor
    """`[]` float32, sum of the returns of the episodes that ended in this iteration"""
    episodes: Tensor
    """`[]` float32, how many ended in it"""


class OffPolicyRun(WindowRun):
    """Training of an algorithm that learns from replayed experience, as `dqn` does.

    >>> from funcrl.algos import dqn
    >>> config = dqn.Config(batch_size=4, warmup_steps=20)
    >>> run = OffPolicyRun(dqn, envs.make("CartPole-v1"), config, [0, 1], backend="eager", num_cycles=3)
    >>> run.iterate().returns.shape, run.agent.step
    (torch.Size([2]), tensor([2, 2], dtype=torch.int32))
    """

    def __init__(
        self,
        algorithm: str | ModuleType,
        env: str | envs.AnyEnv,
        config: Any,
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        backend: str = "inductor",
        num_cycles: int = 1,
    ) -> None:
        """Make the lanes, see `Run`.

        Args:
            algorithm: Name or module, whose `update` takes a `ReplayBatch`.
            env: The environment of every lane.
            config: Its settings.
            seeds: One lane each.
            device: Where everything lives.
            backend: See `jit`.
            num_cycles: Windows in one iteration.
        """
        checks.integer("OffPolicyRun", "num_cycles", num_cycles, 1)
        super().__init__(algorithm, env, config, seeds, device, backend)
        self.num_cycles = num_cycles
        self.steps_per_iteration = num_cycles * self._steps_per_cycle
        self._cycle = 0

    @property
    def _steps_per_cycle(self) -> int:
        return int(self.config.num_envs * self.config.window_length)

    def _begin(self, seeds: Sequence[int], config: Any) -> tuple[Any, Any]:
        if not hasattr(self, "_carry"):
            config = resolve_config("OffPolicyRun", self.algorithm, config, len(seeds))
            needed = replay_bytes(self.env, config)
            memory.check_memory("OffPolicyRun", needed, len(seeds), config, self.device)
        return super()._begin(seeds, config)

    def _memory(self, agent: Any, spaces: Any, key: Tensor) -> Memory:
        zero = torch.zeros((), dtype=torch.float32, device=key.device)
        example = _example(spaces, agent.config.num_envs, key.device)
        return Memory(
            buffer=_buffer(agent.config)(example),
            cycle=zero.to(torch.int32),
            returns=zero,
            episodes=zero,
        )

    def _put(self, carry: Any) -> None:
        super()._put(carry)
        self._cycle = int(carry.memory.cycle[0])

    def _compile(self) -> Callable[[], None]:
        carry = self._carry
        window, calls, on_host = self._collecting(carry.memory.cycle)
        assert self.collector is not None
        add = jit.jit(
            torch.vmap(_add, in_dims=((0, 0), 1)),
            donate=(0,),
            backend=self.backend,
        )
        learn = jit.jit(torch.vmap(self._learn), donate=(0,), backend=self.backend)
        self._programs = [*self.collector.programs, add, learn]
        added = add.bind((carry.memory, carry.agent.env_steps), window)
        replay, priorities = _apart(carry.memory.buffer)
        update = learn.bind((carry.agent, priorities), replay, carry.learn_key)
        collect_and_add = self._row(on_host, [*calls, added])
        learn_some = self._row(None, [update] * self.config.updates_per_window)
        size = self._steps_per_cycle
        needed = steps_before_learning(self.config)

        def iterate() -> None:
            now = carry.memory
            now.returns.zero_()
            now.episodes.zero_()
            for _ in range(self.num_cycles):
                collect_and_add()
                if self.config.storage:
                    check_storage("train", _apart(now.buffer)[0], window.transition)
                self._cycle += 1
                if self._cycle * size >= needed:
                    learn_some()
            mean = now.returns / now.episodes
            carry.last_return.copy_(torch.where(now.episodes > 0, mean, carry.last_return))
            self._episodes.copy_(now.episodes)
            carry.iteration.add_(1)

        return iterate

    def _learn(self, written: tuple[Any, Any], replay: Replay, key: Tensor) -> tuple[Any, Any]:
        """Sample, take a gradient step, and rank what was learnt from anew, in one lane."""
        agent, priorities = written
        config, key = agent.config, random.fold_in(key, agent.step)
        if config.replay == "uniform":
            batch = uniform.sample(replay, key, config.batch_size, config.gamma, config.n_step)
            return self.algorithm.update(agent, batch), priorities
        levels, largest = priorities
        buffer = prioritised.Prioritised(replay, levels, largest, config.n_step)
        # β rises to 1: Schaul et al. 2016, section 3.4.
        over = known_length(config.importance_steps)
        exponent = linear(config.importance_exponent, 1.0, over, agent.env_steps)
        batch, index = prioritised.sample(buffer, key, config.batch_size, config.gamma, exponent)
        agent = self.algorithm.update(agent, batch)
        buffer = prioritised.update(buffer, index, agent.td_error, config.priority_exponent)
        return agent, _apart(buffer)[1]


def steps_before_learning(config: Any) -> int:
    """Return how many environment steps a lane must have taken before it can learn."""
    return max(int(config.warmup_steps), int(config.n_step * config.num_envs))


def replay_bytes(env: envs.AnyEnv, config: Any) -> int:
    """Return how many bytes the replay buffer of one lane takes.

    Args:
        env: The environment; a float field may hold one value a lane.
        config: The settings, likewise.
    """
    spaces: Any = env if isinstance(env, envs.HostEnv) else lanes.Lanes(env).first
    return memory.lane_bytes(_buffer(config), _example(spaces, config.num_envs, torch.device("cpu")))


def _buffer(config: Any) -> Callable[[Transition], Any]:
    """Return what makes an empty buffer of settings from an example of one step."""
    rows = config.buffer_size // config.num_envs
    storage = {"obs": getattr(torch, config.storage)} if config.storage else {}
    if config.replay == "prioritised":
        return lambda example: prioritised.init(example, rows, storage, config.n_step)
    return lambda example: uniform.init(example, rows, storage)


def _apart(buffer: Any) -> tuple[Replay, tuple[Any, ...]]:
    """Return the part of a buffer that learning only reads, and the part that it writes."""
    if isinstance(buffer, prioritised.Prioritised):
        return buffer.replay, (buffer.priorities, buffer.largest)
    return buffer, ()


def _example(spaces: Any, num_envs: int, device: torch.device) -> Transition:
    """Return one step of a lane's N environments as the buffer will see it, with values of no meaning."""

    def rows(space: Any) -> Tensor:
        kind = torch.from_numpy(np.zeros(0, space.dtype)).dtype
        return torch.zeros(num_envs, *space.shape, dtype=kind, device=device)

    obs = rows(spaces.observation_space)
    no = torch.zeros(num_envs, dtype=torch.bool, device=device)
    return Transition(
        obs=obs,
        action=rows(spaces.action_space),
        reward=torch.zeros(num_envs, dtype=torch.float32, device=device),
        terminated=no,
        truncated=no,
        next_obs=obs,
        extras={},
    )


def _add(written: tuple[Memory, Tensor], window: Window) -> tuple[Memory, Tensor]:
    """Put one lane's window into its memory, and count."""
    before, env_steps = written
    ended, buffer = window.ended, before.buffer
    add = prioritised.add if isinstance(buffer, prioritised.Prioritised) else uniform.add
    buffer = add(buffer, window.transition)
    after = Memory(
        buffer=buffer,
        cycle=before.cycle + 1,
        returns=before.returns + torch.where(ended, window.episode_return, 0.0).sum(),
        episodes=before.episodes + ended.sum(),
    )
    return after, env_steps + ended.numel()


def cycles_per_iteration(config: Any, num_steps: int) -> int:
    """Return how many windows an iteration has, in a run of so many steps of each lane."""
    cycles = num_steps // (config.num_envs * config.window_length)
    return int(max(1, cycles // max(1, num_steps // STEPS_PER_ITERATION)))
