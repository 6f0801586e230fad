"""The on-policy loop: collect a window, prepare it, shuffle it, update on its minibatches.

One iteration is a fixed row of calls of four compiled programs over buffers that never move. On a
GPU the row is captured into one CUDA graph. With an environment on the host, two programs learn and
one acts, and the environment is stepped in between.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl import envs
from funcrl.algos import progress
from funcrl.core import random, tree
from funcrl.core.batching import vmap
from funcrl.core.checks import require
from funcrl.train import empty_masks
from funcrl.train.collect import Window
from funcrl.train.stages import Binding, Stage

CYCLE = "num_envs · window_length"
"""What a cycle, and so an iteration, is made of, in environment steps."""


def check(function: str, env: envs.AnyEnv, config: Any, num_steps: int | None = None) -> None:
    """Accept every environment, and every length of a run."""


def steps_per_cycle(config: Any) -> int:
    """Return the environment steps of a lane in one window."""
    return int(config.num_envs * config.window_length)


def cycles_per_iteration(config: Any, num_steps: int) -> int:
    """Return 1: each window is reported."""
    return 1


def memory_bytes(env: envs.AnyEnv, config: Any) -> int:
    """Return 0: nothing is remembered from one window to the next."""
    return 0


def memory(agent: Any, spaces: Any) -> tuple[()]:
    """Return nothing."""
    return ()


def stages(binding: Binding) -> list[Stage]:
    """Compile an iteration: collect · prepare · update × (epochs · minibatches)."""
    carry, config = binding.carry, binding.config
    require(binding.num_cycles == 1, "Run", "num_cycles", "be 1 in the on-policy loop", binding.num_cycles)
    lane = functools.partial(minibatches, binding.algorithm)
    prepare_lanes = vmap(lane, in_dims=(0, 1, 0, 0), out_dims=(1, 0, 0))

    def prepare(written: Prepared, agent: Any, window: Window, key: Tensor, iteration: Tensor) -> Prepared:
        return prepare_lanes(agent, window, key, iteration)

    collector = binding.collect(carry.iteration, binding.part)
    prepared, update = (
        binding.compile(prepare),
        binding.compile(vmap(binding.of_part(binding.algorithm.update))),
    )
    read = (carry.agent, collector.window, carry.learn_key, carry.iteration)
    # A small eager run gives the shapes of the minibatches' buffers.
    example, *_ = prepare_lanes(*read)
    batches = tree.map(lambda x: torch.zeros_like(x, memory_format=torch.contiguous_format), example)
    num_batches = progress.updates_per_window(config)
    observing = []
    if getattr(binding.algorithm, "observes", lambda agent: False)(carry.agent):
        observe = binding.compile(vmap(binding.algorithm.observe, in_dims=(0, 1)))
        observing = [observe.bind(carry.agent, collector.window.transition)]
    calls = [
        prepared.bind((batches, carry.earned, carry.episodes), *read),
        *(update.bind(carry.agent, tree.index(batches, i)) for i in range(num_batches)),
        *observing,
        binding.end,
    ]
    return [binding.row(calls, collector), *empty_masks.check_window(binding)]


Prepared = tuple[Any, Tensor, Tensor]
"""Minibatches of all epochs, `[E · M, B, ...]`, the sum of the returns of the episodes that ended, and their number."""


def minibatches(
    algorithm: ModuleType, agent: Any, window: Window, key: Tensor, iteration: Tensor
) -> Prepared:
    """Prepare one lane's window, and cut it into minibatches, shuffled anew in each epoch.

    Args:
        algorithm: What learns.
        agent: Its state.
        window: `[T, N, ...]`.
        key: `[2]` int32.
        iteration: `[]` int32, number of the window.
    """
    config = agent.config
    data = algorithm.prepare(agent, window.transition)
    if progress.updates_per_window(config) == 1:
        return tree.map(lambda x: x.unsqueeze(0), data), *window.ended_returns()
    num_rows = tree.leaves(data)[0].shape[0]
    keys = random.split(random.fold_in(key, iteration), config.num_epochs)
    order = vmap(lambda k: random.permutation(k, num_rows))(keys)
    rows = order.reshape(-1, num_rows // config.num_minibatches)
    return tree.map(lambda x: x[rows], data), *window.ended_returns()
