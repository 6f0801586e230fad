"""What theory says about bandits, beside what is measured; and choosing the class of an image.

python benchmarks/bandits.py [--seeds 1000] [--steps 10000] [--device cpu]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from funcrl import envs, ops
from funcrl.algos import epsilon_greedy, thompson_beta, ucb
from funcrl.core import random
from funcrl.envs.bernoulli_bandit import GARIVIER_CAPPE
from funcrl.ops import regret
from funcrl.train import Result, train

INSTANCES: dict[str, tuple[float, ...]] = {
    "two coins, Garivier & Cappé 2011": (0.9, 0.8),
    "ten coins, Garivier & Cappé 2011": GARIVIER_CAPPE,
    "ten coins, Chapelle & Li 2011": (0.5, *(0.4,) * 9),
}
TARGET_CHOICES = 0.8


def run(
    algorithm: Any, means: tuple[float, ...], seeds: int, steps: int, device: str, **config: float
) -> Result:
    """Train on coins with the given probabilities."""
    env, settings = envs.BernoulliBandit(means=means), algorithm.Config(**config)
    return train(algorithm, env, config=settings, seeds=range(seeds), num_steps=steps, device=device)


def curve(result: Result) -> Tensor:
    """Return the mean cumulative regret after each iteration, `[I]`."""
    return result.metrics["cumulative_regret"].to(torch.float64).mean(dim=0)


def slope(x: Tensor, y: Tensor) -> float:
    """Return the slope of the least-squares line through points."""
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())


def constant_epsilon(seeds: int, steps: int, device: str) -> dict[str, Any]:
    """Regret a step once the best arm is known, beside ε times the mean gap."""
    means, epsilon = INSTANCES["two coins, Garivier & Cappé 2011"], 0.1
    result = run(epsilon_greedy, means, seeds, steps, device, epsilon=epsilon)
    late = result.steps > steps // 2
    expected = epsilon * float(regret.gaps(torch.tensor(means)).mean())
    found = slope(result.steps[late].double(), curve(result)[late])
    return {"regret_a_step": round(found, 6), "epsilon_times_mean_gap": round(expected, 6)}


def ucb1(seeds: int, steps: int, device: str) -> dict[str, Any]:
    """The largest share of its proven bound that UCB1's mean regret reaches at any time."""
    shares = {}
    for name, means in INSTANCES.items():
        result = run(ucb, means, seeds, steps, device)
        bound = regret.ucb1_bound(torch.tensor(means, dtype=torch.float64), result.steps.double())
        shares[name] = round(float((curve(result) / bound).max()), 4)
    return {"largest_share_of_its_bound": shares, "seconds": round(result.run_seconds, 2)}


def thompson(seeds: int, steps: int, device: str) -> dict[str, Any]:
    """The slope of Thompson sampling's regret in ln t over the last nine tenths, over Lai & Robbins."""
    ratios = {}
    for name, means in INSTANCES.items():
        result = run(thompson_beta, means, seeds, steps, device)
        late = result.steps >= steps // 10
        found = slope(torch.log(result.steps[late].double()), curve(result)[late])
        constant = float(regret.lai_robbins(torch.tensor(means).double(), regret.bernoulli_kl))
        ratios[name] = round(found / constant, 3)
    return {"slope_over_lai_robbins": ratios, "seconds": round(result.run_seconds, 2)}


def numpy_ucb1(steps: int) -> float:
    """Return the seconds that one seed of UCB1 takes in a plain numpy loop."""
    generator, means = np.random.default_rng(0), np.array(GARIVIER_CAPPE)
    counts, averages = np.zeros(len(means)), np.zeros(len(means))
    began = time.perf_counter()
    for t in range(steps):
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = averages + np.sqrt(2 * np.log(t) / counts)
        bound[counts == 0] = np.inf
        arm = generator.choice(np.flatnonzero(bound == bound.max()))
        reward = float(generator.random() < means[arm])
        counts[arm] += 1
        averages[arm] += (reward - averages[arm]) / counts[arm]
    return time.perf_counter() - began


def digits(seeds: int, device: str) -> dict[str, Any]:
    """Right choices among the last 2,000 of 20,000, with an interval over seeds."""
    rows = {}
    for name in ("neural_epsilon_greedy", "neural_thompson", "linucb"):
        result = train(name, "digits", seeds=range(seeds), num_steps=20_000, device=device)
        right = 1.0 - result.metrics["regret"][:, result.steps > 18_000].mean(dim=1)
        low, high = ops.bootstrap_interval(random.key(0), right)
        rows[name] = {
            "right_iqm": round(float(ops.iqm(right)), 4),
            "interval_95": [round(float(low), 4), round(float(high), 4)],
            "worst": round(float(right.min()), 4),
            "over_the_whole_run": round(float(1.0 - result.metrics["regret"].mean()), 4),
            "steps_per_second": round(result.steps_per_second),
            "compile_seconds": round(result.compile_seconds, 1),
            "target": f"≥ {TARGET_CHOICES}" if name != "linucb" else "linear in raw pixels, to compare",
        }
    return rows


def measure(seeds: int, steps: int, device: str) -> dict[str, Any]:
    """Return all figures."""
    return {
        "seeds": seeds,
        "steps": steps,
        "constant_epsilon": constant_epsilon(seeds, steps, device),
        "ucb1": ucb1(seeds, steps, device),
        "thompson_beta": thompson(seeds, steps, device),
        "numpy_ucb1_seconds_for_one_seed": round(numpy_ucb1(steps), 2),
        "digits": digits(16, device),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    for name, figures in measure(given.seeds, given.steps, given.device).items():
        print(f"{name}: {figures}")
