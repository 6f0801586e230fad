"""What all bandit algorithms share: counting the arms, choosing among them, and the shape of a pull."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from torch import Tensor

from funcrl.algos import beginning
from funcrl.core import Transition
from funcrl.core.checks import require
from funcrl.ops import exploration

DEFAULT_STEPS = 10_000
"""pulls of a lane in a run, where nothing else is said"""


def num_arms(function: str, env: object) -> int:
    """Return the number of arms of a bandit.

    Args:
        function: Who asks, `"ucb.init"`.
        env: Anything with `observation_space` and `action_space`.

    Raises:
        ValueError: When the actions are not Discrete from 0 on, or there is more than one thing to see.
    """
    num = beginning.count(function, env, "action_space", "A bandit algorithm chooses one of K arms.")
    require(num >= 1, function, "env.action_space", "have at least one arm", num)
    obs: Any = env.observation_space  # type: ignore[attr-defined]
    blind = isinstance(obs, spaces.Discrete) and obs.n == 1
    instead = (
        "A K-armed bandit shows nothing. Where contexts matter, train linucb or neural_thompson; "
        "where actions have consequences, q_learning or ppo."
    )
    require(blind, function, "env.observation_space", "be Discrete(1)", obs, instead)
    return num


def choose(key: Tensor, probabilities: Tensor, obs: Tensor) -> Tensor:
    """Return one arm an observation, each drawn by itself.

    Args:
        key: `[2]` int32.
        probabilities: `[K]`, of each arm.
        obs: `[...]`, looked at for its shape only.

    Returns:
        `[...]` int64.

    >>> import torch
    >>> choose(torch.zeros(2, dtype=torch.int32), torch.tensor([0.0, 1.0]), torch.zeros(2))
    tensor([1, 1])
    """
    return exploration.sample(key, probabilities.expand(*obs.shape, -1))


def best(values: Tensor, obs: Tensor) -> Tensor:
    """Return the first best arm, once an observation.

    Args:
        values: `[K]` value of each arm.
        obs: `[...]`, looked at for its shape only.

    Returns:
        `[...]` int64.

    >>> import torch
    >>> best(torch.tensor([1.0, 2.0, 2.0]), torch.zeros(2))
    tensor([1, 1])
    """
    return values.argmax(dim=-1).expand(obs.shape)


def check_pull(function: str, batch: Transition) -> None:
    """Check that a batch is one pull.

    Raises:
        ValueError: When it is several.
    """
    instead = "Write tree.index(batch, 0) for one of several, or torch.vmap over lanes."
    for name in ("action", "reward"):
        shape = tuple(getattr(batch, name).shape)
        require(shape == (), function, f"batch.{name}", "be one number, of shape ()", shape, instead)
