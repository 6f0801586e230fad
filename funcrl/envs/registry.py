"""Environments by name."""

from __future__ import annotations

from typing import Any

from funcrl.core import checks
from funcrl.envs.cartpole import CartPole
from funcrl.envs.stepping import Env

REGISTRY: dict[str, type[Any]] = {"CartPole-v1": CartPole}
"""Environments that live on the device, by their Gymnasium name."""


def make(name: str, **params: Any) -> Env:
    """Make an environment.

    Args:
        name: One of `REGISTRY`, for example `"CartPole-v1"`.
        **params: Fields of the environment to change, for example `half_length=0.7`.

    Returns:
        The environment, a struct whose numbers are leaves.

    Raises:
        ValueError: When the name or a parameter is unknown; the nearest ones are offered.

    >>> make("CartPole-v1", half_length=0.7).half_length
    0.7
    """
    checks.known("envs.make", "name", name, REGISTRY)
    checks.fields(f"envs.make({name!r})", REGISTRY[name], params)
    return REGISTRY[name](**params)  # type: ignore[no-any-return]
