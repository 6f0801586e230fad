"""From what a user writes to what a program needs, with an error for everything that cannot be."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import gymnasium

from funcrl import algos, envs
from funcrl.algos import planning
from funcrl.core import checks, lanes
from funcrl.core.checks import require
from funcrl.core.resolve import resolve_module


def resolve_algorithm(function: str, algorithm: str | ModuleType) -> ModuleType:
    """Return the module of an algorithm given by name or as itself.

    Raises:
        ValueError: When the name is unknown.
        TypeError: When it is neither a name nor a module with the verbs of an algorithm.
    """
    if isinstance(algorithm, str):
        hold = "learn from experience"
        instead = f"Write solve({algorithm!r}, ...), or funcrl plan {algorithm} on the command line."
        require(algorithm not in planning.REGISTRY, function, "algorithm", hold, algorithm, instead)
    names, example = ("LOOP", "Config", "State", "init", "act", "update"), next(iter(algos.REGISTRY))
    algorithm = resolve_module(function, algorithm, algos.REGISTRY, names, example)
    remembers = hasattr(algorithm, "initial_carry")
    if remembers and not hasattr(algorithm, "remember"):
        raise TypeError(
            f"{function}: algorithm must have remember where it has initial_carry, got {algorithm!r} without. "
            "See funcrl.algos.protocol."
        )
    for verb in ("act", "greedy") if remembers else ():
        own = getattr(algorithm, verb, None)
        if own is not None and "carry" not in inspect.signature(own).parameters:
            raise TypeError(
                f"{function}: {verb} must have an argument carry in an algorithm that remembers, got {own}. "
                "See funcrl.algos.protocol."
            )
    return algorithm


def resolve_env(function: str, env: str | envs.AnyEnv) -> envs.AnyEnv:
    """Return the environment given by name or as itself.

    A name is looked up among the environments on the device first, then among Gymnasium's, which
    run on the host. A name with a colon, `"gymnasium:CartPole-v1"`, is always Gymnasium's: the
    part before the colon is the module that registers it.

    Raises:
        ValueError: When the name is unknown, or the environment cannot be made.
        TypeError: When it is neither a name nor an environment of funcrl's.
    """
    if isinstance(env, str):
        if envs.full_name(env) in envs.REGISTRY:
            return envs.make(env)
        if ":" in env or env in gymnasium.registry:
            return envs.from_gymnasium(env)
        _refuse_unknown(function, env)
    if isinstance(env, envs.HostEnv):
        return env
    if isinstance(env, type):
        raise TypeError(
            f"{function}: env must be an environment, got the class {env.__name__}. Write {env.__name__}()."
        )
    if isinstance(env, (gymnasium.Env, gymnasium.vector.VectorEnv)):
        raise TypeError(
            f"{function}: env must be a name or a funcrl environment, got {env}. "
            "Write envs.from_gymnasium(lambda: make_it()), so that each lane gets its own."
        )
    verbs = ["initial", "transition", "observation", "reward", "terminal"]
    verbs += ["observation_space", "action_space", "max_episode_steps"]
    example = lanes.first(env)
    missing = [verb for verb in verbs if not hasattr(example, verb)]
    if missing:
        raise TypeError(
            f"{function}: env must be a name or a funcrl environment, got {env!r} "
            f"without {', '.join(missing)}. For one of your own, envs.check_env(env) says what to write."
        )
    checks.time_limit(function, example.max_episode_steps)
    return env  # type: ignore[return-value]


def _refuse_unknown(function: str, name: str) -> None:
    names = {*envs.REGISTRY, *envs.ALIASES, *(known for known in gymnasium.registry if "/" not in known)}
    instead = checks.did_you_mean(name, names)
    ours = "a name that `funcrl list` shows" if instead else f"one of {', '.join(map(repr, envs.REGISTRY))}"
    hold = f"be {ours}, or one that Gymnasium knows"
    if "/" in name:
        instead = f"Put the module that registers it in front: 'ale_py:{name}'."
    require(False, function, "env", hold, name, instead)


def num_envs(config: Any) -> int:
    """Return how many environments a lane has: one where the algorithm has no such setting."""
    return int(getattr(config, "num_envs", 1))
