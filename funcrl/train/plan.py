"""What a training is going to do, checked before anything is started."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl import envs
from funcrl.buffers import memory
from funcrl.core import checks, jit, lanes, random, tree
from funcrl.core.checks import require
from funcrl.core.resolve import resolve_config, resolve_seeds
from funcrl.envs.checking import check_returns
from funcrl.train.cores import most_processes, resolve_processes
from funcrl.train.learnt import Learnt, learnt_by
from funcrl.train.loops import Loop, loop_of
from funcrl.train.resolve import resolve_algorithm, resolve_env
from funcrl.train.shards import Shard, groups, shard_size, share_out

DEFAULT_STEPS = 500_000
"""Environment steps of each lane where neither caller nor algorithm says another number."""


SMALL_AGENT = 100_000
"""Numbers in the state of an agent up to which several threads wait for each other longer than they save: two
lanes of PPO with 64 units a layer took 12.0 ms an iteration on two threads, 7.2 on one."""


@dataclass(frozen=True)
class Plan:
    """What `train` is going to do, checked."""

    algorithm: ModuleType
    env: envs.AnyEnv
    config: Any
    """settings, with the length of the run filled in"""
    seeds: tuple[int, ...]
    num_iterations: int
    steps_per_iteration: int
    """environment steps of one lane in one iteration"""
    lanes_per_group: int
    device: torch.device
    backend: str
    asked_steps: int
    """environment steps of each lane as they were asked for, which decide how long an iteration is"""
    agent_size: int = 0
    """numbers in the state of one agent"""
    replay_bytes: int = 0
    """bytes of the replay buffers of all lanes that run at once"""
    evaluate_every: int = 0
    """iterations between two evaluations while training; 0 for none"""
    num_episodes: int = 10
    """greedy episodes of each lane in one of them"""
    learnt: Learnt | None = None
    """`[S]` what the agents know at the beginning"""
    processes: int = 1
    """how many share the lanes of a group out among them, one thread each; 1 is this process"""

    lanes_together: int = 0
    """lanes of all plans that share out one group, see `ranks.share`; 0 for a plan that is whole"""

    part: tuple[int, int] = (0, 1)
    """which part of every batch this process learns from, and how many ranks there are, see `with_parts`"""

    @property
    def placement(self) -> str:
        """Where the environments run: `"device"`, or `"host"`."""
        return "host" if isinstance(self.env, envs.HostEnv) else "device"

    @property
    def lanes_per_process(self) -> int:
        """Lanes of each one's program."""
        return shard_size(self.lanes_per_group, self.processes)

    @property
    def has_one_thread(self) -> bool:
        """Whether programs have one thread: on the CPU, where the lanes are or could be shared out, or are small.

        In one process too, because sums of several threads round differently from those of one.
        """
        shared = most_processes(self.lanes_together or self.lanes_per_group) > 1
        return self.device.type == "cpu" and (shared or self.agent_size <= SMALL_AGENT)

    @property
    def episode_limit(self) -> int:
        """Steps of an episode in an evaluation at most; 0 where the environment sets no limit."""
        return int(self.env.max_episode_steps or 0)

    @property
    def num_steps(self) -> int:
        """Environment steps of each lane."""
        return self.num_iterations * self.steps_per_iteration


def make_plan(
    algorithm: str | ModuleType,
    env: str | envs.AnyEnv,
    *,
    config: Any = None,
    seeds: Iterable[int] = range(30),
    num_steps: int | None = None,
    device: torch.device | str = "cpu",
    lanes_per_group: int | None = None,
    backend: str = "inductor",
    processes: int | None = None,
    start: Any = None,
) -> Plan:
    """Check everything that `train` takes, without starting anything.

    Args, Raises: see `train`.

    Returns:
        The plan.

    >>> make_plan("ppo", "CartPole-v1", num_steps=10_000).num_iterations
    19
    """
    distinct = resolve_seeds("train", seeds)
    given = (num_steps, device, lanes_per_group, backend, processes, start)
    return plan_lanes(algorithm, env, config, distinct, *given)


