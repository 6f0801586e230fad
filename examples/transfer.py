"""What is learnt from labelled images helps a robot that has to act: an extractor learns where the goal lies, then moves.

python examples/transfer.py [--seeds 8] [--steps 400000] [--out transfer.png]

First a classifier learns from images of GridNavigation, with labels, in which of eight directions the goal lies from the
robot. Its first layers become those of a Q-network of PQN, three times: as they were learnt and frozen, as they were learnt
and learning on, and drawn anew. The test is greedy, on layouts that none of them saw. All seeds begin with the one extractor,
so the intervals are those of learning to act.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor, nn

from funcrl import data, envs, nets, ops, supervised
from funcrl.algos import pqn
from funcrl.core import random, tree
from funcrl.io import picture
from funcrl.train import Run, evaluate

ENV = envs.make("GridNavigation-v0")
IMAGES_SEED, TEST_SEED = 2_000_000, 1_000_000
NUM_TESTS = 16
"""points of a curve, the untrained agent included"""
GOAL = 0.5
"""share of layouts that counts as success, for which steps are counted"""
COLOURS = {"frozen": "#b8541a", "fine-tuned": "#1f5fa8", "from scratch": "0.35"}


def extractor() -> nn.Module:
    """Return the layers that are to be moved, from `[B, 3, 8, 8]` to `[B, 128]`."""
    layers = nets.mlp((3, ENV.size, ENV.size), (256,), 128, activation="relu", output_gain=math.sqrt(2.0))
    return nets.activated(layers, "relu")


def images(count: int) -> data.LabelledImages:
    """Return first images of episodes, each with the number of the direction in which the goal lies.

    North is 0, then clockwise: by whether the goal's row and column are below, above or the same as the robot's.
    """
    keys = random.split(random.key(IMAGES_SEED), count)
    seen = envs.reset_all(ENV, keys).obs
    cells = seen[:, :2].flatten(2).argmax(dim=-1)
    down, right = ((cells // ENV.size).diff(dim=1), (cells % ENV.size).diff(dim=1))
    sector = (torch.sign(down) * 3 + torch.sign(right) + 4).squeeze(1)
    clockwise = torch.tensor([7, 0, 1, 6, 8, 2, 5, 4, 3], dtype=torch.int64, device="cpu")
    return data.LabelledImages(seen, clockwise[sector], num_classes=8)


def learn_to_see(count: int, epochs: int, backend: str) -> dict[str, Tensor]:
    """Train the classifier, and return the extractor's part of what it has learnt."""
    network = nn.Sequential(extractor(), nn.Linear(128, 8, device="meta"))
    train, test = images(count).split(count * 9 // 10, random.key(0))
    config = supervised.classifier.Config(network=network, batch_size=128)
    found = supervised.fit(train, test=test, config=config, seeds=[0], num_epochs=epochs, backend=backend)
    accuracy = float(found.metrics["test_accuracy"][0, -1])
    print(f"direction of the goal: {accuracy:.3f} right on {len(test)} images it never saw", flush=True)
    return nets.to_state_dict(tree.index(found.states.params, 0))


def learn_to_act(
    config: pqn.Config, num_seeds: int, num_steps: int, num_episodes: int, backend: str
) -> tuple[list[int], Tensor]:
    """Train, and return at how many steps the agents were tested, `[P]`, and their success, `[S, P]`."""
    run = Run(pqn, ENV, config, range(num_seeds), backend=backend)
    num_iterations = max(1, num_steps // run.steps_per_iteration)
    every = math.ceil(num_iterations / (NUM_TESTS - 1))
    steps, tests = [0], [success(run.agent, num_episodes)]
    for iteration in range(1, num_iterations + 1):
        run.iterate()
        if iteration % every == 0 or iteration == num_iterations:
            steps.append(iteration * run.steps_per_iteration)
            tests.append(success(run.agent, num_episodes))
    return steps, torch.stack(tests, dim=1)


def success(states: pqn.State, num_episodes: int) -> Tensor:
    """Return the share of layouts on which each lane's greedy policy arrives, `[S]`."""
    returns = evaluate(pqn, ENV, states, num_episodes=num_episodes, seed=TEST_SEED, backend="eager")
    # A goal pays 1 and each of at most 31 steps before it takes 0.01.
    return (returns > 0).to(torch.float32).mean(dim=1)


def steps_to(goal: float, steps: list[int], tests: Tensor) -> Tensor:
    """Return after how many steps each lane reached a success, `[S]`; inf where it never did."""
    reached = tests >= goal
    first = torch.tensor(steps, dtype=torch.float32, device="cpu")[reached.to(torch.int8).argmax(dim=1)]
    return torch.where(reached.any(dim=1), first, math.inf)


def main() -> None:
    """Learn to see, learn to act three times, and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=8, help="lanes")
    parser.add_argument("--steps", type=int, default=400_000, help="environment steps of each seed")
    parser.add_argument("--images", type=int, default=40_000, help="labelled images to learn to see from")
    parser.add_argument("--epochs", type=int, default=10, help="passes over them")
    parser.add_argument("--episodes", type=int, default=200, help="layouts of a test")
    parser.add_argument("--backend", default="inductor", help="eager starts at once and is slow")
    parser.add_argument("--out", default="transfer.png", help="picture to write")
    given = parser.parse_args()

    known = nets.pretrained(extractor(), learn_to_see(given.images, given.epochs, given.backend), prefix="0.")
    head = nets.mlp((128,), (128,), 4, activation="relu", normalization="layer")
    plain = pqn.Config(
        learning_rate=5e-4,
        anneal_steps=float(given.steps),
        gamma=0.93,
        td_lambda=0.9,
        epsilon=0.1,
        exploration_steps=0.25 * given.steps,
        num_envs=64,
        window_length=16,
        num_epochs=2,
        num_minibatches=8,
        network=nn.Sequential(known, head),
    )
    ways = {
        "frozen": tree.replace(plain, frozen=("0.*",)),
        "fine-tuned": plain,
        "from scratch": tree.replace(plain, network=nn.Sequential(extractor(), head)),
    }
    with picture(given.out, (7.5, 4.6)) as axes:
        for name, config in ways.items():
            steps, tests = learn_to_act(config, given.seeds, given.steps, given.episodes, given.backend)
            needed = steps_to(GOAL, steps, tests)
            low, high = ops.bootstrap_interval(random.key(0), tests, num_resamples=2000, statistic=ops.mean)
            print(
                f"{name}: success {float(tests[:, -1].mean()):.3f} [{float(low[-1]):.3f}, {float(high[-1]):.3f}]; "
                f"steps to {GOAL:.0%} of each seed: {', '.join(f'{x:,.0f}' for x in needed.tolist())}",
                flush=True,
            )
            (line,) = axes.plot(steps, tests.mean(dim=0), color=COLOURS[name], linewidth=1.8, label=name)
            axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.axhline(GOAL, color="0.4", linestyle="--", linewidth=1)
        axes.set_ylim(0.0, 1.0)
        axes.set_xlabel("environment steps of each seed")
        axes.set_ylabel(f"success on {given.episodes} unseen layouts")
        axes.set_title(f"GridNavigation, PQN, {given.seeds} seeds: mean and 95 % interval", loc="left")
        axes.legend(frameon=False)
        axes.grid(color="0.92")
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
