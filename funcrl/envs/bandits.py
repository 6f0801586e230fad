"""K-armed bandits: one state, K actions, and an episode that is one pull of an arm.

Sutton & Barto 2018, "Reinforcement learning: an introduction", chapter 2. The arms of a lane are drawn
once, or given, and outlive episodes. The best arm is the arg-max of the true means, and `regret` is
computed from these means, not from the rewards that were paid.
"""

from __future__ import annotations

import functools
import math
import numbers
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.envs import tabular
from funcrl.ops import averages, regret

GARIVIER_CAPPE = (0.1, 0.05, 0.05, 0.05, 0.02, 0.02, 0.02, 0.01, 0.01, 0.01)
"""Ten coins of Garivier & Cappé 2011, "The KL-UCB algorithm for bounded stochastic bandits and beyond",
section 6, also used by Kaufmann, Korda & Munos 2012, "Thompson sampling: an asymptotically optimal
finite-time analysis", section 4"""

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


def _begin(means: Tensor) -> Arms:
    return Arms(
        means=means,
        reward=torch.zeros((), device=means.device),
        pulled=torch.zeros((), dtype=torch.bool, device=means.device),
    )


def _pick(means: Tensor, action: Tensor) -> Tensor:
    """Return the mean of one arm, `[]`."""
    return torch.where(averages.is_arm(action, means.shape[-1]), means, 0.0).sum(dim=-1)


def _check_arms(
    function: str, means: Any, num_arms: Any, low: float = -math.inf, high: float = math.inf
) -> None:
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


def _count(means: tuple[float, ...] | None, num_arms: int | None) -> int:
    if means is not None:
        return len(means)
    return _DEFAULT_NUM_ARMS if num_arms is None else num_arms


@tree.struct
class BernoulliBandit:
    """Arms that pay 1 or 0; by default ten, with probabilities drawn for each lane.

    The observation is always 0. Actions: which arm to pull. Every pull ends the episode.
    """

    means: tuple[float, ...] | None = tree.static(default=None)
    """probability of each arm to pay; None: drawn for each lane, uniform on [0, 1]"""
    num_arms: int | None = tree.static(default=None)
    """K; None: as many as `means`, or 10 where they are drawn"""
    max_episode_steps: int | None = tree.static(default=None)
    """time limit, which no episode lives to see; None for none"""

    def __post_init__(self) -> None:
        _check_arms("BernoulliBandit", self.means, self.num_arms, 0.0, 1.0)
        checks.time_limit("BernoulliBandit", self.max_episode_steps)

    @property
    def observation_space(self) -> spaces.Discrete:
        """Nothing to see: always 0."""
        return tabular.discrete(1)

    @property
    def action_space(self) -> spaces.Discrete:
        """The arms."""
        return tabular.discrete(_count(self.means, self.num_arms))

    @property
    def reward_range(self) -> tuple[float, float]:
        """Smallest and largest reward."""
        return 0.0, 1.0

    def initial(self, key: Tensor) -> Arms:
        """Return the arms; the key is not used where they are given."""
        if self.means is not None:
            return _begin(torch.tensor(self.means, dtype=torch.float32, device=key.device))
        return _begin(random.uniform(key, (_count(self.means, self.num_arms),)))

    def next_episode(self, state: Arms, key: Tensor) -> Arms:
        """Return the same arms before the next pull."""
        return _begin(state.means)

    def transition(self, state: Arms, action: Tensor, key: Tensor) -> Arms:
        """Return the same arms and what one of them paid."""
        pays = random.bernoulli(key, _pick(state.means, action))
        return Arms(means=state.means, reward=pays.to(torch.float32), pulled=torch.ones_like(state.pulled))

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
        """Return how much less an arm pays on average than the best one, `[]` float32.

        >>> env = BernoulliBandit(means=(0.25, 0.75))
        >>> env.regret(env.initial(random.key(0)), torch.tensor(0))
        tensor(0.5000)
        """
        return _pick(regret.gaps(state.means), action)

    def lower_bound(self, state: Arms) -> Tensor:
        """Return the constant of Lai & Robbins for these arms, `[]`; see `ops.regret.lai_robbins`."""
        return regret.lai_robbins(state.means, regret.bernoulli_kl)


@tree.struct
class GaussianBandit:
    """Arms that pay normally distributed rewards; by default the ten-armed testbed of section 2.3.

    The observation is always 0. Actions: which arm to pull. Every pull ends the episode. With a
    `drift` the means take a random walk (exercise 2.5, there with `spread=0, drift=0.01`); the regret
    of a pull is that of the means at the time of the pull.
    """

    std: float = 1.0
    """standard deviation of an arm's rewards"""
    spread: float = 1.0
    """standard deviation of the means that are drawn, around 0"""
    drift: float = 0.0
    """standard deviation of what is added to every mean after each pull"""
    means: tuple[float, ...] | None = tree.static(default=None)
    """mean reward of each arm (with `drift`: at the beginning); None: drawn for each lane"""
    num_arms: int | None = tree.static(default=None)
    """K; None: as many as `means`, or 10 where they are drawn"""
    max_episode_steps: int | None = tree.static(default=None)
    """time limit, which no episode lives to see; None for none"""

    def __post_init__(self) -> None:
        checks.settings(self, "GaussianBandit", not_negative=("std", "spread", "drift"))
        _check_arms("GaussianBandit", self.means, self.num_arms)
        checks.time_limit("GaussianBandit", self.max_episode_steps)

    @property
    def observation_space(self) -> spaces.Discrete:
        """Nothing to see: always 0."""
        return tabular.discrete(1)

    @property
    def action_space(self) -> spaces.Discrete:
        """The arms."""
        return tabular.discrete(_count(self.means, self.num_arms))

    @property
    def reward_range(self) -> tuple[float, float]:
        """Smallest and largest reward: there are none."""
        return -math.inf, math.inf

    def initial(self, key: Tensor) -> Arms:
        """Return the arms; the key is not used where they are given."""
        if self.means is not None:
            return _begin(torch.tensor(self.means, dtype=torch.float32, device=key.device))
        return _begin(self.spread * random.normal(key, (_count(self.means, self.num_arms),)))

    def next_episode(self, state: Arms, key: Tensor) -> Arms:
        """Return the same arms before the next pull."""
        return _begin(state.means)

    def transition(self, state: Arms, action: Tensor, key: Tensor) -> Arms:
        """Return what one of the arms paid, and all arms one step of their random walk later."""
        noise = random.normal(key, (1 + state.means.shape[-1],))
        return Arms(
            means=state.means + self.drift * noise[1:],
            reward=_pick(state.means, action) + self.std * noise[0],
            pulled=torch.ones_like(state.pulled),
        )

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
        """Return how much less an arm pays on average than the best one now, `[]` float32.

        >>> env = GaussianBandit(means=(-1.0, 1.0, 1.0))
        >>> env.regret(env.initial(random.key(0)), torch.tensor(0))
        tensor(2.)
        """
        return _pick(regret.gaps(state.means), action)

    def lower_bound(self, state: Arms) -> Tensor:
        """Return the constant of Lai & Robbins for these arms, `[]`; it means nothing where they drift."""
        divergence = functools.partial(regret.gaussian_kl, std=self.std)
        return regret.lai_robbins(state.means, divergence)
