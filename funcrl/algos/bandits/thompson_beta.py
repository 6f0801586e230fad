"""Thompson sampling for coins: pull each arm with the probability that it is the best one.

Thompson 1933, "On the likelihood that one unknown probability exceeds another in view of the evidence
of two samples"; as in Chapelle & Li 2011, "An empirical evaluation of Thompson sampling", algorithm 2.

    θ_a ~ Beta(α_a, β_a) for each arm
    A = argmax_a θ_a
    α_A ← α_A + R,   β_A ← β_A + 1 - R

Kaufmann, Korda & Munos 2012, "Thompson sampling: an asymptotically optimal finite-time analysis",
theorem 1: its regret grows as slowly as Lai and Robbins allow.

One departure: a reward between 0 and 1 counts as that part of a success, where Agrawal & Goyal 2012,
"Analysis of Thompson sampling for the multi-armed bandit problem", algorithm 2, toss a coin with it.
Both have the same expectation, and this one adds no noise. A reward outside of [0, 1] has no such
meaning: the posterior becomes NaN, so that the lane is named at the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.algos import beginning
from funcrl.algos.bandits import arms
from funcrl.core import Transition, checks, random, tree
from funcrl.core.checks import require
from funcrl.ops import averages, exploration

DEFAULT_STEPS = arms.DEFAULT_STEPS
LOOP = "online"
LEARNT = ("successes", "failures")


@tree.struct
class Config:
    """Settings; the defaults are the uniform prior."""

    prior_successes: float = 1.0
    """α of the prior"""
    prior_failures: float = 1.0
    """β of the prior"""

    def __post_init__(self) -> None:
        for name in ("prior_successes", "prior_failures"):
            value = getattr(self, name)
            checks.number("thompson_beta.Config", name, value, 0, 1e6, open_low=True)


@tree.struct
class State:
    """An agent that samples from Beta posteriors."""

    successes: Tensor
    """`[K]` float32, α of each arm, the prior's included"""
    failures: Tensor
    """`[K]` float32, β of each arm"""
    config: Config
    """its floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""


METRICS = ("value", "std")


def posterior_mean(successes: Tensor, failures: Tensor) -> Tensor:
    """Return the mean of Beta(α, β), α / (α + β).

    >>> posterior_mean(torch.tensor(1.0), torch.tensor(3.0))
    tensor(0.2500)
    """
    return successes / (successes + failures)


def posterior_std(successes: Tensor, failures: Tensor) -> Tensor:
    """Return the standard deviation of Beta(α, β), √(m (1 - m) / (α + β + 1)) with the mean m.

    >>> posterior_std(torch.tensor(1.5), torch.tensor(1.5))
    tensor(0.2500)
    """
    mean = posterior_mean(successes, failures)
    return torch.sqrt(mean * (1.0 - mean) / (successes + failures + 1.0))


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent that knows the prior.

    The environment's `reward_range` is looked at, if it has one.

    Raises:
        ValueError: Besides, when rewards may lie outside of [0, 1].
    """
    num_arms = arms.num_arms("thompson_beta.init", env)
    low, high = getattr(env, "reward_range", (0.0, 1.0))
    instead = "Write thompson_gaussian, or scale the rewards."
    fits = 0.0 <= low <= high <= 1.0
    require(fits, "thompson_beta.init", "env.reward_range", "lie in [0, 1]", (low, high), instead)
    config = beginning.settings(config, key)
    zeros = torch.zeros(num_arms, dtype=torch.float32, device=key.device)
    return State(
        successes=zeros + config.prior_successes,
        failures=zeros + config.prior_failures,
        config=config,
        metrics=beginning.no_metrics(METRICS, key),
    )


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Choose the arm that is best in a sample of the posterior."""
    k_sample, k_tie = random.split(key, 2)
    shape = (*obs.shape, state.successes.shape[-1])
    sample = random.beta(k_sample, state.successes, state.failures, shape)
    return exploration.sample(k_tie, exploration.greedy_probabilities(sample)), {}


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return the arm of the highest posterior mean, `[]` or `[B]` int64."""
    return arms.best(posterior_mean(state.successes, state.failures), obs)


def update(state: State, batch: Transition) -> State:
    """Learn from one pull.

    `value` and `std` in the metrics are posterior mean and standard deviation of the best-looking arm.
    """
    arms.check_pull("thompson_beta.update", batch)
    reward = batch.reward
    reward = torch.where((reward >= 0.0) & (reward <= 1.0), reward, torch.nan)
    pulled = averages.is_arm(batch.action, state.successes.shape[-1]).to(torch.float32)
    # Multiplied, so that a NaN reaches every arm of the lane.
    successes = state.successes + pulled * reward
    failures = state.failures + pulled * (1.0 - reward)
    mean = posterior_mean(successes, failures)
    looks_best = averages.is_arm(mean.argmax(dim=-1), mean.shape[-1])
    std = torch.where(looks_best, posterior_std(successes, failures), 0.0).sum(dim=-1)
    return State(
        successes=successes,
        failures=failures,
        config=state.config,
        metrics={"value": mean.amax(dim=-1), "std": std},
    )
