"""Training many lanes from the first step to the last."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch

from funcrl import envs
from funcrl.core import tree
from funcrl.train.errors import WorkerError
from funcrl.train.forks import one_thread
from funcrl.train.history import History, figures
from funcrl.train.outcome import Outcome, make_result
from funcrl.train.plan import Plan, groups_of, make_plan, shards_of, with_evaluations, with_parts
from funcrl.train.programs import make_run, put_lanes
from funcrl.train.progress import Callback, Progress
from funcrl.train.result import Result, concatenate
from funcrl.train.run import Run
from funcrl.train.saving import Part, Saver, Start, Starts, of_members
from funcrl.train.shards import Shard
from funcrl.train.workers import train_in_workers


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
    processes: int | None = None,
    evaluate_every: int | None = None,
    start: Any = None,
    data_parallel: bool = False,
) -> Result:
    """Train one independent agent a seed, all of them in one compiled program.

    Lane i depends on `seeds[i]` alone: the same seed gives the same random numbers whatever runs
    beside it, and in however many processes.

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
        processes: How many share the lanes out among them, each with one thread and at least two
            lanes; by default as many as there are cores, for compiled programs whose environments
            live on the CPU, and 1, this process, for anything else. They are forks of this process,
            so that nothing needs to be importable and no script needs a `__main__` guard; the
            callback runs here. This process, too, has one thread for three lanes and more on the CPU,
            so that the number of processes changes no bit. A process that dies loses its own seeds and no others, see
            `Result.lost_seeds`.
        evaluate_every: Environment steps of a lane between two evaluations, in which its agent plays ten
            greedy episodes, the same ones each time; what they earn on average is the metric
            `evaluation_return`, NaN in other iterations. None for no evaluations.
        start: Agents to go on from, in another environment, with other settings or for more steps: an earlier
            `Result`, its `states`, or what `open_run` returns; one agent a seed, or one for all. What they have learnt stays:
            parameters and target networks, tables, counts, models, and the moments of an environment
            that normalises observations (which take a `Result`). All else begins anew, as it does for
            any other seed: settings, step counters and so schedules, moments of the optimiser, replay
            buffers and other memories of steps, episodes. The algorithm's `LEARNT` names the former.
        data_parallel: Whether the ranks of `torch.distributed`, whose group has been made, learn together, each
            from its part of every batch; see `plan.with_parts`. All of them return the same.

    Returns:
        A `Result`.

    Raises:
        ValueError: When an argument has a value that cannot be.
        TypeError: When it is of the wrong kind.
        WorkerError: When no worker process is left.

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
        processes=processes,
        start=start,
    )
    if evaluate_every is not None:
        plan = with_evaluations(plan, evaluate_every)
    return execute(with_parts(plan) if data_parallel else plan, callback)


def execute(
    plan: Plan, callback: Callback | None = None, saver: Saver | None = None, starts: Starts | None = None
) -> Result:
    """Do what a plan says; `train` is `execute(make_plan(...))`.

    Args:
        plan: From `make_plan`.
        callback: See `train`.
        saver: Keeps the state of the run while it goes on, and at its end.
        starts: Where the groups of lanes go on; by default they begin.

    Returns:
        A `Result`.

    Raises:
        WorkerError: When no worker process is left.
    """
    if callback is not None and not callable(callback):
        raise TypeError(f"train: callback must be a function of a Progress, got {callback!r}.")
    run: Run | None = None
    try:
        # A program keeps the number of threads that it was compiled under, in workers too.
        with one_thread() if plan.has_one_thread else contextlib.nullcontext():
            began = time.perf_counter()
            first, *_ = shards_of(plan, next(groups_of(plan)))
            run = make_run(plan, first.members)
            run.compile()
            seconds = time.perf_counter() - began
            return _together(plan, _each_group(run, plan, callback, saver, starts), seconds)
    except Exception as error:
        if not isinstance(plan.env, envs.HostEnv) and not type(plan.env).__module__.startswith("funcrl."):
            error.add_note(
                "The environment is your own: funcrl.envs.check_env(env) may say what is wrong with it."
            )
        raise
    finally:
        if run is not None:
            run.close()


def _each_group(
    run: Run, plan: Plan, callback: Callback | None, saver: Saver | None, starts: Starts | None
) -> Iterator[Outcome]:
    """Train one group after the other, until the callback has had enough."""
    example = run.carry if starts is not None else None
    for group in groups_of(plan):
        shards = shards_of(plan, group)
        start = starts(group, example) if starts is not None and example is not None else None
        if plan.processes == 1:
            outcome = _train_here(run, plan, shards[0], callback, saver, start)
        else:
            outcome = train_in_workers(run, plan, shards, callback, saver, start)
        yield outcome
        if outcome.stopped:
            return


def _train_here(
    run: Run,
    plan: Plan,
    shard: Shard,
    callback: Callback | None,
    saver: Saver | None,
    start: Start | None,
) -> Outcome:
    """Train a group of lanes in this process."""
    if shard.lanes[0] > 0:  # the run was made with the first lanes
        put_lanes(run, plan, shard.members)
    if start is not None:
        run.restore(of_members(start, shard, shard.lanes[0]).carry)
    keep = len(shard.lanes)
    lanes = tuple(shard.lanes)
    seeds = tuple(plan.seeds[lane] for lane in lanes)
    room = figures(run.report, keep, plan.num_iterations)
    history = History(room, None if start is None else start.figures)
    before = history.count
    began, waited, stopped = time.perf_counter(), run.environment_seconds, False
    for iteration in range(before + 1, plan.num_iterations + 1):
        report = run.iterate()
        history.append(report)
        if callback is not None:
            # A copy: what a callback does to its report must not change the result.
            shown = tree.map(lambda x: x[:keep].clone(), report)
            step = iteration * plan.steps_per_iteration
            stopped = bool(callback(Progress(seeds, lanes, iteration, plan.num_iterations, step, shown)))
        if stopped:
            break
        if saver is not None and (iteration == plan.num_iterations or saver.wanted()):
            saver.mark(shard.lanes, iteration)
            part = Part(shard.lanes, iteration, tree.index(run.carry, slice(keep)))
            saver.complete([saver.write(part)])
    rows = history.all()
    seconds, waited = time.perf_counter() - began, run.environment_seconds - waited
    states = tree.index((run.agent, run.env_states), slice(keep))
    return Outcome(make_result(plan, lanes, states, rows, seconds, waited, before), (), stopped)


def _together(plan: Plan, each: Iterable[Outcome], compile_seconds: float) -> Result:
    """Return what all groups have learnt, as far as their processes lived."""
    outcomes = list(each)
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    lost = tuple(seed for outcome in outcomes for seed in outcome.lost_seeds)
    if not results:
        raise WorkerError(
            f"train: at least one worker process must stay alive, but all of them have died, "
            f"{plan.processes} at a time. Where memory is short, write fewer processes or lanes_per_group."
        )
    return replace(concatenate(results), lost_seeds=lost, compile_seconds=compile_seconds)
