"""What K-armed bandits share: one state, K actions, and an episode that is one pull of an arm.

Sutton & Barto 2018, "Reinforcement learning: an introduction", chapter 2. The arms of a lane are drawn
once, or given, and outlive episodes. The best arm is the arg-max of the true means, and `regret` is
computed from these means, not from the rewards that were paid.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, tree
from funcrl.envs import tabular
from funcrl.ops import averages, regret

_DEFAULT_NUM_ARMS = 10


@tree.struct
class Arms:
    """State of a bandit."""

    means: Tensor
    """`[K]` float32, mean reward of each arm"""
    reward: Tensor
    """`[]` float32, what the last pull paid; 0 before"""
    pulled: Tensor
    """`[]` boolean, whether the pull of this episode has been made"""


class Bandit:
    """What a bandit does whatever its arms pay; a subclass draws the arms and what they pay.

    The observation is always 0. Actions: which arm to pull. Every pull ends the episode.
    """

    render_fps = 4
    """pictures per second of a film"""

    means: tuple[float, ...] | None
    num_arms: int | None

    @property
    def observation_space(self) -> spaces.Discrete:
        """Nothing to see: always 0."""
        return tabular.discrete(1)

    @property
    def action_space(self) -> spaces.Discrete:
        """The arms."""
        if self.means is not None:
            return tabular.discrete(len(self.means))
        return tabular.discrete(_DEFAULT_NUM_ARMS if self.num_arms is None else self.num_arms)

    @property
    def is_drawn_once(self) -> bool:
        """Whether the arms were drawn for a lane, so that another environment has others."""
        return self.means is None

    def next_episode(self, state: Arms, key: Tensor) -> Arms:
        """Return the same arms before the next pull."""
        return before_pull(state.means)

    def observation(self, state: Arms, key: Tensor) -> Tensor:
        """Return 0, `[]` int64."""
        return torch.zeros((), dtype=torch.int64, device=key.device)

    def reward(self, state: Arms, action: Tensor, next_state: Arms, key: Tensor) -> Tensor:
        """Return what the pull paid, `[]` float32."""
        return next_state.reward

    def terminal(self, state: Arms, key: Tensor) -> Tensor:
        """Return whether an arm has been pulled, `[]` boolean."""
        return state.pulled

    def regret(self, state: Arms, action: Tensor) -> Tensor:
        """Return how much less an arm pays on average than the best one now, `[]` float32."""
        return mean_of(regret.gaps(state.means), action)


def before_pull(means: Tensor) -> Arms:
    """Return arms that have not been pulled in this episode.

    Args:
        means: `[K]`.
    """
    return Arms(
        means=means,
        reward=torch.zeros((), dtype=torch.float32, device=means.device),
        pulled=torch.zeros((), dtype=torch.bool, device=means.device),
    )


def mean_of(means: Tensor, action: Tensor) -> Tensor:
    """Return the entry of one arm, `[]`.

    Args:
        means: `[K]`.
        action: `[]`, which.
    """
    return torch.where(averages.is_arm(action, means.shape[-1]), means, 0.0).sum(dim=-1)


def paid(state: Arms) -> float | None:
    """Return what the pull of this episode paid; None before it."""
    return float(state.reward) if bool(state.pulled) else None


def check_arms(
    function: str, means: Any, num_arms: Any, low: float = -math.inf, high: float = math.inf
) -> None:
    """Check what a person says about arms: their means, or how many are to be drawn.

    Args:
        function: Who complains, `"BernoulliBandit"`.
        means: A tuple of numbers, or None.
        num_arms: A count, or None.
        low: Smallest mean that is possible.
        high: Largest.

    Raises:
        TypeError: When one of them is of the wrong kind.
        ValueError: When there is no arm, a mean is out of range, or both disagree.
    """
    if num_arms is not None:
        checks.integer(function, "num_arms", num_arms, 1)
    if means is None:
        return
    real = isinstance(means, tuple) and all(
        isinstance(mean, numbers.Real) and not isinstance(mean, bool) for mean in means
    )
    if not real:
        raise TypeError(
            f"{function}: means must be a tuple of numbers or None, got {means!r}. Write means=(0.2, 0.8)."
        )
    checks.require(len(means) >= 1, function, "means", "hold at least one arm", means)
    for arm, mean in enumerate(means):
        checks.number(function, f"means[{arm}]", mean, low, high)
        checks.require(math.isfinite(mean), function, f"means[{arm}]", "be finite", mean)
    agree = num_arms in (None, len(means))
    instead = "Write means=None to have arms drawn."
    checks.require(agree, function, "num_arms", f"be the {len(means)} of means, or None", num_arms, instead)
