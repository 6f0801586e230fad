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
from funcrl.core import checks, jit, lanes, random, tree
from funcrl.core.checks import require
from funcrl.envs.host_vector import HostVector
from funcrl.train.collect import Collector, Window
from funcrl.train.host_collect import HostCollector
from funcrl.train.resolve import resolve_algorithm, resolve_config, resolve_env


@tree.struct
class Carry:
    """All that goes from one iteration to the next, lane axis first."""

    agent: Any
    """`[S]` states of the algorithm"""
    envs: envs.EnvState | tuple[()]
    """`[S, N]`; nothing where the environments run on the host, which nothing can put back"""
    env_values: list[Tensor]
    """`[S]` each: the numbers in which the lanes' environments differ"""
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
        env: str | envs.AnyEnv,
        config: Any,
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        backend: str = "inductor",
    ) -> None:
        """Make the lanes; programs are compiled by the first `iterate`.

        Args:
            algorithm: An on-policy algorithm, for example `ppo` or `"ppo"`.
            env: The environment of every lane; a float field may hold one value a lane.
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
        self.collector: Collector | HostCollector | None = None
        self.config, self._carry = self._begin(seeds, config)
        self._seeds = tuple(seeds)
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
        """Number of programs compiled so far: four (three with a host environment), and never another one."""
        return sum(program.num_graphs for program in self._programs)

    def restart(self, seeds: Sequence[int], config: Any = None, env: Any = None) -> None:
        """Put other lanes, as many as before, in the place of these; nothing is compiled again.

        Args:
            seeds: One lane each.
            config: Their settings; those of before by default.
            env: The same environment with other values of the fields that differ between lanes.
        """
        self.env = self.env if env is None else env
        config, carry = self._begin(seeds, self.config if config is None else config)
        self._put(carry)
        self.config, self._seeds = config, tuple(seeds)
        if isinstance(self.collector, HostCollector):
            self.collector.reset(self._seeds)

    def restore(self, carry: Carry) -> None:
        """Continue from a `carry` that was taken before: the same numbers follow, bit for bit.

        Args:
            carry: Of a run with the same settings but for its floats, and as many lanes.

        Raises:
            ValueError: When it has other shapes, or the environment runs on the host: what it was
                doing when the carry was taken cannot be put back.
        """
        require(self._carry.envs != (), "OnPolicyRun.restore", "env", "live on the device", str(self.env))
        self._put(carry)

    def _put(self, carry: Carry) -> None:
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
            self._iterate = self._compile()
        self._iterate()
        report = Report(self._carry.last_return, self._episodes, self._carry.agent.metrics)
        return tree.map(torch.clone, report)  # type: ignore[no-any-return]

    def close(self) -> None:
        """End environments on the host, and their processes; nothing to do for those on the device."""
        if isinstance(self.collector, HostCollector):
            self.collector.env.close()

    def _begin(self, seeds: Sequence[int], config: Any) -> tuple[Any, Carry]:
        num_lanes = len(seeds)
        require(num_lanes > 0, "OnPolicyRun", "seeds", "hold at least one integer", seeds)
        config = resolve_config("OnPolicyRun", self.algorithm, config, num_lanes)
        on_host = isinstance(self.env, envs.HostEnv)
        if not on_host:
            self.env = lanes.spread("OnPolicyRun", "env", self.env, num_lanes)
        own = lanes.Lanes(() if on_host else self.env)
        spaces: Any = self.env if on_host else own.first
        keys = torch.stack([random.key(seed) for seed in seeds]).to(self.device)
        columns = tree.map(
            lambda x: torch.as_tensor(x, dtype=torch.float32, device=self.device).expand(num_lanes),
            config,
        )

        def lane(key: Tensor, settings: Any, values: list[Tensor]) -> Carry:
            k_agent, k_envs, k_collect, k_shuffle = random.split(key, 4)
            k_each = random.split(k_envs, config.num_envs)
            return Carry(
                agent=self.algorithm.init(k_agent, settings, spaces),
                envs=() if on_host else envs.reset_all(own.one(values), k_each),
                env_values=values,
                collect_key=k_collect,
                shuffle_key=k_shuffle,
                iteration=torch.zeros((), dtype=torch.int32, device=key.device),
                last_return=torch.full((), torch.nan, device=key.device),
            )

        # Fields that do not depend on the lane come out of vmap as views of one element.
        values = [column.to(self.device) for column in own.values]
        carry = torch.vmap(lane)(keys, columns, values)
        return config, tree.map(lambda x: torch.clone(x, memory_format=torch.contiguous_format), carry)

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
        example, _ = prepare_lanes(carry.agent, collector.window, carry.shuffle_key, carry.iteration)
        batches = tree.map(lambda x: torch.empty_like(x, memory_format=torch.contiguous_format), example)
        written = (batches, carry.last_return, carry.iteration, self._episodes)
        return [
            prepared.bind(written, carry.agent, collector.window, carry.shuffle_key),
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
