"""What searching finds against random settings in as many steps, over repetitions.

    python benchmarks/searching.py                # both tasks, 10 repetitions
    python benchmarks/searching.py cartpole --repetitions 3

`quadratic` is -Σ (h - best)² over four settings with noise, whose best values are known: 96 trials for Optuna's Gaussian processes (or another --sampler) in batches
of 16 and for random settings; a population of 16 lanes that go a tenth of the way to their settings in a step, against as many
lanes that keep theirs. What counts is the true value of what a search would hand out: the setting of its highest noisy score.

`cartpole` is PPO's learning rate and entropy weight on CartPole-v1, anywhere in seven and six decades: a population of 16 lanes for
60k steps each, the sampler with 5 batches of 8 trials of 30k steps each, and random settings in as many steps as either. Of a population counts
what its best lane earns in 100 greedy episodes at the end, of settings what 8 new seeds reach with them in 30k steps.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence

import optuna
import torch

from funcrl import envs, ops
from funcrl.algos import ppo
from funcrl.core import random, tree
from funcrl.io import studies
from funcrl.io.populations import best_lane
from funcrl.train import evaluate, train
from funcrl.train.population import Range, draw, exploit, explore
from funcrl.train.search import make_task, train_population

BEST = (0.7, 1.2, 0.4, 1.6)
NOISE = 0.05
QUADRATIC = {name: Range(0.0, 2.0) for name in "abcd"}
CARTPOLE = {"learning_rate": Range(1e-7, 1.0, log=True), "entropy_weight": Range(1e-5, 10.0, log=True)}


def interval(label: str, gained: Sequence[float]) -> None:
    """Print the mean advantage over repetitions with its interval."""
    x = torch.tensor(gained)
    low, high = ops.bootstrap_interval(random.key(0), x, statistic=ops.mean)
    print(
        f"  {label:<44}{float(x.mean()):9.3f}   95 % interval [{float(low):.3f}, {float(high):.3f}]",
        flush=True,
    )


def quadratic(repetitions: int, sampler: str) -> None:
    """Search for known best values."""
    best = torch.tensor(BEST)
    gained: list[float] = []
    missed: dict[str, list[float]] = {sampler: [], "random": []}
    for repetition in range(repetitions):
        for name, found in missed.items():
            study = studies.open_study("sqlite:///:memory:", "x", name, "none", 100 + repetition)
            for batch in range(6):
                noise = NOISE * random.normal(random.fold_in(random.key(repetition), batch), (16,))
                for place, trial in enumerate(studies.ask(study, studies.Asked(QUADRATIC, {}, (0,), 16), 16)):
                    h = torch.tensor([trial.params[n] for n in QUADRATIC])
                    study.tell(trial, float(noise[place] - ((h - best) ** 2).sum()))
            h = torch.tensor([study.best_trial.params[n] for n in QUADRATIC])
            found.append(float(-((h - best) ** 2).sum()))
        gained.append(
            population(random.key(repetition), moves=True) - population(random.key(repetition), moves=False)
        )
    print(f"quadratic, {repetitions} repetitions: how much better than random settings in as many steps")
    interval("population", gained)
    interval(sampler, [a - b for a, b in zip(missed[sampler], missed["random"], strict=True)])


def population(key: torch.Tensor, moves: bool) -> float:
    """Return the true score of the lane that seems best after 30 generations."""
    values, x = draw(random.fold_in(key, 0), QUADRATIC, 16), torch.zeros(4, 16)
    for generation in range(1, 31):
        for _ in range(10):
            x = x + 0.1 * (torch.stack(list(values.values())) - x)
        k_noise, k_exploit, k_explore = random.split(random.fold_in(key, generation), 3)
        true = -((x - torch.tensor(BEST)[:, None]) ** 2).sum(0)
        scores = true + NOISE * random.normal(k_noise, (16,))
        if moves and generation < 30:
            parents = exploit(k_exploit, scores)
            values, x = explore(k_explore, values, QUADRATIC, parents), x[:, parents]
    return float(true[scores.argmax()])


def cartpole(repetitions: int, evolved_steps: int, trial_steps: int, sampler: str, evolves: bool) -> None:
    """Search for PPO's learning rate and entropy weight."""
    env = envs.make("CartPole-v1")
    config = ppo.Config(anneal_steps=float("inf"))
    gains, gains_found = [], []

    def played(states: object) -> float:
        return float(evaluate("ppo", env, states, num_episodes=100, backend="aot_eager").mean())

    def trained(values: dict[str, float]) -> float:
        settings = tree.replace(config, **values)
        result = train(
            "ppo", env, config=settings, seeds=range(5000, 5008), num_steps=trial_steps, processes=1
        )
        return float(ops.mean(result.final_returns()))

    def studied(sampler: str, repetition: int, batches: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            study = studies.open_study(f"sqlite:///{folder}/study.db", "x", sampler, "none", 100 + repetition)
            asked = studies.Asked(CARTPOLE, {}, (1000 + repetition,), 8)
            task = make_task("search", "ppo", env, CARTPOLE, config, trial_steps)
            batch = studies.Batches(study, lambda chosen: task, asked)
            for _ in range(batches):
                batch.train(studies.ask(study, asked, 8))
            batch.close()
            return {name: float(study.best_trial.params[name]) for name in CARTPOLE}

    for repetition in range(repetitions):
        given = {"config": config, "population": 16, "num_steps": evolved_steps, "seed": repetition}
        reached = []
        for generations in (12, 1) if evolves else ():  # one generation is random settings: nothing moves
            found = train_population("ppo", env, CARTPOLE, **given, num_generations=generations)
            lane = best_lane(found)
            reached.append(played(tree.index(found.carry.agent, slice(lane, lane + 1))))
        reached = reached or [0.0, 0.0]
        gains.append(reached[0] - reached[1])
        by_sampler, by_chance = (trained(studied(one, repetition, 5)) for one in (sampler, "random"))
        gains_found.append(by_sampler - by_chance)
        print(
            f"  {repetition}: population {reached[0]:.1f}, random {reached[1]:.1f}; {sampler} {by_sampler:.1f}, random {by_chance:.1f}",
            flush=True,
        )
    print(f"cartpole, {repetitions} repetitions: how much better than random settings in as many steps")
    interval(f"population of 16, {evolved_steps} steps, greedy return", gains)
    interval(f"{sampler}, 5 batches of 8 × {trial_steps} steps, 8 new seeds", gains_found)


def main() -> None:
    """Run the tasks that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", default=["quadratic", "cartpole"])
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--trial-steps", type=int, default=30_000)
    parser.add_argument("--sampler", default="gp", choices=studies.SAMPLERS)
    parser.add_argument("--settings", action="store_true", help="cartpole without populations")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    if "quadratic" in options.tasks:
        quadratic(options.repetitions, options.sampler)
    if "cartpole" in options.tasks:
        cartpole(
            options.repetitions, options.steps, options.trial_steps, options.sampler, not options.settings
        )


if __name__ == "__main__":
    main()