def plan_lanes(
    algorithm: str | ModuleType,
    env: str | envs.AnyEnv,
    config: Any,
    seeds: tuple[int, ...],
    num_steps: int | None = None,
    device: torch.device | str = "cpu",
    lanes_per_group: int | None = None,
    backend: str = "inductor",
    processes: int | None = None,
    start: Any = None,
) -> Plan:
    """Check what `make_plan` takes, where a seed may stand in several lanes that differ in something else.

    Args, Raises: see `train`; the seeds have been checked.
    """
    algorithm = resolve_algorithm("train", algorithm)
    world = resolve_env("train", env)
    device = checks.device("train", device)
    config = resolve_config("train", algorithm, config, len(seeds))
    require(backend in jit.BACKENDS, "train", "backend", f"be one of {', '.join(jit.BACKENDS)}", backend)
    num_steps = getattr(algorithm, "DEFAULT_STEPS", DEFAULT_STEPS) if num_steps is None else num_steps
    checks.integer("train", "num_steps", num_steps, 1)
    loop = loop_of(algorithm)
    size = loop.steps_per_cycle(config) * loop.cycles_per_iteration(config, num_steps)
    hold, instead = f"be at least {size}, one iteration of {loop.CYCLE}", f"Write {size} or more."
    require(num_steps >= size, "train", "num_steps", hold, num_steps, instead)
    num_iterations = num_steps // size
    config = _fill_shares(algorithm, config, num_iterations * size)
    lanes_per_group = len(seeds) if lanes_per_group is None else lanes_per_group
    checks.integer("train", "lanes_per_group", lanes_per_group, 1)
    loop.check("train", world, config, num_iterations * size)
    example = world
    if not isinstance(world, envs.HostEnv):
        world = lanes.spread("train", "env", world, len(seeds))
        example = lanes.Lanes(world).first
        check_returns("train", example)
    # One throw-away agent: what its spaces and networks cannot be shows here.
    agent = example_agent(algorithm, config, example)
    learnt = None if start is None else learnt_by(algorithm, world, agent, len(seeds), start)
    lanes_per_group = min(lanes_per_group, len(seeds))
    processes = resolve_processes("train", processes, world, lanes_per_group, device, backend)
    return Plan(
        algorithm=algorithm,
        env=world,
        config=config,
        seeds=seeds,
        num_iterations=num_iterations,
        steps_per_iteration=size,
        lanes_per_group=lanes_per_group,
        device=device,
        backend=backend,
        asked_steps=num_steps,
        agent_size=sum(tree.as_tensor(leaf).numel() for leaf in tree.leaves(agent)),
        replay_bytes=_check_memory(loop, world, config, lanes_per_group, processes, device),
        learnt=learnt,
        processes=processes,
    )


def example_agent(algorithm: ModuleType, config: Any, env: Any) -> Any:
    """Return a new agent of the first lane, on the CPU.

    Args:
        algorithm: What learns.
        config: Settings; a float may be a tensor `[S]`.
        env: The environment of one lane.
    """
    first = lanes_of(config, torch.zeros((), dtype=torch.int64, device="cpu"))
    return algorithm.init(random.key(0, "cpu"), first, env)


def lanes_of(config: Any, members: Tensor) -> Any:
    """Return the settings of some lanes, or of one."""
    return tree.map(lambda x: x[members] if isinstance(x, Tensor) else x, config)


def groups_of(plan: Plan) -> Iterator[range]:
    """Yield the lanes that run at once, as places in `plan.seeds`, one group after the other."""
    return groups(len(plan.seeds), plan.lanes_per_group)


def shards_of(plan: Plan, group: range) -> list[Shard]:
    """Return how a group's lanes are shared out to the plan's processes."""
    return share_out(group, plan.processes, shard_size(plan.lanes_per_group, plan.processes))


