"""`funcrl evaluate`."""

from __future__ import annotations

import dataclasses
import os

from funcrl import ops
from funcrl.cli.arguments import parse_folder
from funcrl.cli.progress import say
from funcrl.core import random
from funcrl.core.checks import require
from funcrl.io import open_run
from funcrl.io.files import write_atomically
from funcrl.train import evaluate
from funcrl.train.episodes import needs_env_states


@dataclasses.dataclass
class Options:
    """What `funcrl evaluate` takes beside the folder."""

    episodes: int = 100
    """episodes of each seed's agent, the same ones for all"""
    stochastic: bool = False
    """draw actions from the policy, instead of the best one"""
    seed: int = 0
    """of the episodes"""
    max_steps: int | None = None
    """where to give up on episodes that do not end; the environment's own limit by default"""


def evaluate_command(words: list[str]) -> int:
    """Let the final agents of a run play, and print what they earn.

    Args:
        words: What stands after `funcrl evaluate`.

    Returns:
        Exit status.
    """
    folder, options = parse_folder(
        "evaluate",
        "Let the final agents of a run play, and leave evaluation.csv (seed,episode,return) in its folder.",
        Options(),
        words,
    )
    run = open_run(folder)
    folder = run.folder
    label = f"{run.settings['algorithm']} {run.settings['environment']}"
    how = "drawing from the policy" if options.stochastic else "greedy"
    agents = run.agents
    needed = run.env.max_episode_steps is None and options.max_steps is None
    hold = "be given for an environment without a time limit"
    require(not needed, "evaluate", "--max-steps", hold, None, "Write --max-steps 1000, or 1 for a bandit.")
    require(os.access(folder, os.W_OK), "evaluate", "DIR", "be writable", str(folder))
    say(f"{label}: compiling, then {options.episodes} episodes of each of {len(run.kept_seeds)} seeds, {how}")
    returns = evaluate(
        run.algorithm,
        run.env,
        agents,
        num_episodes=options.episodes,
        seed=options.seed,
        max_steps=options.max_steps,
        greedy=not options.stochastic,
        env_states=run.env_states if needs_env_states(run.env) else None,
    ).cpu()
    lines = ["seed,episode,return"]
    for seed, row in zip(run.kept_seeds, returns.tolist(), strict=True):
        lines += [f"{seed},{episode},{earned:.9g}" for episode, earned in enumerate(row)]
    write_atomically(folder / "evaluation.csv", ("\n".join(lines) + "\n").encode())
    means = returns.mean(dim=1)
    finite = means[means.isfinite()]
    require(len(finite) > 0, "evaluate", "returns", "be finite for at least one seed", "none")
    low, high = ops.bootstrap_interval(random.key(0, "cpu"), finite)
    best, worst = int(means.nan_to_num(-float("inf")).argmax()), int(means.nan_to_num(float("inf")).argmin())
    print(
        f"{label}: {len(means)} seeds × {options.episodes} episodes, {how}, mean return of each seed\n\n"
        f"  interquartile mean {float(ops.iqm(finite)):>10.2f}   95 % interval [{float(low):.2f}, {float(high):.2f}]\n"
        f"  best               {float(means[best]):>10.2f}   seed {run.kept_seeds[best]}\n"
        f"  worst              {float(means[worst]):>10.2f}   seed {run.kept_seeds[worst]}\n\n"
        f"  wrote {folder / 'evaluation.csv'}"
    )
    return 0
