"""The bridge: any Gymnasium environment, to be run on the host. What is to be run is said here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from funcrl.core import checks
from funcrl.core.checks import require
from funcrl.core.spaces import KINDS

VECTORIZATIONS = ("sync", "async", "native")
"""one after the other in this process; a process each; the environment's own vector environment"""


@dataclass(frozen=True)
class HostEnv:
    """A Gymnasium environment to be run on the host; made by `from_gymnasium`."""

    name: str
    make: Callable[..., Any]
    """makes one environment, or with `num_envs=` a native vector environment"""
    vectorization: str
    """one of `VECTORIZATIONS`"""
    num_envs: int | None
    """environments of one lane; None for what the algorithm's settings say"""
    observation_space: spaces.Space[Any]
    """of one environment; 64-bit floats are narrowed to float32"""
    action_space: spaces.Space[Any]
    max_episode_steps: int | None
    """the time limit that Gymnasium knows of"""


def from_gymnasium(
    env: str | Callable[..., Any],
    *,
    num_envs: int | None = None,
    vectorization: str = "sync",
    **params: Any,
) -> HostEnv:
    """Take an environment from Gymnasium, to be run on the host.

    Args:
        env: Its id, `"HalfCheetah-v5"`, or a function without arguments that makes one; for
            `"native"` a function that takes `num_envs=` and makes a vector environment.
        num_envs: Environments of one lane; what the algorithm's settings say by default.
        vectorization: `"sync"` steps them one after the other, `"async"` gives each a process of
            its own, `"native"` uses the environment's own vector environment, one for each lane.
        **params: Passed on to `gymnasium.make`, or to the function.

    Returns:
        A `HostEnv`, for `train` and `evaluate`.

    Raises:
        ValueError: When there is no such environment, it cannot be made, or has a space that
            funcrl does not support.
        TypeError: When `env` is an environment rather than a way to make one.

    >>> from_gymnasium("CartPole-v1").max_episode_steps
    500
    """
    here = "from_gymnasium"
    require(
        vectorization in VECTORIZATIONS,
        here,
        "vectorization",
        f"be one of {', '.join(VECTORIZATIONS)}",
        vectorization,
    )
    if num_envs is not None:
        checks.integer(here, "num_envs", num_envs, 1)
    if isinstance(env, str):
        name, make = env, _maker(env, vectorization, params)
    elif callable(env) and not isinstance(env, (gymnasium.Env, VectorEnv)):
        name, make = getattr(env, "__name__", repr(env)), functools.partial(env, **params)
    else:
        raise TypeError(
            f"{here}: env must be an id or a function that makes an environment, got {env!r}. "
            "Write a function that makes a new one at each call, so that each lane gets its own."
        )
    obs_space, action_space, limit = _probe(here, name, make, vectorization)
    _check_space(here, name, "observation_space", obs_space)
    _check_space(here, name, "action_space", action_space)
    return HostEnv(
        name=name,
        make=make,
        vectorization=vectorization,
        num_envs=num_envs,
        observation_space=_narrow(obs_space),
        action_space=action_space,
        max_episode_steps=limit,
    )


def _probe(
    function: str, name: str, make: Callable[..., Any], vectorization: str
) -> tuple[Any, Any, int | None]:
    """Make one environment to see its spaces and its time limit."""
    try:
        probe: Any = make(num_envs=1) if vectorization == "native" else make()
    except Exception as error:  # whatever a user's function or a simulator raises
        reason = f"{name!r}: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        raise ValueError(f"{function}: env must be an environment that can be made, got {reason}") from error
    wanted = VectorEnv if vectorization == "native" else gymnasium.Env
    if not isinstance(probe, wanted):
        raise TypeError(
            f"{function}: env must make a {wanted.__name__} for {vectorization!r}, got {type(probe).__name__}."
        )
    which = "single_" if vectorization == "native" else ""
    limit = probe.spec.max_episode_steps if probe.spec is not None else None
    found = getattr(probe, f"{which}observation_space"), getattr(probe, f"{which}action_space"), limit
    probe.close()
    return found


def _maker(name: str, vectorization: str, params: dict[str, Any]) -> Callable[..., Any]:
    if vectorization == "native":
        return functools.partial(gymnasium.make_vec, name, vectorization_mode="vector_entry_point", **params)
    return functools.partial(gymnasium.make, name, **params)


def _check_space(function: str, name: str, argument: str, space: spaces.Space[Any]) -> None:
    names = ", ".join(kind.__name__ for kind in KINDS)
    require(isinstance(space, KINDS), function, f"{name}'s {argument}", f"be one of {names}", space)
    parts: Sequence[Any] = ()
    if isinstance(space, spaces.Tuple):
        parts = space.spaces
    elif isinstance(space, spaces.Dict):
        parts = list(space.spaces.values())
    for part in parts:
        _check_space(function, name, argument, part)


def _narrow(space: Any) -> Any:
    """Return the space with 64-bit floats made 32-bit ones, which is what agents are given."""
    if isinstance(space, spaces.Box) and space.dtype == np.float64:
        return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([_narrow(part) for part in space.spaces])
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: _narrow(part) for name, part in space.spaces.items()})
    return space
