"""An iteration as a row of stages, each a compiled pure function of some parts of the carry.

All tensors stay where they are: a program reads some of them and writes others, which are given up to it
(donated). Stages that nothing on the host interrupts are made in a row, which a GPU captures as one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl import envs
from funcrl.core import collective, jit, lanes, random, tree
from funcrl.core.checks import require
from funcrl.envs.host_vector import HostVector
from funcrl.train import acting
from funcrl.train.carry import Carry
from funcrl.train.collect import Collector
from funcrl.train.episodes import DeviceEpisodes, HostEpisodes, needs_env_states
from funcrl.train.host_collect import HostCollector

Call = Callable[[], Any]
"""Work on tensors that never move, such as a bound program"""

Stage = Callable[[int], Any]
"""Part of an iteration; it is given the number of iterations done before"""

_EVALUATION_SEED = 2**63
"""Of the episodes that agents play while they are trained: of none that people train with."""


@dataclass
class Binding:
    """What the stages of a run are bound to, and what they have made."""

    algorithm: ModuleType
    env: envs.AnyEnv
    config: Any
    """settings, one value a lane"""
    seeds: tuple[int, ...]
    """one a lane"""
    carry: Carry
    """never moves"""
    num_cycles: int
    """how often an iteration acts and learns"""
    device: torch.device
    backend: str
    part: tuple[int, int] = (0, 1)
    """which part of every batch this process learns from, and how many there are"""
    programs: list[jit.Jit] = field(default_factory=list)
    """compiled so far, or being compiled"""
    figures: dict[str, Tensor] = field(default_factory=dict)
    """`[S]` each: what stages measure beside the agent's own metrics"""
    collector: Collector | HostCollector | None = None
    """of a loop that collects windows"""
    on_host: list[HostCollector] = field(default_factory=list)
    """all that step environments on the host, the collector among them"""

    def compile(self, function: Callable[..., Any]) -> jit.Jit:
        """Compile a pure function of all lanes whose result replaces its first argument.

        Args:
            function: `function(written, *read) -> written`.
        """
        program = jit.jit(function, donate=(0,), backend=self.backend)
        self.programs.append(program)
        return program

    def of_part(self, update: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Return an update that learns from a whole batch together with the ranks that have its other parts."""
        number, count = self.part
        if count == 1:
            return update

        def update_together(agent: Any, batch: Any) -> Any:
            rows = tree.leaves(batch)[0].shape[0]
            hold = f"be divisible by the {count} ranks that learn from its parts"
            require(rows % count == 0, "train", "the batch size", hold, rows)
            size = rows // count
            with collective.over(count), random.rows_of(number * size, size):
                return update(agent, tree.index(batch, slice(number * size, (number + 1) * size)))

        update_together.__name__ = getattr(update, "__name__", "update")
        return update_together

    def figure(self, name: str) -> Tensor:
        """Return a tensor `[S]` that is reported under a name, NaN until a stage writes it."""
        self.figures[name] = torch.full_like(self.carry.last_return, torch.nan)
        return self.figures[name]

    def collect(self, count: Tensor, part: tuple[int, int] = (0, 1)) -> Collector | HostCollector:
        """Compile what collects a window of experience, wherever the environments are.

        Args:
            count: `[S]` int32, number of the collection; collection i has the keys of number i.
            part: Which part of the environments this process steps where they are on the device, see `Collector`.
        """
        carry, length, policy = self.carry, self.config.window_length, acting.learning(self.algorithm)
        given: Any = (carry.collect_key, count, length, self.backend)
        if isinstance(self.env, envs.HostEnv):
            there = HostVector(self.env, len(self.seeds), self.config.num_envs)
            self.collector = on_host = HostCollector(policy, there, carry.agent, *given)
            self.on_host.append(on_host)
            on_host.reset(self.seeds)
        else:
            assert isinstance(carry.envs, envs.EnvState)
            own, running = lanes.Lanes(self.env), (carry.envs, carry.remembered)
            given = (policy, own, carry.env_values, carry.agent, *running, *given, part)
            self.collector = Collector(*given)
        self.programs += self.collector.programs
        return self.collector

    def row(self, calls: Sequence[Call], collector: Collector | HostCollector | None = None) -> Stage:
        """Return a stage that makes one call after the other, on a GPU from one captured graph.

        Args:
            calls: The calls.
            collector: What collects a window before, if anything is to.
        """
        first = collector.calls if isinstance(collector, Collector) else []
        captured = jit.capture([*first, *calls], self.carry, self.device)
        if not isinstance(collector, HostCollector):
            return lambda count: captured()
        on_host = collector

        def stage(count: int) -> None:
            on_host()
            captured()

        return stage

    def begin(self) -> None:
        """Begin an iteration: no episode has ended in it. The first call of each."""
        self.carry.earned.zero_()
        self.carry.episodes.zero_()

    def end(self) -> None:
        """End an iteration: say what episodes earned. The last call of each."""
        carry = self.carry
        mean = carry.earned / carry.episodes
        carry.last_return.copy_(torch.where(carry.episodes > 0, mean, carry.last_return))
        carry.iteration.add_(1)


@dataclass(frozen=True)
class Evaluations:
    """Greedy episodes that agents play while they are trained, the same ones each time."""

    every: int
    """iterations between two evaluations"""
    num_episodes: int
    """of each lane, from keys that training does not use"""
    limit: int
    """steps after which to give up on one"""


def evaluate(binding: Binding, asked: Evaluations) -> Stage:
    """Return the stage that measures `evaluation_return` when it is due, NaN in other iterations."""
    carry, figure, world = binding.carry, binding.figure("evaluation_return"), binding.env
    policy, given = acting.greedy(binding.algorithm), (asked.num_episodes, _EVALUATION_SEED, asked.limit)
    episodes: DeviceEpisodes | HostEpisodes
    if isinstance(world, envs.HostEnv):
        episodes = HostEpisodes(policy, world, carry.agent, *given, binding.backend)
        binding.on_host.append(episodes.collector)
    else:
        known = carry.envs if needs_env_states(world) else None
        world = world if known is None else envs.frozen(world)
        own = (carry.agent, known, *given, binding.backend, carry.env_values)
        episodes = DeviceEpisodes(policy, world, *own)
    binding.programs += episodes.programs

    def stage(count: int) -> None:
        if (count + 1) % asked.every == 0:
            figure.copy_(episodes().mean(dim=1))
        else:
            figure.fill_(torch.nan)

    return stage
