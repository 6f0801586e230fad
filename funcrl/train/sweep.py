"""Many settings × many seeds: numbers as lanes of one program, everything else one program after the other."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from funcrl import envs
from funcrl.buffers import memory
from funcrl.core import checks
from funcrl.core.checks import require
from funcrl.core.resolve import resolve_seeds
from funcrl.train.loops import loop_of
from funcrl.train.plan import Plan, plan_lanes
from funcrl.train.progress import Callback
from funcrl.train.resolve import resolve_algorithm, resolve_env
from funcrl.train.result import Result
from funcrl.train.training import execute

ENV = "env."
"""What stands before the name of a field of the environment."""

Setting = dict[str, Any]
"""Values by name of what is swept; names of the environment's begin with `env.`."""


@dataclass(frozen=True)
class Program:
    """The settings that differ in numbers alone, which are lanes of one program: settings × seeds."""

    plan: Plan
    settings: tuple[Setting, ...]
    """one for as many lanes as there are seeds"""


@dataclass(frozen=True)
class SweepResult:
    """What each setting of a sweep has led to."""

    settings: tuple[Setting, ...]
    """K, in the order in which `over` names them, the last field changing fastest"""
    results: tuple[Result, ...]
    """K, of the same seeds each"""

    def best(self, score: Callable[[Result], float]) -> Setting:
        """Return the setting of the highest score.

        Args:
            score: From a result to a number: `lambda result: float(result.final_returns().mean())`.
        """
        scores = [score(result) for result in self.results]
        known = [value if value == value else float("-inf") for value in scores]
        return self.settings[known.index(max(known))]


def sweep(
    algorithm: str | ModuleType,
    env: str | envs.AnyEnv,
    over: Mapping[str, Iterable[Any]],
    *,
    config: Any = None,
    seeds: Iterable[int] = range(30),
    num_steps: int | None = None,
    device: torch.device | str = "cpu",
    lanes_per_group: int | None = None,
    callback: Callback | None = None,
    backend: str = "inductor",
    processes: int | None = None,
) -> SweepResult:
    """Train every combination of settings with every seed.

    Each lane is what `train` makes of that setting and seed: combinations of floats are lanes of one
    program, and each combination of other fields is a program of its own.

    Args:
        algorithm: See `train`.
        env: See `train`.
        over: Values by field: `{"learning_rate": [1e-4, 1e-3], "env.half_length": [0.25, 0.5]}`.
        config: Settings of what is not swept; one number a float.
        seeds: See `train`.
        num_steps: See `train`.
        device: See `train`.
        lanes_per_group: See `train`; by default, on a CPU, as many as there are seeds if those are 8 or more, so
            that each lane is to the bit what `train` makes of it, else as many as fit into memory.
        callback: See `train`; called for one program after the other.
        backend: See `train`.
        processes: See `train`.

    Returns:
        A `SweepResult`.

    Raises:
        ValueError: When a field is unknown, stands for several values already, or has a value that cannot be.
        TypeError: When something is of the wrong kind.

    >>> from funcrl.algos import ppo
    >>> small = ppo.Config(num_envs=2, window_length=8, hidden=(4,))
    >>> given = {"config": small, "seeds": range(2), "num_steps": 16, "backend": "eager"}
    >>> found = sweep("ppo", "CartPole-v1", {"gamma": [0.9, 0.99]}, **given)
    >>> found.settings, found.results[1].seeds
    (({'gamma': 0.9}, {'gamma': 0.99}), (0, 1))
    """
    programs = plan_sweep(
        algorithm,
        env,
        over,
        config=config,
        seeds=seeds,
        num_steps=num_steps,
        device=device,
        lanes_per_group=lanes_per_group,
        backend=backend,
        processes=processes,
    )
    found: list[tuple[Setting, Result]] = []
    for program in programs:
        found += results_of(program, execute(program.plan, callback))
    return in_order(over, found)


def plan_sweep(
    algorithm: str | ModuleType,
    env: str | envs.AnyEnv,
    over: Mapping[str, Iterable[Any]],
    *,
    config: Any = None,
    seeds: Iterable[int] = range(30),
    num_steps: int | None = None,
    device: torch.device | str = "cpu",
    lanes_per_group: int | None = None,
    backend: str = "inductor",
    processes: int | None = None,
) -> list[Program]:
    """Check everything that `sweep` takes, without starting anything; return its programs.

    Args, Raises: see `sweep`.
    """
    module, world = resolve_algorithm("sweep", algorithm), resolve_env("sweep", env)
    config = module.Config() if config is None else config
    distinct = resolve_seeds("sweep", seeds)
    if not isinstance(over, Mapping):
        raise TypeError(
            f"sweep: over must be values by field, got {over!r}. Write over={{'gamma': [0.9, 0.99]}}."
        )
    values = {name: _values(name, given) for name, given in over.items()}
    require(
        len(values) > 0,
        "sweep",
        "over",
        "name at least one field",
        over,
        "Write over={'gamma': [0.9, 0.99]}.",
    )
    is_float = {name: is_number(name, config, world) for name in values}
    numbers = {name: values[name] for name in values if is_float[name]}
    others = {name: values[name] for name in values if not is_float[name]}
    programs = []
    for other in _combinations(others):
        settings = tuple(other | number for number in _combinations(numbers))
        columns = {name: [s[name] for s in settings for _ in distinct] for name in numbers}
        lane_config, lane_env = _changed(config, world, other | columns)
        lanes = distinct * len(settings)
        group = lanes_per_group
        if group is None:
            sizes = (len(lanes), len(distinct), checks.device("sweep", device))
            group = _lanes_at_once(module, lane_env, lane_config, *sizes)
        given = (num_steps, device, group, backend, processes)
        plan = plan_lanes(module, lane_env, lane_config, lanes, *given)
        programs.append(Program(plan, settings))
    return programs


