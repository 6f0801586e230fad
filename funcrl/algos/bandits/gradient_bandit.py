"""The gradient bandit: stochastic gradient ascent on the preferences of a soft-max policy.

Sutton & Barto 2018, "Reinforcement learning: an introduction", section 2.8.

    π(a) = exp H(a) / Σ_b exp H(b)                                                        (2.11)
    H(a) ← H(a) + α (R_t - R̄_t) ([a = A_t] - π(a))                                         (2.12)

The baseline R̄_t is the average of the rewards before this one, with R̄_1 = R_1, so that the first pull
changes nothing. Only differences between preferences mean anything.

Often wrong: (2.12) for the pulled arm alone. The others move too, so that the preferences keep their sum.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl import ops
from funcrl.algos import beginning
from funcrl.algos.bandits import arms
from funcrl.core import Transition, checks, random, tree
from funcrl.ops import averages

DEFAULT_STEPS = arms.DEFAULT_STEPS
LOOP = "online"
LEARNT = ("preferences", "baseline", "count")


@tree.struct
class Config:
    """Settings."""

    step_size: float = 0.1
    """α: figure 2.5 has 0.1 and 0.4"""

    def __post_init__(self) -> None:
        checks.settings(self, "gradient_bandit.Config", not_negative=("step_size",))


@tree.struct
class State:
    """A gradient bandit agent."""

    preferences: Tensor
    """`[K]` float32, H"""
    baseline: Tensor
    """`[]` float32, average of all rewards so far; 0 before the first"""
    count: Tensor
    """`[]` float32, number of pulls; a whole number, exact up to 2²⁴"""
    config: Config
    """its floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""


METRICS = ("baseline", "entropy")


def ascend(preferences: Tensor, action: Tensor, advantage: Tensor, step_size: Tensor) -> Tensor:
    """(2.12): H(a) + α (R - R̄) ([a = A] - π(a)).

    Args:
        preferences: `[K]` H.
        action: `[]` int64 A.
        advantage: `[]` R - R̄.
        step_size: `[]` α.

    Returns:
        `[K]`.

    >>> ascend(torch.zeros(2), torch.tensor(0), torch.tensor(3.0), torch.tensor(0.5))
    tensor([ 0.7500, -0.7500])
    """
    policy = torch.softmax(preferences, dim=-1)
    taken = averages.is_arm(action, preferences.shape[-1]).to(policy.dtype)
    return preferences + step_size * advantage * (taken - policy)


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent that prefers nothing yet."""
    num_arms = arms.num_arms("gradient_bandit.init", env)
    return State(
        preferences=torch.zeros(num_arms, dtype=torch.float32, device=key.device),
        baseline=torch.zeros((), dtype=torch.float32, device=key.device),
        count=torch.zeros((), dtype=torch.float32, device=key.device),
        config=beginning.settings(config, key),
        metrics=beginning.no_metrics(METRICS, key),
    )


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """(2.11): draw an arm from the policy."""
    return random.categorical(key, state.preferences.expand(*obs.shape, -1)), {}


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return the most preferred arm, `[]` or `[B]` int64."""
    return arms.best(state.preferences, obs)


def update(state: State, batch: Transition) -> State:
    """(2.12): learn from one pull."""
    arms.check_pull("gradient_bandit.update", batch)
    reward = batch.reward
    advantage = torch.where(state.count > 0.0, reward - state.baseline, 0.0)
    preferences = ascend(state.preferences, batch.action, advantage, state.config.step_size)  # type: ignore[arg-type]
    count = state.count + 1.0
    baseline = state.baseline + (reward - state.baseline) / count
    return State(
        preferences=preferences,
        baseline=baseline,
        count=count,
        config=state.config,
        # A copy: one tensor in two places would be another kind of input to torch.compile next time.
        metrics={"baseline": baseline.clone(), "entropy": ops.categorical_entropy(preferences)},
    )
