"""Thompson sampling for normal rewards of known noise: pull each arm as often as it may be the best.

Thompson 1933, "On the likelihood that one unknown probability exceeds another in view of the evidence
of two samples"; Russo et al. 2018, "A tutorial on Thompson sampling", section 4. The posterior of a
mean with prior N(m₀, s₀²) after N rewards of average Q and noise σ is N(m, s²) with (Gelman et al.
2013, "Bayesian data analysis", section 2.5)

    1 / s² = 1 / s₀² + N / σ²
    m = (m₀ / s₀² + N Q / σ²) s²

that is, the prior counts as n₀ = σ² / s₀² pulls that paid m₀:

    m = (n₀ m₀ + N Q) / (n₀ + N),   s = σ / √(n₀ + N)
    θ_a ~ N(m_a, s_a²) for each arm,   A = argmax_a θ_a

Often wrong: a prior that is too narrow or too low for the arms there are; then the best arm may be
given up after a few bad pulls.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from funcrl.algos import beginning
from funcrl.algos.bandits import arms
from funcrl.core import Transition, checks, random, tree
from funcrl.ops import averages, exploration
from funcrl.ops.averages import Averages

DEFAULT_STEPS = arms.DEFAULT_STEPS
LOOP = "online"
LEARNT = ("arms",)


@tree.struct
class Config:
    """Settings; the defaults are the truth about `GaussianBandit-v0`."""

    noise_std: float = 1.0
    """σ: standard deviation of an arm's rewards"""
    prior_mean: float = 0.0
    """m₀: what an arm is expected to pay before it is pulled"""
    prior_std: float = 1.0
    """s₀: how uncertain that is"""

    def __post_init__(self) -> None:
        name = "thompson_gaussian.Config"
        checks.number(name, "noise_std", self.noise_std, 0, 1e6, open_low=True)
        checks.number(name, "prior_std", self.prior_std, 0, 1e6, open_low=True)
        checks.number(name, "prior_mean", self.prior_mean, -math.inf, math.inf)


@tree.struct
class State:
    """An agent that samples from normal posteriors."""

    arms: Averages
    """N and Q of each arm"""
    config: Config
    """its floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""


METRICS = ("value", "std", "greedy_share")


def posterior(config: Config, known: Averages) -> tuple[Tensor, Tensor]:
    """Return mean m and standard deviation s of each arm's posterior, `[K]` each.

    >>> posterior(Config(prior_mean=2.0), Averages(torch.tensor([0.0, 3.0]), torch.tensor([0.0, 6.0])))
    (tensor([2., 5.]), tensor([1.0000, 0.5000]))
    """
    prior_count = (config.noise_std / config.prior_std) ** 2
    count = prior_count + known.count
    mean = (prior_count * config.prior_mean + known.count * known.mean) / count
    return mean, config.noise_std / torch.sqrt(count)


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent that knows the prior."""
    return State(
        arms=averages.averages(arms.num_arms("thompson_gaussian.init", env), key.device),
        config=beginning.settings(config, key),
        metrics=beginning.no_metrics(METRICS, key),
    )


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Choose the arm that is best in a sample of the posterior."""
    k_sample, k_tie = random.split(key, 2)
    mean, std = posterior(state.config, state.arms)
    sample = mean + std * random.normal(k_sample, (*obs.shape, mean.shape[-1]))
    return exploration.sample(k_tie, exploration.greedy_probabilities(sample)), {}


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return the arm of the highest posterior mean, `[]` or `[B]` int64."""
    mean, _ = posterior(state.config, state.arms)
    return arms.best(mean, obs)


def update(state: State, batch: Transition) -> State:
    """Learn from one pull.

    `value` and `std` in the metrics are posterior mean and standard deviation of the best-looking arm.
    """
    arms.check_pull("thompson_gaussian.update", batch)
    after = averages.update_average(state.arms, batch.action, batch.reward)
    mean, std = posterior(state.config, after)
    looks_best = averages.is_arm(mean.argmax(dim=-1), mean.shape[-1])
    return State(
        arms=after,
        config=state.config,
        metrics={
            "value": mean.amax(dim=-1),
            "std": torch.where(looks_best, std, 0.0).sum(dim=-1),
            "greedy_share": averages.greedy_share(after),
        },
    )
