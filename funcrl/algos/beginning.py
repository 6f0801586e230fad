"""What algorithms of every kind do when they make a state: read spaces, settings and no figures yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl import nets
from funcrl.core import masks, tree
from funcrl.core.checks import require

C = TypeVar("C")


def settings(config: C, key: Tensor, dtype: torch.dtype = torch.float32) -> C:
    """Return settings whose floats are 0-d tensors on a key's device.

    Args:
        config: Settings; floats may be numbers or 0-d tensors.
        key: `[2]` int32.
        dtype: Of the tensors.
    """
    return tree.map(lambda x: torch.as_tensor(x, dtype=dtype, device=key.device), config)  # type: ignore[no-any-return]


def no_metrics(names: Sequence[str], key: Tensor, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return the figures before the first update: all NaN, `[]` each, on a key's device.

    >>> no_metrics(["loss"], torch.zeros(2, dtype=torch.int32))
    {'loss': tensor(nan)}
    """
    return {name: torch.full((), torch.nan, dtype=dtype, device=key.device) for name in names}


def count(function: str, env: object, name: str, instead: str) -> int:
    """Return the size of a space whose values are numbered from 0.

    Args:
        function: Who complains, `"q_learning.init"`.
        env: Anything that has the space.
        name: `"observation_space"` or `"action_space"`.
        instead: What to do where it is another space.

    Raises:
        ValueError: When it is.
    """
    space: Any = getattr(env, name)
    numbered = isinstance(space, spaces.Discrete) and space.start == 0
    require(numbered, function, f"env.{name}", "be Discrete (counted from 0)", space, instead)
    return int(space.n)


def observations(function: str, env: object) -> spaces.Space[Any]:
    """Return the space of the observations.

    Args:
        function: Who complains, `"ppo.init"`.
        env: Anything with `observation_space`.

    Raises:
        ValueError: When networks do not take what it holds.
    """
    space: Any = env.observation_space  # type: ignore[attr-defined]
    nets.inputs.check_kind(function, "env.observation_space", space)
    masks.check(function, env)
    return space  # type: ignore[no-any-return]


def spaces_of(function: str, env: object, instead: str) -> tuple[spaces.Space[Any], int]:
    """Return the space of the observations, and the number of actions.

    Args:
        function: Who complains, `"dqn.init"`.
        env: Anything with `observation_space` and `action_space` (Discrete).
        instead: What to do where actions are not numbered.

    Raises:
        ValueError: When a space is not supported.
    """
    num_actions = count(function, env, "action_space", instead)
    return observations(function, env), num_actions
