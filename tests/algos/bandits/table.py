"""The table of bandit algorithms, and the same algorithms written naively: loops over a history in float64.

A history is a list of (arm, reward); a naive policy returns the probability of each of K arms next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import scipy.stats
import torch

from funcrl import envs
from funcrl.algos import bandits
from funcrl.core import Transition, random
from funcrl.envs.bernoulli_bandit import BernoulliBandit
from funcrl.envs.gaussian_bandit import GaussianBandit

COINS = BernoulliBandit(means=(0.1, 0.9, 0.1))
NORMAL = GaussianBandit(means=(-2.0, 2.0, 0.0))


def transition(arm, reward):
    """Return one pull."""
    zero, over = torch.tensor(0), torch.tensor(True)
    return Transition(zero, torch.tensor(arm), torch.tensor(float(reward)), over, ~over, zero, {})


def sample_averages(history, num_arms):
    """(2.1): the sum of an arm's rewards over their number; 0 where there are none."""
    rewards = [[reward for arm, reward in history if arm == a] for a in range(num_arms)]
    return np.array([len(r) for r in rewards]), np.array([sum(r) / len(r) if r else 0.0 for r in rewards])


def share_best(values, tolerance=1e-5):
    best = values >= values.max() - tolerance if np.isfinite(values.max()) else values == values.max()
    return best / best.sum()


def with_epsilon(values, epsilon):
    return epsilon / len(values) + (1 - epsilon) * share_best(values)


def soft_max(values):
    weights = np.exp(values - values.max())
    return weights / weights.sum()


def epsilon_greedy(config, history, num_arms):
    return with_epsilon(sample_averages(history, num_arms)[1], config.epsilon)


def decaying_epsilon(config, history, num_arms):
    t = len(history) + 1
    epsilon = min(1.0, config.c * num_arms / (config.d**2 * t))
    return with_epsilon(sample_averages(history, num_arms)[1], epsilon)


def optimistic_values(config, history, num_arms):
    values = [config.initial_value] * num_arms
    for arm, reward in history:
        values[arm] += config.step_size * (reward - values[arm])
    return np.array(values)


def optimistic(config, history, num_arms):
    return with_epsilon(optimistic_values(config, history, num_arms), config.epsilon)


def ucb(config, history, num_arms):
    counts, means = sample_averages(history, num_arms)
    bounds = [
        math.inf if n == 0 else q + config.width * math.sqrt(config.exponent * math.log(len(history)) / 2 / n)
        for n, q in zip(counts, means, strict=True)
    ]
    return share_best(np.array(bounds))


def probability_best(laws):
    """Return the probability of each of some independent laws to give the largest number.

    ∫ Π_b F_b(x) dF_a(x), with equal steps of F_a.
    """
    share = (np.arange(20_000) + 0.5) / 20_000
    others = [[other.cdf(law.ppf(share)) for other in laws if other is not law] for law in laws]
    return np.array([np.prod(columns, axis=0).mean() for columns in others])


def beta_parameters(config, history, num_arms):
    a, b = [config.prior_successes] * num_arms, [config.prior_failures] * num_arms
    for arm, reward in history:
        a[arm] += reward
        b[arm] += 1 - reward
    return a, b


def thompson_beta(config, history, num_arms):
    parameters = zip(*beta_parameters(config, history, num_arms), strict=True)
    return probability_best([scipy.stats.beta(a, b) for a, b in parameters])


def normal_parameters(config, history, num_arms):
    """By precisions, as the textbook has it."""
    counts, means = sample_averages(history, num_arms)
    precision = 1 / config.prior_std**2 + counts / config.noise_std**2
    mean = config.prior_mean / config.prior_std**2 + counts * means / config.noise_std**2
    return mean / precision, precision**-0.5


def thompson_gaussian(config, history, num_arms):
    parameters = zip(*normal_parameters(config, history, num_arms), strict=True)
    return probability_best([scipy.stats.norm(mean, std) for mean, std in parameters])


def preferences(config, history, num_arms):
    result = np.zeros(num_arms)
    for t, (arm, reward) in enumerate(history):
        earlier = [r for _, r in history[:t]]
        baseline = sum(earlier) / t if t else reward
        policy = soft_max(result)
        for a in range(num_arms):
            result[a] += config.step_size * (reward - baseline) * ((a == arm) - policy[a])
    return result


def gradient_bandit(config, history, num_arms):
    return soft_max(preferences(config, history, num_arms))


def boltzmann(config, history, num_arms):
    return soft_max(sample_averages(history, num_arms)[1] / config.temperature)


@dataclass(frozen=True)
class Case:
    name: str
    config: Any
    env: Any
    policy: Callable[[Any, Any, int], np.ndarray]
    """the naive one"""

    @property
    def algorithm(self) -> ModuleType:
        return getattr(bandits, self.name)

    def init(self, config: Any = None, env: Any = None) -> Any:
        return self.algorithm.init(random.key(0), config or self.config, env or self.env)

    def after(self, history: Any, config: Any = None, env: Any = None) -> Any:
        """The agent after a history."""
        state = self.init(config, env)
        for arm, reward in history:
            state = self.algorithm.update(state, transition(arm, reward))
        return state


def case(policy, env=COINS, **settings):
    name = policy.__name__
    return Case(name, getattr(bandits, name).Config(**settings), env, policy)


CASES = [
    case(epsilon_greedy, epsilon=0.3),
    case(decaying_epsilon, c=0.5, d=0.5),
    case(optimistic, initial_value=2.0, step_size=0.3, epsilon=0.2),
    case(ucb, exponent=1.0, width=0.7),
    case(thompson_beta, prior_successes=2.0, prior_failures=0.5),
    case(thompson_gaussian, env=NORMAL, noise_std=0.7, prior_mean=0.5, prior_std=2.0),
    case(gradient_bandit, env=NORMAL, step_size=0.4),
    case(boltzmann, temperature=0.5),
]
"""with settings that are no defaults and all different, so that none can be taken for another"""


def run(case, env, num_lanes, num_steps, config=None, seed=0):
    """Let lanes act, pull and learn; return agents, and cumulative regret `[num_steps, num_lanes]`."""
    algorithm = case.algorithm
    key = random.fold_in(random.key(1), seed)
    k_world, *keys = random.split(key, 1 + num_steps)
    agents = torch.vmap(lambda _: case.init(config, env))(torch.zeros(num_lanes))
    worlds = torch.vmap(lambda k: envs.reset(env, k))(random.split(k_world, num_lanes))

    def step(agent, world, key):
        k_act, k_env = random.split(key, 2)
        action, extras = algorithm.act(agent, world.obs, k_act)
        lost = env.regret(world.inner, action)
        after, row = envs.step(env, world, action, k_env)
        batch = Transition(row.obs, action, row.reward, row.terminated, row.truncated, row.next_obs, extras)
        return algorithm.update(agent, batch), after, lost

    lost = []
    for k in keys:
        agents, worlds, now = torch.vmap(step)(agents, worlds, random.split(k, num_lanes))
        lost.append(now)
    return agents, torch.stack(lost).cumsum(0)
