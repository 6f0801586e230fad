"""Cliff walking solved four ways: policy iteration, value iteration, Q-learning and SARSA.

python examples/cliff_walking.py [--seeds 100] [--steps 50000] [--out cliff_walking.png]

The planners know the environment's table; the learners walk. Q-learning learns what the best policy
is worth and walks along the edge when it stops exploring; SARSA learns what its own policy is worth,
which sometimes stumbles, and keeps away from the edge (Sutton & Barto 2018, example 6.6).
"""

from __future__ import annotations

import argparse
from collections import Counter

import torch
from torch import Tensor

from funcrl import envs, ops
from funcrl.algos import planning, q_learning, sarsa
from funcrl.core import random
from funcrl.io import draw_grid, picture
from funcrl.train import Result, solve, train

ENV = envs.make("CliffWalking-v1")
EDGE = 2
"""row of the grid along the cliff"""
Panel = tuple[str, Tensor, list[int]]
"""what it is, the value of every cell, and a path"""


def walk(actions: Tensor, limit: int = 100) -> list[int]:
    """Return the cells that a policy walks over from the start, given its action in each cell."""
    cell = int(ENV.initial_distribution().argmax())
    path = [cell]
    for _ in range(limit):
        outcomes = ENV.outcomes(torch.tensor(cell), actions[cell])
        cell = int(outcomes.position[0])
        path.append(cell)
        if bool(outcomes.terminated[0]):
            break
    return path


def planned(name: str) -> Panel:
    """Plan without a discount and return what was found."""
    solution = solve(name, ENV, config=planning.REGISTRY[name].Config(gamma=1.0))
    print(f"{name:<18} V(start) = {float(solution.start_values[0]):.6f}, sweeps: {int(solution.sweeps[0])}")
    return name, solution.values[0], walk(solution.policy[0].argmax(dim=-1))


def learnt(name: str, result: Result) -> Panel:
    """Report what the seeds learnt, and return the path that most of them take without exploring."""
    values: Tensor = result.states.values
    paths = Counter(tuple(walk(actions)) for actions in values.argmax(dim=-1))
    path, holders = paths.most_common(1)[0]
    on_edge = sum(count for walked, count in paths.items() if edge_cells(walked) > 2)
    online = result.final_returns()
    low, high = ops.bootstrap_interval(random.key(0), online)
    seeds = len(result.seeds)
    print(
        f"{name:<18} greedy return {reached(list(path))} in {holders} of {seeds} seeds, "
        f"along the edge in {on_edge} seeds; while exploring {float(ops.iqm(online)):.1f} "
        f"[{float(low):.1f}, {float(high):.1f}]"
    )
    return f"{name}: path of {holders} of {seeds} seeds", values.amax(dim=-1).mean(dim=0), list(path)


def reached(path: list[int]) -> str:
    """Return what a path earns, in words where it walks in circles."""
    return str(1 - len(path)) if "".join(ENV.map)[path[-1]] == "G" else "none, it walks in circles"


def edge_cells(path: tuple[int, ...]) -> int:
    """Return on how many cells beside the cliff a path goes; the way up and the way down are two."""
    return sum(cell // len(ENV.map[0]) == EDGE for cell in path)


def main() -> None:
    """Solve it four ways and draw the paths."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100, help="lanes of each learner")
    parser.add_argument("--steps", type=int, default=50_000, help="environment steps of each seed")
    parser.add_argument("--backend", default="inductor", help="eager starts at once and is slow")
    parser.add_argument("--out", default="cliff_walking.png", help="picture to write")
    given = parser.parse_args()

    lanes = {"seeds": range(given.seeds), "num_steps": given.steps, "backend": given.backend}
    panels = [planned("policy_iteration"), planned("value_iteration")]
    config = q_learning.Config(gamma=1.0)
    panels.append(learnt("q_learning", train(q_learning, ENV, config=config, **lanes)))
    # Falling to zero over the whole run, so that what is drawn is no accident of the last steps.
    config = sarsa.Config(gamma=1.0, anneal_steps=0.0)
    panels.append(learnt("sarsa", train(sarsa, ENV, config=config, **lanes)))

    with picture(given.out, (13.0, 5.6), rows=2, columns=2) as axes:
        for ax, (title, values, path) in zip(axes.flat, panels, strict=True):
            draw_grid(ax, ENV, values, path=path)
            ax.set_title(f"{title}, return {reached(path)}", loc="left", fontsize=10)
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