def results_of(program: Program, result: Result) -> Iterator[tuple[Setting, Result]]:
    """Yield each setting of a program with the part of the result that belongs to it."""
    size = len(program.plan.seeds) // len(program.settings)
    for number, setting in enumerate(program.settings):
        yield setting, result.of(range(number * size, (number + 1) * size))


def in_order(over: Mapping[str, Iterable[Any]], found: Sequence[tuple[Setting, Result]]) -> SweepResult:
    """Return a sweep's results in the order in which `over` names the settings."""
    ordered = []
    left = list(found)
    for setting in _combinations({name: list(values) for name, values in over.items()}):
        place = next(i for i, (other, _) in enumerate(left) if other == setting)
        ordered.append((setting, left.pop(place)[1]))
    settings, results = zip(*ordered, strict=True)
    return SweepResult(settings, results)


def _values(name: str, given: Any) -> list[Any]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"sweep: over[{name!r}] must be several values, got {given!r}. Write [{given!r}].")
    values = list(given)
    require(len(values) > 0, "sweep", f"over[{name!r}]", "hold at least one value", values)
    twice = [value for number, value in enumerate(values) if value in values[:number]]
    require(not twice, "sweep", f"over[{name!r}]", "all differ", twice)
    return values


def _combinations(over: Mapping[str, Sequence[Any]]) -> Iterator[Setting]:
    for values in itertools.product(*over.values()):
        yield dict(zip(over, values, strict=True))


def owner(env: Any, name: str) -> tuple[str, ...] | None:
    """Return the way to the environment, in wrappers or not, that has a field; None where none has it."""
    way: tuple[str, ...] = ()
    while dataclasses.is_dataclass(env):
        fields = {field.name for field in dataclasses.fields(env)}
        if name in fields and name != "env":
            return way
        if "env" not in fields:
            return None
        env, way = getattr(env, "env"), (*way, "env")  # noqa: B009
    return None


def is_number(name: str, config: Any, env: Any) -> bool:
    """Return whether a field is a number that may differ between the lanes of a program."""
    if name.startswith(ENV):
        field_name, way = name.removeprefix(ENV), owner(env, name.removeprefix(ENV))
        hold = f"be a field of {type(env).__name__}"
        require(way is not None, "sweep", f"over[{name!r}]", hold, _names(env))
        target = env
        for step in way or ():
            target = getattr(target, step)
    else:
        field_name, target = name, config
    fields = {field.name: field for field in dataclasses.fields(target)}
    instead = f"Those of the environment are written {ENV}{name}." if owner(env, name) is not None else ""
    hold = f"be a field of {type(target).__module__.rpartition('.')[2]}.Config"
    require(field_name in fields, "sweep", f"over[{name!r}]", hold, ", ".join(fields), instead)
    return fields[field_name].type in ("float", float)


def _names(env: Any) -> str:
    return (
        ", ".join(field.name for field in dataclasses.fields(env))
        if dataclasses.is_dataclass(env)
        else "none"
    )


def _changed(config: Any, env: Any, values: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return settings and environment with some fields changed."""
    own = {name: value for name, value in values.items() if not name.startswith(ENV)}
    for name, value in values.items():
        if name.startswith(ENV):
            env = set_field(env, name.removeprefix(ENV), value)
    return dataclasses.replace(config, **own), env


def set_field(env: Any, name: str, value: Any) -> Any:
    """Return an environment with a field changed, its own or that of one it wraps.

    Args:
        env: The environment.
        name: Of the field.
        value: Its new value; of a float, also one a lane.

    >>> set_field(envs.FrameStack(envs.make("CartPole-v1"), num_frames=2), "half_length", 0.25).env.half_length
    0.25
    """
    way = owner(env, name)
    hold = f"be a field of {type(env).__name__}"
    require(way is not None, "set_field", "name", hold, name)
    if way:
        return dataclasses.replace(env, env=set_field(env.env, name, value))
    return dataclasses.replace(env, **{name: value})


SEEDS_THAT_FILL_A_PROGRAM = 8
"""Lanes from which on more of them in one program gain little on a CPU."""


def _lanes_at_once(
    algorithm: ModuleType, env: Any, config: Any, num_lanes: int, num_seeds: int, device: torch.device
) -> int:
    """Return how many lanes to run at once.

    On a CPU those of one setting, so that programs are as wide as those of `train`: sums round differently in
    programs of other widths. With fewer than `SEEDS_THAT_FILL_A_PROGRAM` that would cost too much.
    """
    most = num_lanes
    if device.type == "cpu" and num_seeds >= SEEDS_THAT_FILL_A_PROGRAM:
        most = num_seeds
    needed, free = loop_of(algorithm).memory_bytes(env, config), memory.available(device)
    if needed and free is not None:
        most = min(most, max(1, int(memory.SHARE * free / 2) // needed))
    return most
