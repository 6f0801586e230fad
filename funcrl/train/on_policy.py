"""The on-policy loop: collect a window, prepare it, shuffle it, update on its minibatches.

One iteration is a fixed row of calls of four compiled programs over buffers that never move. On a
GPU the row is captured into one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl import envs, ops
from funcrl.core import checks, jit, random, tree
from funcrl.core.checks import require
from funcrl.train.collect import Collector, Window, reset_all
from funcrl.train.resolve import resolve_algorithm, resolve_config, resolve_env


@tree.struct
class Carry:
    """All that goes from one iteration to the next, lane axis first."""

    agent: Any
    """`[S]` states of the algorithm"""
    envs: envs.EnvState
    """`[S, N]`"""
    collect_key: Tensor
    """`[S, 2]` int32; iteration i acts and steps with `fold_in(collect_key, i)`"""
    shuffle_key: Tensor
    """`[S, 2]` int32; iteration i cuts its minibatches with `fold_in(shuffle_key, i)`"""
    iteration: Tensor
    """`[S]` int32, number of iterations so far"""
    last_return: Tensor
    """`[S]` float32, mean return of the episodes that ended last; NaN before the first"""


@tree.struct
class Report:
    """What one iteration showed, one figure a lane."""

    returns: Tensor
    """`[S]` mean return of the episodes that ended; the last value where none did, NaN before"""
    episodes: Tensor
    """`[S]` float32, number of episodes that ended"""
    metrics: dict[str, Tensor]
    """`[S]` each, of the last update"""


def steps_per_iteration(config: Any) -> int:
    """Return the number of environment steps that one iteration takes in each lane."""
    return int(config.num_envs * config.window_length)


class OnPolicyRun:
    """Training that can be taken one iteration at a time.

    >>> from funcrl.algos import ppo
    >>> config = ppo.Config(num_envs=2, window_length=8)
    >>> run = OnPolicyRun(ppo, envs.make("CartPole-v1"), config, [0, 1], backend="eager")
    >>> run.iterate().returns.shape
    torch.Size([2])
    """

    def __init__(
        self,
        algorithm: str | ModuleType,
        env: str | envs.Env,
        config: Any,
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        backend: str = "inductor",
    ) -> None:
        """Make the lanes; programs are compiled by the first `iterate`.

        Args:
            algorithm: An on-policy algorithm, for example `ppo` or `"ppo"`.
            env: The environment of every lane.
            config: Its settings; a float may be a list or a tensor `[S]`, one value a lane.
            seeds: One lane each.
            device: Where everything lives.
            backend: See `jit`.
        """
        here = "OnPolicyRun"
        self.algorithm = resolve_algorithm(here, algorithm)
        self.env = resolve_env(here, env)
        self.device = checks.device(here, device)
        self.backend = backend
        self.config, self._carry = self._begin(seeds, config)
        self._episodes = torch.zeros_like(self._carry.last_return)
        self._iterate: Any = None
        self._programs: list[jit.Jit] = []

    @property
    def carry(self) -> Carry:
        """A copy of everything that the next iteration depends on."""
        return tree.map(torch.clone, self._carry)  # type: ignore[no-any-return]

    @property
    def agent(self) -> Any:
        """A copy of the algorithm's states, lane axis first."""
        return tree.map(torch.clone, self._carry.agent)

    @property
    def num_graphs(self) -> int:
        """Number of programs compiled so far: four, and never another one."""
        return sum(program.num_graphs for program in self._programs)

    def restart(self, seeds: Sequence[int], config: Any = None) -> None:
        """Put other lanes, as many as before, in the place of these; nothing is compiled again."""
        config, carry = self._begin(seeds, self.config if config is None else config)
        self.restore(carry)
        self.config = config

    def restore(self, carry: Carry) -> None:
        """Continue from a `carry` that was taken before: the same numbers follow, bit for bit.

        Args:
            carry: Of a run with the same settings but for its floats, and as many lanes.

        Raises:
            ValueError: When it has other shapes.
        """
        hold = f"hold {len(self._carry.iteration)} lanes of a run with these settings"
        own, new = tree.named_leaves(self._carry), tree.named_leaves(carry)
        for name in own.keys() | new.keys():
            shapes = [tuple(leaves[name].shape) if name in leaves else None for leaves in (own, new)]
            value = f"{name} of shape {shapes[1]} for {shapes[0]}"
            require(shapes[0] == shapes[1], "OnPolicyRun.restore", "carry", hold, value)
        for name, leaf in own.items():
            leaf.copy_(new[name])

    def iterate(self) -> Report:
        """Collect one window and learn from it.

        Returns:
            A report of this iteration, in tensors of its own.
        """
        if self._iterate is None:
            self._iterate = jit.capture(self._calls(), self._carry, self.device)
        self._iterate()
        report = Report(self._carry.last_return, self._episodes, self._carry.agent.metrics)
        return tree.map(torch.clone, report)  # type: ignore[no-any-return]

    def _begin(self, seeds: Sequence[int], config: Any) -> tuple[Any, Carry]:
        num_lanes = len(seeds)
        require(num_lanes > 0, "OnPolicyRun", "seeds", "hold at least one integer", seeds)
        config = resolve_config("OnPolicyRun", self.algorithm, config, num_lanes)
        keys = torch.stack([random.key(seed) for seed in seeds]).to(self.device)
        columns = tree.map(
            lambda x: torch.as_tensor(x, dtype=torch.float32, device=self.device).expand(num_lanes),
            config,
        )

        def lane(key: Tensor, settings: Any) -> Carry:
            k_agent, k_envs, k_collect, k_shuffle = random.split(key, 4)
            return Carry(
                agent=self.algorithm.init(k_agent, settings, self.env),
                envs=reset_all(self.env, k_envs, config.num_envs),
                collect_key=k_collect,
                shuffle_key=k_shuffle,
                iteration=torch.zeros((), dtype=torch.int32, device=key.device),
                last_return=torch.full((), torch.nan, device=key.device),
            )

        # Fields that do not depend on the lane come out of vmap as views of one element.
        return config, tree.map(
            lambda x: torch.clone(x, memory_format=torch.contiguous_format), torch.vmap(lane)(keys, columns)
        )

    def _calls(self) -> list[Any]:
        """Compile everything and return one iteration as a row of calls."""
        carry, backend = self._carry, self.backend
        num_batches = self.config.num_epochs * self.config.num_minibatches
        prepare_lanes = torch.vmap(self._prepare_lane, in_dims=(0, 1, 0, 0), out_dims=(1, 0))

        def prepare(written: tuple[Any, ...], agent: Any, window: Window, key: Tensor) -> tuple[Any, ...]:
            _, last_return, iteration, _ = written
            batches, (mean, episodes) = prepare_lanes(agent, window, key, iteration)
            returns = torch.where(episodes > 0, mean, last_return)
            return batches, returns, iteration + 1, episodes

        self.collector = Collector(
            self.algorithm.act,
            self.env,
            carry.agent,
            carry.envs,
            carry.collect_key,
            carry.iteration,
            self.config.window_length,
            backend,
        )
        prepared = jit.jit(prepare, donate=(0,), backend=backend)
        update = jit.jit(torch.vmap(self.algorithm.update), donate=(0,), backend=backend)
        self._programs = [self.collector.draw, self.collector.steps, prepared, update]

        # A small eager run gives the shapes of the minibatches' buffers.
        example, _ = prepare_lanes(carry.agent, self.collector.window, carry.shuffle_key, carry.iteration)
        batches = tree.map(lambda x: torch.empty_like(x, memory_format=torch.contiguous_format), example)
        written = (batches, carry.last_return, carry.iteration, self._episodes)
        return [
            *self.collector.calls,
            prepared.bind(written, carry.agent, self.collector.window, carry.shuffle_key),
            *(update.bind(carry.agent, tree.index(batches, i)) for i in range(num_batches)),
        ]

    def _prepare_lane(
        self, agent: Any, window: Window, key: Tensor, iteration: Tensor
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        """Return one lane's minibatches of all epochs, `[E · M, B, ...]`, and its ended episodes."""
        config = self.config
        data = self.algorithm.prepare(agent, window.transition)
        num_rows = steps_per_iteration(config)
        keys = random.split(random.fold_in(key, iteration), config.num_epochs)
        order = torch.vmap(lambda k: random.permutation(k, num_rows))(keys)
        rows = order.reshape(-1, num_rows // config.num_minibatches)
        ended = ops.mean_of_ended(window.episode_return, window.ended)
        return tree.map(lambda x: x[rows], data), ended
