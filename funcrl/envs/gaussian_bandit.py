"""GaussianBandit-v0: pull one of K arms that pay normally distributed rewards, and may drift.

The ten-armed testbed of Sutton & Barto 2018, section 2.3, and the drifting arms of exercise 2.5. See
`envs.arms` for what all bandits share.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.envs.arms import Arms, Bandit, before_pull, check_arms, mean_of, paid
from funcrl.envs.drawing import Frame
from funcrl.envs.scenes import bars
from funcrl.ops import regret


@tree.struct
class GaussianBandit(Bandit):
    """Arms that pay normally distributed rewards; by default the ten-armed testbed of section 2.3.

    The observation is always 0. Actions: which arm to pull. Every pull ends the episode. With a
    `drift` the means take a random walk; the regret of a pull is that of the means at the time of the
    pull. `DriftingBandit-v0` is that of exercise 2.5, with `spread=0, drift=0.01`.

    >>> env = GaussianBandit(means=(-1.0, 1.0, 1.0))
    >>> env.regret(env.initial(random.key(0)), torch.tensor(0))
    tensor(2.)
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
        check_arms("GaussianBandit", self.means, self.num_arms)
        checks.time_limit("GaussianBandit", self.max_episode_steps)

    @property
    def is_drawn_once(self) -> bool:
        """Whether the arms were drawn for a lane, or have drifted: another environment has others."""
        drift = self.drift
        return self.means is None or not isinstance(drift, (int, float)) or drift > 0

    @property
    def reward_range(self) -> tuple[float, float]:
        """Smallest and largest reward: there are none."""
        return -math.inf, math.inf

    def initial(self, key: Tensor) -> Arms:
        """Return the arms; the key is not used where they are given."""
        if self.means is not None:
            return before_pull(torch.tensor(self.means, dtype=torch.float32, device=key.device))
        return before_pull(self.spread * random.normal(key, (int(self.action_space.n),)))

    def transition(self, state: Arms, action: Tensor, key: Tensor) -> Arms:
        """Return what one of the arms paid, and all arms one step of their random walk later."""
        noise = random.normal(key, (1 + state.means.shape[-1],))
        return Arms(
            means=state.means + self.drift * noise[1:],
            reward=mean_of(state.means, action) + self.std * noise[0],
            pulled=torch.ones_like(state.pulled),
        )

    def lower_bound(self, state: Arms) -> Tensor:
        """Return the constant of Lai & Robbins for these arms, `[]`; infinite where they drift."""
        divergence = functools.partial(regret.gaussian_kl, std=self.std)
        constant = regret.lai_robbins(state.means, divergence)
        return torch.where(
            torch.as_tensor(self.drift, dtype=torch.float32, device=constant.device) > 0, torch.inf, constant
        )

    def render(self, state: Arms) -> Frame:
        """Return a picture of the arms, `[H, W, 3]`: their means, how rewards vary, and the last one paid."""
        return bars.picture(state.means.tolist(), paid(state), float(self.std))