def _check_memory(
    loop: Loop, env: envs.AnyEnv, config: Any, num_lanes: int, processes: int, device: torch.device
) -> int:
    """Check that the replay buffers of lanes that run at once fit in memory; return their bytes."""
    bytes_a_lane = loop.memory_bytes(env, config)
    # This process holds a shard beside those of its workers: the one that it compiled the programs for.
    held = num_lanes if processes == 1 else shard_size(num_lanes, processes) * (processes + 1)
    memory.check_memory("train", bytes_a_lane, held, config, device)
    return bytes_a_lane * num_lanes


def _fill_shares(algorithm: ModuleType, config: Any, total: int) -> Any:
    """Put lengths in environment steps where settings asked with 0 for a share of the run."""
    shares: dict[str, float] = getattr(algorithm, "SHARES_OF_THE_RUN", {"anneal_steps": 1.0})
    filled: dict[str, Any] = {}
    for name, share in shares.items():
        asked = getattr(config, name, None)
        if isinstance(asked, Tensor):
            filled[name] = torch.where(asked == 0, share * total, asked)
        elif asked is not None:
            filled[name] = asked or share * total
    return tree.replace(config, **filled)


EVALUATION_SHARE = 0.1
"""Environment steps of evaluations, by default at most, for each step of training."""


def with_evaluations(plan: Plan, every: int | None = None, num_episodes: int = 10) -> Plan:
    """Return a plan in which the agents play greedy episodes now and then, the same ones each time.

    Args:
        plan: From `make_plan`.
        every: Environment steps of a lane between two evaluations; by default so many that all
            evaluations together take at most a tenth of the steps of the training.
        num_episodes: Of each lane, each time.

    Raises:
        ValueError: When the environment has no time limit, or a number is out of range.
    """
    here = "train"
    checks.integer(here, "num_episodes", num_episodes, 1)
    hold = "be left out for an environment without a time limit"
    require(plan.episode_limit > 0, here, "evaluate_every", hold, every, "Wrap it: --wrap time_limit=1000.")
    if every is None:
        every = math.ceil(num_episodes * plan.episode_limit / EVALUATION_SHARE)
    checks.integer(here, "evaluate_every", every, 1)
    iterations = max(1, round(every / plan.steps_per_iteration))
    return replace(plan, evaluate_every=iterations, num_episodes=num_episodes)


TOGETHER = ("on_policy", "off_policy")
"""Loops whose agents can learn from a batch in parts."""


def with_parts(plan: Plan) -> Plan:
    """Return a plan in which the ranks of `torch.distributed` learn together: each from its part of every batch.

    Gradients, losses and what else is a mean over a batch are averaged over ranks within the update. Agents that learn from
    windows also share out their environments, where they live on the device, and tell each other what they have
    seen after each window; all others collect and remember the same on every rank. What comes out is what one process makes
    of whole batches, but for rounding.

    Args:
        plan: From `make_plan`, the same on every rank.

    Raises:
        ValueError: When there is no group of ranks, or this kind of agent cannot learn from parts.
    """
    here = "train"
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    instead = "Write torch.distributed.init_process_group() first, under torchrun."
    require(there, here, "data_parallel", "be True only where ranks have found each other", True, instead)
    name = plan.algorithm.__name__.rpartition(".")[2]
    fits, leave_out = plan.algorithm.LOOP in TOGETHER, "be left out for this algorithm"
    require(fits, here, "data_parallel", leave_out, name, "Let ranks share out its seeds.")
    part = (torch.distributed.get_rank(), torch.distributed.get_world_size())
    if plan.algorithm.LOOP == "on_policy" and not isinstance(plan.env, envs.HostEnv):
        hold = f"be divisible by the {part[1]} ranks that share them out"
        require(plan.config.num_envs % part[1] == 0, here, "num_envs", hold, plan.config.num_envs)
    return replace(plan, part=part, processes=1)
