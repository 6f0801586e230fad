"""Training many lanes from the first step to the last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl import envs
from funcrl.buffers import memory
from funcrl.core import checks, jit, lanes, random, tree
from funcrl.core.checks import require
from funcrl.envs.checking import check_returns
from funcrl.train.off_policy import OffPolicyRun, cycles_per_iteration, replay_bytes, steps_before_learning
from funcrl.train.on_policy import OnPolicyRun
from funcrl.train.online import STEPS_PER_ITERATION, OnlineRun, refuse_host
from funcrl.train.resolve import (
    resolve_algorithm,
    resolve_config,
    resolve_env,
    resolve_seeds,
)
from funcrl.train.result import Result, concatenate
from funcrl.train.run import Report, Run, num_envs

DEFAULT_STEPS = 500_000
"""Environment steps of each lane where neither caller nor algorithm says another number."""


@dataclass(frozen=True)
class Progress:
    """What a callback is told after each iteration."""

    seeds: tuple[int, ...]
    """seeds of the lanes that are running: all of them, or one group"""
    iteration: int
    """iterations done by these lanes, from 1"""
    num_iterations: int
    """iterations that they are to do"""
    step: int
    """environment steps per lane so far"""
    report: Report
    """the figures, one a lane, on the device"""


Callback = Callable[[Progress], bool | None]
"""Called after each iteration; training stops where it returns True."""


def train(
    algorithm: str | ModuleType,
    env: str | envs.AnyEnv,
    *,
    config: Any = None,
    seeds: Iterable[int] = range(30),
    num_steps: int | None = None,
    device: torch.device | str = "cpu",
    lanes_per_group: int | None = None,
    callback: Callback | None = None,
    backend: str = "inductor",
) -> Result:
    """Train one independent agent a seed, all of them in one compiled program.

    Lane i depends on `seeds[i]` alone: the same seed gives the same random numbers whatever runs
    beside it.

    Args:
        algorithm: Name or module, `"ppo"` or `funcrl.algos.ppo`.
        env: Name or environment, `"CartPole-v1"` or `envs.make("CartPole-v1")`; its floats may be
            lists with one value a seed. A name that funcrl has runs on the device, any other that
            Gymnasium has on the host; `Result.placement` says which.
        config: Settings of the algorithm; its floats may be lists or tensors with one value a seed.
        seeds: Different integers from 0 on.
        num_steps: Environment steps of each lane, rounded down to whole iterations; by default the
            algorithm's own `DEFAULT_STEPS`, 500,000 where it has none.
        device: `"cpu"`, `"cuda"` or `"cuda:1"`.
        lanes_per_group: How many lanes run at once where not all fit into memory; the others
            follow in further groups, with the same program and the same results.
        callback: Called with a `Progress` after each iteration; return True to stop there. It may
            read the report but sees the device's tensors: copying them out takes time.
        backend: `"inductor"` compiles; `"eager"` is slow and can be debugged.

    Returns:
        A `Result`.

    Raises:
        ValueError: When an argument has a value that cannot be.
        TypeError: When it is of the wrong kind.

    >>> from funcrl.algos import ppo
    >>> small = ppo.Config(num_envs=2, window_length=8)
    >>> train("ppo", "CartPole-v1", config=small, seeds=[3], num_steps=32, backend="eager").steps
    tensor([16, 32])
    """
    plan = make_plan(
        algorithm,
        env,
        config=config,
        seeds=seeds,
        num_steps=num_steps,
        device=device,
        lanes_per_group=lanes_per_group,
        backend=backend,
    )
    return execute(plan, callback)


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
    replay_bytes: int = 0
    """bytes of the replay buffers of all lanes that run at once"""

    @property
    def placement(self) -> str:
        """Where the environments run: `"device"`, or `"host"`."""
        return "host" if isinstance(self.env, envs.HostEnv) else "device"

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
) -> Plan:
    """Check everything that `train` takes, without starting anything.

    Args, Raises: see `train`.

    Returns:
        The plan.

    >>> make_plan("ppo", "CartPole-v1", num_steps=10_000).num_iterations
    19
    """
    algorithm = resolve_algorithm("train", algorithm)
    world = resolve_env("train", env)
    seeds = resolve_seeds("train", seeds)
    device = checks.device("train", device)
    config = resolve_config("train", algorithm, config, len(seeds))
    require(backend in jit.BACKENDS, "train", "backend", f"be one of {', '.join(jit.BACKENDS)}", backend)
    num_steps = getattr(algorithm, "DEFAULT_STEPS", DEFAULT_STEPS) if num_steps is None else num_steps
    checks.integer("train", "num_steps", num_steps, 1)
    size, what = _steps_per_iteration(algorithm, config, num_steps)
    hold, instead = f"be at least {size}, one iteration of {what}", f"Write {size} or more."
    require(num_steps >= size, "train", "num_steps", hold, num_steps, instead)
    num_iterations = num_steps // size
    config = _fill_shares(algorithm, config, num_iterations * size)
    lanes_per_group = len(seeds) if lanes_per_group is None else lanes_per_group
    checks.integer("train", "lanes_per_group", lanes_per_group, 1)
    if _loop(algorithm) is OnlineRun:
        refuse_host("train", world)
    example = world
    if not isinstance(world, envs.HostEnv):
        world = lanes.spread("train", "env", world, len(seeds))
        example = lanes.Lanes(world).first
        check_returns("train", example)
    # One throw-away agent: what its spaces and networks cannot be shows here.
    algorithm.init(
        random.key(0, "cpu"), _take_lanes(config, torch.tensor(0, dtype=torch.int64, device="cpu")), example
    )
    lanes_per_group = min(lanes_per_group, len(seeds))
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
        replay_bytes=_check_replay(algorithm, world, config, lanes_per_group, num_iterations * size, device),
    )


def _check_replay(
    algorithm: ModuleType, env: envs.AnyEnv, config: Any, num_lanes: int, num_steps: int, device: torch.device
) -> int:
    """Check that a run learns before it ends and that its replay buffers fit in memory; return their bytes."""
    if _loop(algorithm) is not OffPolicyRun:
        return 0
    first = steps_before_learning(config)
    hold = f"leave something to learn in of a run's {num_steps} steps"
    instead = "Lower it, or raise num_steps."
    require(first <= num_steps, "train", "warmup_steps (or n_step)", hold, first, instead)
    bytes_a_lane = replay_bytes(env, config)
    memory.check_memory("train", bytes_a_lane, num_lanes, config, device)
    return bytes_a_lane * num_lanes


def _loop(algorithm: ModuleType) -> type[Run]:
    """Return the loop of an algorithm: it prepares windows, learns from a replay buffer, or from each step."""
    if hasattr(algorithm, "prepare"):
        return OnPolicyRun
    return OffPolicyRun if hasattr(algorithm.Config, "buffer_size") else OnlineRun


def _steps_per_iteration(algorithm: ModuleType, config: Any, num_steps: int) -> tuple[int, str]:
    """Return the environment steps of one lane in one iteration, and what they are made of."""
    loop = _loop(algorithm)
    if loop is OnlineRun:
        num = num_envs(config)
        return num * max(1, min(STEPS_PER_ITERATION, num_steps) // num), "num_envs steps"
    size = int(config.num_envs * config.window_length)
    if loop is OffPolicyRun:
        size *= cycles_per_iteration(config, num_steps)
    return size, "num_envs · window_length"


def execute(plan: Plan, callback: Callback | None = None) -> Result:
    """Do what a plan says; `train` is `execute(make_plan(...))`.

    Args:
        plan: From `make_plan`.
        callback: See `train`.

    Returns:
        A `Result`.
    """
    if callback is not None and not callable(callback):
        raise TypeError(f"train: callback must be a function of a Progress, got {callback!r}.")
    run: Run | None = None
    results: list[Result] = []
    try:
        for begin in range(0, len(plan.seeds), plan.lanes_per_group):
            group = plan.seeds[begin : begin + plan.lanes_per_group]
            # The last group is filled up, so that the same program runs all of them.
            members = torch.arange(begin, begin + plan.lanes_per_group, device="cpu").clamp(
                max=len(plan.seeds) - 1
            )
            run = _prepare_group(run, plan, members)
            result, stopped = _train_group(run, group, plan, callback)
            results.append(result)
            if stopped:
                break
    except Exception as error:
        if not isinstance(plan.env, envs.HostEnv) and not type(plan.env).__module__.startswith("funcrl."):
            error.add_note(
                "The environment is your own: funcrl.envs.check_env(env) may say what is wrong with it."
            )
        raise
    finally:
        if run is not None:
            run.close()
    return concatenate(results)


def _prepare_group(run: Run | None, plan: Plan, members: Tensor) -> Run:
    """Put some of the plan's lanes into the run, making it where there is none yet."""
    seeds = [plan.seeds[lane] for lane in members]
    config = _take_lanes(plan.config, members)
    env = plan.env if isinstance(plan.env, envs.HostEnv) else lanes.Lanes(plan.env).take(members)
    if run is not None:
        run.restart(seeds, config, env)
        return run
    given = (plan.algorithm, env, config, seeds, plan.device, plan.backend)
    loop, num = _loop(plan.algorithm), num_envs(config)
    if loop is OnlineRun:
        return OnlineRun(*given, length=plan.steps_per_iteration // num)
    if loop is OffPolicyRun:
        return OffPolicyRun(*given, num_cycles=plan.steps_per_iteration // (num * config.window_length))
    return loop(*given)


def _take_lanes(config: Any, members: Tensor) -> Any:
    return tree.map(lambda x: x[members] if isinstance(x, Tensor) else x, config)


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


def _train_group(
    run: Run, seeds: tuple[int, ...], plan: Plan, callback: Callback | None
) -> tuple[Result, bool]:
    num_iterations, size = plan.num_iterations, plan.steps_per_iteration
    keep = len(seeds)
    began = time.perf_counter()
    compiling, compile_seconds, timed = run.num_graphs == 0, 0.0, 0
    reports: list[Report] = []
    stopped = False
    for iteration in range(1, num_iterations + 1):
        report = tree.map(lambda x: x[:keep], run.iterate())
        reports.append(report)
        if compiling:
            # The first iteration is the compiler's; timing starts after it.
            now = time.perf_counter()
            compiling, compile_seconds, began = False, now - began, now
        else:
            timed += 1
        if callback is not None:
            # A copy: what a callback does to its report must not change the result.
            shown = tree.map(torch.clone, report)
            if callback(Progress(seeds, iteration, num_iterations, iteration * size, shown)):
                stopped = True
                break
    history = tree.map(lambda *xs: torch.stack(xs, dim=1).cpu(), *reports)
    result = Result(
        seeds=seeds,
        states=tree.map(lambda x: x[:keep], run.agent),
        env_states=tree.map(lambda x: x[:keep], run.env_states),
        returns=history.returns,
        episodes=history.episodes,
        metrics=history.metrics,
        steps=torch.arange(1, len(reports) + 1, device="cpu") * size,
        compile_seconds=compile_seconds,
        run_seconds=time.perf_counter() - began,
        timed_steps=timed * size * keep,
        placement=plan.placement,
    )
    return result, stopped
