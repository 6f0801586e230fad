"""BernoulliBandit-v0: pull one of K arms, each of which pays 1 or 0 with a probability of its own.

See `envs.arms` for what all bandits share.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.envs.arms import Arms, Bandit, before_pull, check_arms, mean_of, paid
from funcrl.envs.drawing import Frame
from funcrl.envs.scenes import bars
from funcrl.ops import regret

GARIVIER_CAPPE = (0.1, 0.05, 0.05, 0.05, 0.02, 0.02, 0.02, 0.01, 0.01, 0.01)
"""Ten coins of Garivier & Cappé 2011, "The KL-UCB algorithm for bounded stochastic bandits and beyond",
section 6, also used by Kaufmann, Korda & Munos 2012, "Thompson sampling: an asymptotically optimal
finite-time analysis", section 4"""


@tree.struct
class BernoulliBandit(Bandit):
    """Arms that pay 1 or 0; by default ten, with probabilities drawn for each lane.

    The observation is always 0. Actions: which arm to pull. Every pull ends the episode.
    `BernoulliBandit-v0` has the arms of `GARIVIER_CAPPE`.

    >>> env = BernoulliBandit(means=(0.25, 0.75))
    >>> env.regret(env.initial(random.key(0)), torch.tensor(0))
    tensor(0.5000)
    """

    means: tuple[float, ...] | None = tree.static(default=None)
    """probability of each arm to pay; None: drawn for each lane, uniform on [0, 1]"""
    num_arms: int | None = tree.static(default=None)
    """K; None: as many as `means`, or 10 where they are drawn"""
    max_episode_steps: int | None = tree.static(default=None)
    """time limit, which no episode lives to see; None for none"""

    def __post_init__(self) -> None:
        check_arms("BernoulliBandit", self.means, self.num_arms, 0.0, 1.0)
        checks.time_limit("BernoulliBandit", self.max_episode_steps)

    @property
    def reward_range(self) -> tuple[float, float]:
        """Smallest and largest reward."""
        return 0.0, 1.0

    def initial(self, key: Tensor) -> Arms:
        """Return the arms; the key is not used where they are given."""
        if self.means is not None:
            return before_pull(torch.tensor(self.means, dtype=torch.float32, device=key.device))
        return before_pull(random.uniform(key, (int(self.action_space.n),)))

    def transition(self, state: Arms, action: Tensor, key: Tensor) -> Arms:
        """Return the same arms and what one of them paid."""
        pays = random.bernoulli(key, mean_of(state.means, action))
        return Arms(means=state.means, reward=pays.to(torch.float32), pulled=torch.ones_like(state.pulled))

    def lower_bound(self, state: Arms) -> Tensor:
        """Return the constant of Lai & Robbins for these arms, `[]`; see `ops.regret.lai_robbins`."""
        return regret.lai_robbins(state.means, regret.bernoulli_kl)

    def render(self, state: Arms) -> Frame:
        """Return a picture of the arms, `[H, W, 3]`: how likely each is to pay, and what the last pull paid."""
        return bars.picture(state.means.tolist(), paid(state))
