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
from funcrl.buffers import uniform
from funcrl.core import Transition, checks, jit, random, tree
from funcrl.train.collect import Window
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

    def _memory(self, agent: Any, spaces: Any, key: Tensor) -> Memory:
        config, space = agent.config, spaces.observation_space
        kind = torch.from_numpy(np.zeros(0, space.dtype)).dtype
        obs = torch.zeros(config.num_envs, *space.shape, dtype=kind, device=key.device)
        action, _ = self.algorithm.act(agent, obs, key)
        reward = torch.zeros(config.num_envs, device=key.device)
        no = torch.zeros_like(reward, dtype=torch.bool)
        step = Transition(
            obs=obs,
            action=torch.zeros_like(action),
            reward=reward,
            terminated=no,
            truncated=no,
            next_obs=obs,
            extras={},
        )
        zero = torch.zeros((), device=key.device)
        return Memory(
            buffer=uniform.init(step, config.buffer_size // config.num_envs),
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
        add = jit.jit(torch.vmap(_add, in_dims=((0, 0), 1)), donate=(0,), backend=self.backend)
        learn = jit.jit(torch.vmap(self._learn), donate=(0,), backend=self.backend)
        self._programs = [*self.collector.programs, add, learn]
        added = add.bind((carry.memory, carry.agent.env_steps), window)
        update = learn.bind(carry.agent, carry.memory.buffer, carry.learn_key)
        collect_and_add = self._row(on_host, [*calls, added])
        learn_some = self._row(None, [update] * self.config.updates_per_window)
        size = self._steps_per_cycle
        needed = max(self.config.warmup_steps, self.config.n_step * self.config.num_envs)

        def iterate() -> None:
            memory = carry.memory
            memory.returns.zero_()
            memory.episodes.zero_()
            for _ in range(self.num_cycles):
                collect_and_add()
                self._cycle += 1
                if self._cycle * size >= needed:
                    learn_some()
            mean = memory.returns / memory.episodes
            carry.last_return.copy_(torch.where(memory.episodes > 0, mean, carry.last_return))
            self._episodes.copy_(memory.episodes)
            carry.iteration.add_(1)

        return iterate

    def _learn(self, agent: Any, buffer: Any, key: Tensor) -> Any:
        """Sample and take a gradient step, in one lane."""
        config = agent.config
        key = random.fold_in(key, agent.step)
        batch = uniform.sample(buffer, key, config.batch_size, config.gamma, config.n_step)
        return self.algorithm.update(agent, batch)


def _add(written: tuple[Memory, Tensor], window: Window) -> tuple[Memory, Tensor]:
    """Put one lane's window into its memory, and count."""
    memory, env_steps = written
    ended = window.ended
    memory = Memory(
        buffer=uniform.add(memory.buffer, window.transition),
        cycle=memory.cycle + 1,
        returns=memory.returns + torch.where(ended, window.episode_return, 0.0).sum(),
        episodes=memory.episodes + ended.sum(),
    )
    return memory, env_steps + ended.numel()


def cycles_per_iteration(config: Any, num_steps: int) -> int:
    """Return how many windows an iteration has, in a run of so many steps of each lane."""
    return int(max(1, min(STEPS_PER_ITERATION, num_steps) // (config.num_envs * config.window_length)))
