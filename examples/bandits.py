"""The regret of every bandit algorithm on the same arms, in one figure.

python examples/bandits.py [--seeds 200] [--steps 10000] [--arms 0.9,0.8] [--out bandits.png]

Left: constant exploration keeps paying the same price for ever. Right, against the logarithm of time:
what learns when to stop exploring becomes a straight line, at best as flat as Lai & Robbins allow.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor

from funcrl import envs, ops
from funcrl.algos import (
    boltzmann,
    decaying_epsilon,
    epsilon_greedy,
    gradient_bandit,
    optimistic,
    thompson_beta,
    thompson_gaussian,
    ucb,
)
from funcrl.core import random
from funcrl.io import picture
from funcrl.train import regret_lower_bound, train


def contestants(smallest_gap: float) -> dict[str, tuple[object, object]]:
    """Return the algorithms and their settings; one is told by how much the best arm is better."""
    return {
        "ε-greedy, ε = 0.1": (epsilon_greedy, epsilon_greedy.Config(epsilon=0.1)),
        "ε-greedy, ε falls as 1/t": (decaying_epsilon, decaying_epsilon.Config(c=0.1, d=smallest_gap)),
        "optimistic": (optimistic, optimistic.Config(initial_value=1.0)),
        "Boltzmann": (boltzmann, boltzmann.Config()),
        "gradient bandit": (gradient_bandit, gradient_bandit.Config()),
        "UCB1": (ucb, ucb.Config()),
        "UCB, p = 1/t": (ucb, ucb.Config(exponent=1.0)),
        "Thompson, Gaussian": (thompson_gaussian, thompson_gaussian.Config(noise_std=0.5)),
        "Thompson, Beta": (thompson_beta, thompson_beta.Config()),
    }


def main() -> None:
    """Train them all and draw their regret."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=200, help="lanes of each algorithm")
    parser.add_argument("--steps", type=int, default=10_000, help="pulls of each seed")
    parser.add_argument("--arms", default="0.9,0.8", help="probability of each arm to pay")
    parser.add_argument("--out", default="bandits.png", help="picture to write")
    parser.add_argument("--backend", default="inductor", help="eager starts at once and is slow")
    given = parser.parse_args()
    means = tuple(float(word) for word in given.arms.split(","))
    env = envs.BernoulliBandit(means=means)
    gap = max(means) - max([mean for mean in means if mean < max(means)], default=0.0)

    curves: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
    print(f"{'cumulative regret':<28}{'mean':>9}   95 % interval of the mean")
    for name, (algorithm, config) in contestants(gap).items():
        result = train(
            algorithm,
            env,
            config=config,
            seeds=range(given.seeds),
            num_steps=given.steps,
            backend=given.backend,
        )
        regret = result.metrics["cumulative_regret"]
        low, high = ops.bootstrap_interval(random.key(0), regret, num_resamples=500, statistic=ops.mean)
        curves[name] = result.steps, regret.mean(dim=0), low, high
        print(
            f"{name:<28}{float(regret[:, -1].mean()):>9.1f}   [{float(low[-1]):.1f}, {float(high[-1]):.1f}]"
        )

    constant = regret_lower_bound(env, result.env_states)
    with picture(given.out, (13.0, 5.2), columns=2) as axes:
        for ax, scale in zip(axes, ("linear", "log"), strict=True):
            for name, (steps, mean, low, high) in curves.items():
                (line,) = ax.plot(steps, mean, linewidth=1.8, label=name)
                ax.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
            bound = constant * torch.log(steps.to(torch.float32))
            ax.plot(steps, bound, color="0.3", linestyle="--", label=f"Lai & Robbins, {constant:.3g} ln t")
            ax.set_xscale(scale)
            # The worst one may leave the picture, so that the others can be told apart.
            ax.set_ylim(0, 1.3 * sorted(float(mean[-1]) for _, mean, _, _ in curves.values())[-2])
            ax.set_xlabel("pulls")
            ax.grid(color="0.92")
        axes[0].set_ylabel(f"cumulative regret, mean of {given.seeds} seeds")
        axes[1].legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1.0))
        axes[0].set_title(f"arms pay with probability {given.arms}", loc="left", fontweight="bold")
    print(f"Lai & Robbins: {constant:.3f} ln t, {constant * math.log(given.steps):.1f} at the end")
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
