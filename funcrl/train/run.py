"""Training that can be taken one iteration at a time: lanes that are begun, stepped, put back and replaced.

A run holds its carry, all that goes from one iteration to the next, in buffers that never move. What an
iteration does to it is the algorithm's loop, a row of stages; nothing here depends on which loop that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl import envs
from funcrl.buffers import memory
from funcrl.core import checks, lanes, random, tree
from funcrl.core.batching import vmap
from funcrl.core.checks import require
from funcrl.core.resolve import resolve_config
from funcrl.train import acting
from funcrl.train.carry import Carry, Report
from funcrl.train.collect import Collector
from funcrl.train.host_collect import HostCollector
from funcrl.train.learnt import Learnt
from funcrl.train.loops import loop_of
from funcrl.train.resolve import num_envs, resolve_algorithm, resolve_env
from funcrl.train.stages import Binding, Evaluations, Stage, evaluate


class Run:
    """Training of some lanes, one iteration after the other.

    >>> from funcrl.algos import dqn
    >>> config = dqn.Config(batch_size=4, warmup_steps=20)
    >>> run = Run(dqn, envs.make("CartPole-v1"), config, [0, 1], backend="eager", num_cycles=3)
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
        evaluations: Evaluations | None = None,
        learnt: Learnt | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        """Make the lanes; programs are compiled by `compile`, or by the first `iterate`.

        Args:
            algorithm: Name or module; it says which loop trains it.
            env: The environment of every lane; a float field may hold one value a lane.
            config: Its settings; a float may be a list or a tensor `[S]`, one value a lane.
            seeds: One lane each.
            device: Where everything lives.
            backend: See `jit`.
            num_cycles: How often an iteration acts and learns: windows in the off-policy loop, steps of
                each environment in the online loop, 1 in the on-policy loop.
            evaluations: Whether agents play greedy episodes now and then, which the report's metrics then
                hold as `evaluation_return`.
            learnt: What the lanes know at the beginning; nothing by default.
            part: Which part of every batch this process learns from, and how many ranks there are that do so.
        """
        self.algorithm = resolve_algorithm("Run", algorithm)
        self.env = resolve_env("Run", env)
        self.device = checks.device("Run", device)
        self.loop = loop_of(self.algorithm)
        checks.integer("Run", "num_cycles", num_cycles, 1)
        config = resolve_config("Run", self.algorithm, config, len(seeds))
        self.loop.check("Run", self.env, config)
        self.steps_per_iteration = num_cycles * self.loop.steps_per_cycle(config)
        """environment steps that one iteration takes in each lane"""
        memory.check_memory("Run", self.loop.memory_bytes(self.env, config), len(seeds), config, self.device)
        self.config, carry = self._begin(seeds, config, learnt)
        self._carry = tree.map(lambda x: torch.clone(x, memory_format=torch.contiguous_format), carry)
        given = (self._carry, num_cycles, self.device, backend, part)
        self._binding = Binding(self.algorithm, self.env, self.config, tuple(seeds), *given)
        self._evaluations = evaluations
        self._stages: list[Stage] | None = None
        self._count = 0
        """iterations done, as the carry says too"""

    @property
    def carry(self) -> Carry:
        """A copy of everything that the next iteration depends on."""
        return tree.map(torch.clone, self._carry)  # type: ignore[no-any-return]

    @property
    def agent(self) -> Any:
        """A copy of the algorithm's states, lane axis first."""
        return tree.map(torch.clone, self._carry.agent)

    @property
    def env_states(self) -> Any:
        """A copy of the environments' states, `[S, N]`; `()` where they run on the host."""
        return tree.map(torch.clone, self._carry.envs)

    @property
    def collector(self) -> Collector | HostCollector | None:
        """What collects windows of experience, once compiled, in a loop that does."""
        return self._binding.collector

    @property
    def num_graphs(self) -> int:
        """Number of programs compiled so far; it does not grow after the first iteration."""
        return sum(program.num_graphs for program in self._binding.programs)

    @property
    def report(self) -> Report:
        """The figures of the last iteration, in tensors of their own; of no meaning before the first."""
        carry = self._carry
        metrics = {**carry.agent.metrics, **self._binding.figures}
        figures = Report(carry.last_return, carry.episodes, metrics)
        return tree.map(torch.clone, figures)  # type: ignore[no-any-return]

    def compile(self) -> None:
        """Compile every program that an iteration calls, without running one; done once."""
        if self._stages is not None:
            return
        stages = self.loop.stages(self._binding)
        if self._evaluations is not None:
            stages.append(evaluate(self._binding, self._evaluations))
        for program in self._binding.programs:
            program.finish()
        self._stages = stages

    def iterate(self) -> Report:
        """Collect experience and learn from it.

        Returns:
            A report of this iteration, in tensors of its own.
        """
        self.compile()
        assert self._stages is not None
        for stage in self._stages:
            stage(self._count)
        self._count += 1
        return self.report

    def restart(
        self, seeds: Sequence[int], config: Any = None, env: Any = None, learnt: Learnt | None = None
    ) -> None:
        """Put other lanes, as many as before, in the place of these; nothing is compiled again.

        Args:
            seeds: One lane each.
            config: Their settings; those of before by default.
            env: The same environment with other values of the fields that differ between lanes.
            learnt: What they know at the beginning; nothing by default.
        """
        self.env = self.env if env is None else env
        self.config, carry = self._begin(seeds, self.config if config is None else config, learnt)
        self._put("restart", carry)
        self._binding.seeds = tuple(seeds)
        if isinstance(self._binding.collector, HostCollector):
            self._binding.collector.reset(seeds)

    def restore(self, carry: Carry) -> None:
        """Continue from a `carry` that was taken before: the same numbers follow, bit for bit.

        What an environment on the host was doing then cannot be put back: there, new episodes begin.

        Args:
            carry: Of a run with the same settings but for its floats, and as many lanes.

        Raises:
            ValueError: When it has other shapes.
        """
        self._put("restore", carry)
        if isinstance(self.env, envs.HostEnv):
            self.compile()
            assert isinstance(self._binding.collector, HostCollector)
            # Not the episodes of before once more.
            self._binding.collector.reset([_later(seed, self._count) for seed in self._binding.seeds])

    def reopen(self) -> None:
        """Make environments on the host anew, for a process that inherited those of another by a fork."""
        for collector in self._binding.on_host:
            collector.reopen()

    @property
    def environment_seconds(self) -> float:
        """How long this process has waited for environments on the host to collect, evaluations apart."""
        collector = self._binding.collector
        return collector.seconds if isinstance(collector, HostCollector) else 0.0

    def close(self) -> None:
        """End environments on the host, and their processes; nothing to do for those on the device."""
        for collector in self._binding.on_host:
            collector.close()

    def _begin(self, seeds: Sequence[int], config: Any, learnt: Learnt | None = None) -> tuple[Any, Carry]:
        num_lanes = len(seeds)
        require(num_lanes > 0, "Run", "seeds", "hold at least one integer", seeds)
        config = resolve_config("Run", self.algorithm, config, num_lanes)
        on_host = isinstance(self.env, envs.HostEnv)
        if not on_host:
            self.env = lanes.spread("Run", "env", self.env, num_lanes)
        own = lanes.Lanes(() if on_host else self.env)
        spaces: Any = self.env if on_host else own.first
        keys = torch.stack([random.key(seed, "cpu") for seed in seeds]).to(self.device)
        columns = tree.map(
            lambda x: torch.as_tensor(x, dtype=torch.float32, device=self.device).expand(num_lanes),
            config,
        )

        def lane(key: Tensor, settings: Any, values: list[Tensor], known: Learnt | None) -> Carry:
            k_agent, k_envs, k_collect, k_learn = random.split(key, 4)
            k_each = random.split(k_envs, num_envs(config))
            agent = self.algorithm.init(k_agent, settings, spaces)
            states: Any = () if on_host else envs.reset_all(own.one(values), k_each)
            if known is not None:
                agent, states = known.agent(agent), known.environments(own.one(values), states, k_each)
            policy = acting.learning(self.algorithm)
            zero = torch.zeros((), dtype=torch.float32, device=key.device)
            return Carry(
                agent=agent,
                envs=states,
                remembered=() if on_host else policy.initial_carries(agent, num_envs(config)),
                env_values=values,
                collect_key=k_collect,
                learn_key=k_learn,
                iteration=zero.to(torch.int32),
                earned=zero,
                episodes=zero,
                last_return=torch.full_like(zero, torch.nan),
                memory=self.loop.memory(agent, spaces),
            )

        values = [column.to(self.device) for column in own.values]
        # What does not depend on the lane, such as an empty buffer, is a view of one lane's here.
        return config, vmap(lane, (0, 0, 0, None if learnt is None else 0))(keys, columns, values, learnt)

    def _put(self, verb: str, carry: Carry) -> None:
        hold = f"hold {len(self._carry.iteration)} lanes of a run with these settings"
        own, new = tree.named_leaves(self._carry), tree.named_leaves(carry)
        for name in own.keys() | new.keys():
            shapes = [tuple(leaves[name].shape) if name in leaves else None for leaves in (own, new)]
            value = f"{name} of shape {shapes[1]} for {shapes[0]}"
            require(shapes[0] == shapes[1], f"Run.{verb}", "carry", hold, value)
        for name, leaf in own.items():
            leaf.copy_(new[name])
        self._count = int(carry.iteration[0])


def _later(seed: int, iteration: int) -> int:
    """Return a seed for the episodes that begin after an iteration.

    >>> _later(0, 5) == _later(0, 5), _later(0, 5) == _later(0, 6)
    (True, False)
    """
    first, second = random.fold_in(random.key(seed, "cpu"), iteration).tolist()
    return int((first % 2**32) << 32 | second % 2**32)
