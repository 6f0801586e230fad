"""The on-policy loop: collect a window, prepare it, shuffle it, update on its minibatches.

One iteration is a fixed row of calls of four compiled programs over buffers that never move. On a
GPU the row is captured into one CUDA graph. With an environment on the host, two programs learn and
one acts, and the environment is stepped in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl import envs, ops
from funcrl.core import jit, lanes, random, tree
from funcrl.envs.host_vector import HostVector
from funcrl.train.collect import Collector, Window
from funcrl.train.host_collect import HostCollector
from funcrl.train.run import Run


class OnPolicyRun(Run):
    """Training of an algorithm that learns from windows of its own experience, as `ppo` does.

    >>> from funcrl.algos import ppo
    >>> config = ppo.Config(num_envs=2, window_length=8)
    >>> run = OnPolicyRun(ppo, envs.make("CartPole-v1"), config, [0, 1], backend="eager")
    >>> run.iterate().returns.shape
    torch.Size([2])
    """

    def __init__(
        self,
        algorithm: str | ModuleType,
        env: str | envs.AnyEnv,
        config: Any,
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        backend: str = "inductor",
    ) -> None:
        """Make the lanes, see `Run`."""
        super().__init__(algorithm, env, config, seeds, device, backend)
        self.collector: Collector | HostCollector | None = None
        self.steps_per_iteration = int(self.config.num_envs * self.config.window_length)

    def restart(self, seeds: Sequence[int], config: Any = None, env: Any = None) -> None:
        """Put other lanes, as many as before, in the place of these; nothing is compiled again."""
        super().restart(seeds, config, env)
        if isinstance(self.collector, HostCollector):
            self.collector.reset(self._seeds)

    def close(self) -> None:
        """End environments on the host, and their processes; nothing to do for those on the device."""
        if isinstance(self.collector, HostCollector):
            self.collector.env.close()

    def _compile(self) -> Callable[[], None]:
        """Compile everything and return one iteration."""
        if not isinstance(self.env, envs.HostEnv):
            collector = self._device_collector(lanes.Lanes(self.env))
            learn = self._learning_calls(collector)
            return jit.capture([*collector.calls, *learn], self._carry, self.device)
        on_host = HostCollector(
            self.algorithm.act,
            HostVector(self.env, len(self._seeds), self.config.num_envs),
            self._carry.agent,
            self._carry.collect_key,
            self._carry.iteration,
            self.config.window_length,
            self.backend,
        )
        on_host.reset(self._seeds)
        # Known from here on, so that `close` ends the environments whatever happens while compiling.
        self.collector = on_host
        learn_captured = jit.capture(self._learning_calls(on_host), self._carry, self.device)

        def iterate() -> None:
            on_host()
            learn_captured()

        return iterate

    def _device_collector(self, env: lanes.Lanes) -> Collector:
        carry = self._carry
        assert isinstance(carry.envs, envs.EnvState)
        return Collector(
            self.algorithm.act,
            env,
            carry.env_values,
            carry.agent,
            carry.envs,
            carry.collect_key,
            carry.iteration,
            self.config.window_length,
            self.backend,
        )

    def _learning_calls(self, collector: Collector | HostCollector) -> list[Any]:
        """Compile what learns from the collector's window, and return it as a row of calls."""
        carry, backend = self._carry, self.backend
        self.collector = collector
        num_batches = self.config.num_epochs * self.config.num_minibatches
        prepare_lanes = torch.vmap(self._prepare_lane, in_dims=(0, 1, 0, 0), out_dims=(1, 0))

        def prepare(written: tuple[Any, ...], agent: Any, window: Window, key: Tensor) -> tuple[Any, ...]:
            _, last_return, iteration, _ = written
            batches, (mean, episodes) = prepare_lanes(agent, window, key, iteration)
            returns = torch.where(episodes > 0, mean, last_return)
            return batches, returns, iteration + 1, episodes

        prepared = jit.jit(prepare, donate=(0,), backend=backend)
        update = jit.jit(torch.vmap(self.algorithm.update), donate=(0,), backend=backend)
        self._programs = [*collector.programs, prepared, update]

        # A small eager run gives the shapes of the minibatches' buffers.
        example, _ = prepare_lanes(carry.agent, collector.window, carry.learn_key, carry.iteration)
        batches = tree.map(lambda x: torch.empty_like(x, memory_format=torch.contiguous_format), example)
        written = (batches, carry.last_return, carry.iteration, self._episodes)
        return [
            prepared.bind(written, carry.agent, collector.window, carry.learn_key),
            *(update.bind(carry.agent, tree.index(batches, i)) for i in range(num_batches)),
        ]

    def _prepare_lane(
        self, agent: Any, window: Window, key: Tensor, iteration: Tensor
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        """Return one lane's minibatches of all epochs, `[E · M, B, ...]`, and its ended episodes."""
        config = self.config
        data = self.algorithm.prepare(agent, window.transition)
        num_rows = self.steps_per_iteration
        keys = random.split(random.fold_in(key, iteration), config.num_epochs)
        order = torch.vmap(lambda k: random.permutation(k, num_rows))(keys)
        rows = order.reshape(-1, num_rows // config.num_minibatches)
        ended = ops.mean_of_ended(window.episode_return, window.ended)
        return tree.map(lambda x: x[rows], data), ended
