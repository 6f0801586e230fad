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
from funcrl.core import jit, random, tree
from funcrl.train.collect import Window
from funcrl.train.windows import WindowRun


class OnPolicyRun(WindowRun):
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
        self.steps_per_iteration = int(self.config.num_envs * self.config.window_length)

    def _compile(self) -> Callable[[], None]:
        """Compile everything and return one iteration."""
        window, calls, on_host = self._collecting(self._carry.iteration)
        return self._row(on_host, [*calls, *self._learning_calls(window)])

    def _learning_calls(self, window: Window) -> list[Any]:
        """Compile what learns from a window, and return it as a row of calls."""
        carry, backend = self._carry, self.backend
        assert self.collector is not None
        num_batches = self.config.num_epochs * self.config.num_minibatches
        prepare_lanes = torch.vmap(self._prepare_lane, in_dims=(0, 1, 0, 0), out_dims=(1, 0))

        def prepare(written: tuple[Any, ...], agent: Any, rows: Window, key: Tensor) -> tuple[Any, ...]:
            _, last_return, iteration, _ = written
            batches, (mean, episodes) = prepare_lanes(agent, rows, key, iteration)
            returns = torch.where(episodes > 0, mean, last_return)
            return batches, returns, iteration + 1, episodes

        prepared = jit.jit(prepare, donate=(0,), backend=backend)
        update = jit.jit(torch.vmap(self.algorithm.update), donate=(0,), backend=backend)
        self._programs = [*self.collector.programs, prepared, update]

        # A small eager run gives the shapes of the minibatches' buffers.
        example, _ = prepare_lanes(carry.agent, window, carry.learn_key, carry.iteration)
        batches = tree.map(lambda x: torch.zeros_like(x, memory_format=torch.contiguous_format), example)
        written = (batches, carry.last_return, carry.iteration, self._episodes)
        return [
            prepared.bind(written, carry.agent, window, carry.learn_key),
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
