"""From the seeds and settings that a user writes to those of lanes, with an error for everything that cannot be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

from torch import Tensor

from funcrl.core import checks, lanes
from funcrl.core.checks import require


def resolve_seeds(function: str, seeds: Iterable[int]) -> tuple[int, ...]:
    """Return the seeds as a tuple of different integers from 0 to 2⁶⁴ - 1.

    Raises:
        ValueError: When there is none, one is negative, or one stands twice.
        TypeError: When they are not integers.
    """
    if isinstance(seeds, Tensor):
        seeds = seeds.reshape(-1).tolist()
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        instead = f"range({seeds})" if isinstance(seeds, int) and seeds >= 1 else "range(16)"
        raise TypeError(f"{function}: seeds must be several integers, got {seeds!r}. Write seeds={instead}.")
    if isinstance(seeds, range):
        _limit_seeds(function, len(seeds))
    given = list(seeds)
    require(len(given) > 0, function, "seeds", "hold at least one integer", given, "Write range(16).")
    _limit_seeds(function, len(given))
    for seed in given:
        checks.integer(function, "each of seeds", seed, 0)
        require(seed < 2**64, function, "each of seeds", "be below 2**64", seed)
    counts = Counter(int(seed) for seed in given)
    twice = sorted(seed for seed, count in counts.items() if count > 1)
    instead = "A repeated seed is the same experiment again."
    require(not twice, function, "seeds", "all differ", twice[:5], instead)
    return tuple(counts)


def _limit_seeds(function: str, count: int) -> None:
    instead = "For the one seed N write [N] (--seeds N, on the command line)."
    require(count <= 1_000_000, function, "seeds", "be at most a million", count, instead)


def resolve_module(
    function: str,
    algorithm: str | ModuleType,
    registry: Mapping[str, ModuleType],
    needed: Sequence[str],
    example: str,
) -> ModuleType:
    """Return the module of an algorithm given by name or as itself.

    Args:
        function: Who complains.
        algorithm: What the user wrote.
        registry: Modules by name.
        needed: What a module must have.
        example: A name to write instead.

    Raises:
        ValueError: When the name is unknown.
        TypeError: When it is neither a name nor a module with what is needed.
    """
    if isinstance(algorithm, str):
        checks.known(function, "algorithm", algorithm, registry)
        return registry[algorithm]
    missing = [name for name in needed if not hasattr(algorithm, name)]
    if missing:
        raise TypeError(
            f"{function}: algorithm must be a name or a module with {', '.join(needed)}, "
            f"got {algorithm!r} without {', '.join(missing)}. Write {example!r}."
        )
    return algorithm


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
        kind = type(config)
        owner = kind.__module__.rpartition(".")[2]
        found = f"a {owner}.{kind.__qualname__}" if hasattr(kind, "__dataclass_fields__") else repr(config)
        instead = f"Write config={name}.Config()."
        if isinstance(getattr(config, "config", None), algorithm.Config):
            instead = "Write its .config."
        raise TypeError(f"{function}: config must be a {name}.Config, got {found}. {instead}")
    return lanes.spread(function, "config", config, num_lanes)
