"""From what a user writes to what a program needs, with an error for everything that cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl import algos, envs
from funcrl.core import checks, tree
from funcrl.core.checks import require


def resolve_algorithm(function: str, algorithm: str | ModuleType) -> ModuleType:
    """Return the module of an algorithm given by name or as itself.

    Raises:
        ValueError: When the name is unknown.
        TypeError: When it is neither a name nor a module with the verbs of an algorithm.
    """
    if isinstance(algorithm, str):
        checks.known(function, "algorithm", algorithm, algos.REGISTRY)
        return algos.REGISTRY[algorithm]
    missing = [verb for verb in ("Config", "init", "act", "update") if not hasattr(algorithm, verb)]
    if missing:
        raise TypeError(
            f"{function}: algorithm must be a name or a module with Config, init, act and update, "
            f"got {algorithm!r} without {', '.join(missing)}. Write {next(iter(algos.REGISTRY))!r}."
        )
    return algorithm


def resolve_env(function: str, env: str | envs.Env) -> envs.Env:
    """Return the environment given by name or as itself.

    Raises:
        ValueError: When the name is unknown.
        TypeError: When it is neither a name nor an environment, a Gymnasium one for example.
    """
    if isinstance(env, str):
        checks.known(function, "env", env, envs.REGISTRY)
        return envs.make(env)
    verbs = ("initial", "transition", "observation", "reward", "terminal", "action_space")
    missing = [verb for verb in verbs if not hasattr(env, verb)]
    if missing:
        raise TypeError(
            f"{function}: env must be a name or a funcrl environment, got {env!r} "
            f"without {', '.join(missing)}. Write {next(iter(envs.REGISTRY))!r}."
        )
    return env


def resolve_seeds(function: str, seeds: Iterable[int]) -> tuple[int, ...]:
    """Return the seeds as a tuple of different integers from 0 to 2⁶³ - 1.

    Raises:
        ValueError: When there is none, one is negative, or one stands twice.
        TypeError: When they are not integers.
    """
    if isinstance(seeds, (int, float, str)):
        instead = f"range({int(seeds)})" if isinstance(seeds, (int, float)) and seeds >= 1 else "range(16)"
        raise TypeError(f"{function}: seeds must be several integers, got {seeds!r}. Write seeds={instead}.")
    given = list(seeds.tolist() if isinstance(seeds, Tensor) else seeds)
    require(len(given) > 0, function, "seeds", "hold at least one integer", given, "Write range(16).")
    for seed in given:
        checks.integer(function, "each of seeds", seed, 0)
    unique = tuple(int(seed) for seed in given)
    twice = (
        sorted({seed for seed in unique if unique.count(seed) > 1}) if len(set(unique)) < len(unique) else []
    )
    require(
        not twice, function, "seeds", "all differ", twice, "A repeated seed is the same experiment again."
    )
    return unique


def resolve_device(function: str, device: torch.device | str) -> torch.device:
    """Return the device, if this machine has it.

    Raises:
        ValueError: When the device is unknown to torch or not present.
    """
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"{function}: device must be cpu or cuda, got {device!r}. Write 'cpu'.") from error
    require(
        resolved.type in ("cpu", "cuda"), function, "device", "be cpu or cuda", str(device), "Write 'cpu'."
    )
    if resolved.type == "cuda":
        present = torch.cuda.device_count() if torch.cuda.is_available() else 0
        require(
            (resolved.index or 0) < present,
            function,
            "device",
            "be present",
            str(device),
            f"This machine has {present} CUDA devices that torch can use. Write 'cpu'.",
        )
    return resolved


def resolve_config(function: str, algorithm: ModuleType, config: Any, num_lanes: int) -> Any:
    """Return settings with every float checked, also where there is one value a lane.

    Raises:
        TypeError: When the settings belong to another algorithm.
        ValueError: When a value is out of range, or values are not as many as lanes.
    """
    if config is None:
        config = algorithm.Config()
    if not isinstance(config, algorithm.Config):
        name = algorithm.__name__.rpartition(".")[2]
        raise TypeError(
            f"{function}: config must be a {name}.Config, got {config!r}. Write config={name}.Config()."
        )
    columns: dict[str, list[float]] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, (list, tuple, Tensor)) and not field.metadata.get("static", False):
            column = torch.as_tensor(value, dtype=torch.float32)
            if column.ndim == 0:
                column = column.expand(num_lanes)
            require(
                tuple(column.shape) == (num_lanes,),
                function,
                f"config.{field.name}",
                f"be one number or hold one for each of {num_lanes} seeds",
                list(column.shape),
            )
            columns[field.name] = column.tolist()
    for lane in range(num_lanes if columns else 0):
        tree.replace(config, **{name: column[lane] for name, column in columns.items()})
    return tree.replace(config, **{name: torch.tensor(column) for name, column in columns.items()})
