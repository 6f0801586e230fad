"""A robot learns from images to find its goal among obstacles, and is tested on layouts it never saw.

python examples/grid_navigation.py [--seeds 4] [--steps 600000] [--out grid_navigation.png]

Every episode has a layout of its own, drawn from its key, and the test's keys are not those of the
training. In the test the policy is greedy and explores nothing; an episode is a success where the
robot reaches the goal within the time limit.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funcrl import envs, nets, ops
from funcrl.algos import pqn
from funcrl.core import random
from funcrl.io import picture
from funcrl.train import Run, evaluate

ENV = envs.make("GridNavigation-v0")
TEST_SEED = 1_000_000
NUM_TESTS = 12
"""points of the curve, the untrained agent included"""


class AroundRobot(nn.Module):
    """Action values from the image as seen from the robot.

    The image is shifted so that the robot stands in its middle, which is reading out one position of
    a convolution whose kernel is as wide as the grid: what is learnt in one place holds in all of
    them. (Value iteration networks read out the robot's position too, Tamar et al. 2016, arXiv
    1602.02867.) The network has to know which channel is the robot; nothing else is given.
    """

    def __init__(self, size: int, hidden: tuple[int, ...], num_actions: int) -> None:
        super().__init__()
        self.size = size
        width = 2 * size - 1
        self.head = nets.mlp((2, width, width), hidden, num_actions, activation="relu", normalization="layer")

    def forward(self, image: Tensor) -> Tensor:
        """Map `[..., 3, size, size]` to `[..., num_actions]`."""
        size, leading = self.size, image.shape[:-3]
        robot, goal, obstacles = image.reshape(-1, 3, size, size).unbind(dim=1)
        margin = size - 1
        # Beyond the edges there is no way through, as if there were obstacles.
        goal = F.pad(goal, (margin,) * 4)
        obstacles = F.pad(obstacles, (margin,) * 4, value=1.0)
        padded = torch.stack([goal, obstacles], dim=1).flatten(2)

        cell = robot.flatten(1).argmax(dim=1)
        stride = size + 2 * margin
        corner = cell // size * stride + cell % size
        along = torch.arange(2 * size - 1, device=image.device)
        around = (along[:, None] * stride + along).flatten()
        index = (corner[:, None] + around)[:, None].expand(-1, 2, -1)
        seen = padded.gather(2, index).reshape(-1, 2, 2 * size - 1, 2 * size - 1)
        return self.head(seen).reshape(*leading, -1)  # type: ignore[no-any-return]


def settings(num_steps: int) -> pqn.Config:
    """Return settings for a run of so many steps.

    The reward is rare, so that long returns and much exploration are what teaches at the beginning: at
    ε = 1 they are the values of a random walk, of which the greedy policy already finds many goals.
    The discount is small, because values that fall steeply with the distance are easier to tell apart.
    """
    return pqn.Config(
        learning_rate=1e-3,
        anneal_steps=float(num_steps),
        gamma=0.93,
        td_lambda=0.95,
        epsilon=0.2,
        exploration_steps=0.5 * num_steps,
        num_envs=64,
        window_length=16,
        num_epochs=2,
        num_minibatches=8,
        network=AroundRobot(ENV.size, (256, 256), 4),
    )


def success(states: pqn.State, num_episodes: int) -> Tensor:
    """Return the share of episodes on new layouts in which each lane's greedy policy arrives, `[S]`."""
    returns = evaluate(pqn, ENV, states, num_episodes=num_episodes, seed=TEST_SEED, backend="eager")
    # A goal pays 1 and each of at most 31 steps before it takes 0.01.
    return (returns > 0).to(torch.float32).mean(dim=1)


def learn(num_seeds: int, num_steps: int, num_episodes: int, backend: str) -> tuple[list[int], Tensor]:
    """Train, and return at how many steps the agents were tested, `[P]`, and their success, `[S, P]`."""
    config = settings(num_steps)
    run = Run(pqn, ENV, config, range(num_seeds), backend=backend)
    num_iterations = max(1, num_steps // run.steps_per_iteration)
    every = math.ceil(num_iterations / (NUM_TESTS - 1))
    steps, tests = [0], [success(run.agent, num_episodes)]
    for iteration in range(1, num_iterations + 1):
        run.iterate()
        if iteration % every == 0 or iteration == num_iterations:
            steps.append(iteration * run.steps_per_iteration)
            tests.append(success(run.agent, num_episodes))
            print(f"{steps[-1]:>10,} steps: success {float(tests[-1].mean()):.3f}", flush=True)
    return steps, torch.stack(tests, dim=1)


def main() -> None:
    """Train, test and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=4, help="lanes")
    parser.add_argument("--steps", type=int, default=600_000, help="environment steps of each seed")
    parser.add_argument("--episodes", type=int, default=200, help="layouts of a test")
    parser.add_argument("--backend", default="inductor", help="eager starts at once and is slow")
    parser.add_argument("--out", default="grid_navigation.png", help="picture to write")
    given = parser.parse_args()

    steps, tests = learn(given.seeds, given.steps, given.episodes, given.backend)
    low, high = ops.bootstrap_interval(random.key(0), tests, num_resamples=2000, statistic=ops.mean)
    mean = tests.mean(dim=0)
    print(f"success of each seed: {', '.join(f'{x:.3f}' for x in tests[:, -1].tolist())}")
    print(
        f"success on {given.episodes} unseen layouts: {float(mean[-1]):.3f}, "
        f"95 % interval of the mean of {given.seeds} seeds [{float(low[-1]):.3f}, {float(high[-1]):.3f}]"
    )
    with picture(given.out, (7.5, 4.6)) as ax:
        (line,) = ax.plot(steps, mean, linewidth=1.8, marker="o", markersize=4)
        ax.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        ax.axhline(0.9, color="0.4", linestyle="--", linewidth=1)
        ax.set_ylim(0.0, 1.0)
        ax.set_xlabel("environment steps of each seed")
        ax.set_ylabel(f"success on {given.episodes} unseen layouts")
        ax.set_title(f"GridNavigation from images, PQN, {given.seeds} seeds", loc="left", fontweight="bold")
        ax.grid(color="0.92")
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
