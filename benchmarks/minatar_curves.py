"""The games of MinAtar in one figure, from the folders of their runs, and their rows beside the published figures.

    for game in Asterix Breakout Freeway Seaquest SpaceInvaders; do
        funcrl train ppo $game-MinAtar --preset purejaxrl --seeds 4 --steps 5M --out runs/minatar/$game
    done
    python benchmarks/minatar_curves.py runs/minatar/* --picture docs/learning/ppo_minatar.png --out minatar.json

A run that was stopped goes on with `funcrl resume`; hours on a CPU for all of them. The agents of each seed play
`--episodes` greedy episodes at the end. The rows are those of `learning.py`, by algorithm, game and number of steps.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from learning import DQN_OF_THE_PAPER, GREEDY, ROWS, TRAINING, figures

from funcrl import ops
from funcrl.io import SavedRun, open_run, picture
from funcrl.io.files import json_text
from funcrl.io.plots import binned, draw_statistic
from funcrl.train import evaluate

PER_ROW = 3
"""panels side by side"""


def row(run: SavedRun, episodes: int) -> dict[str, Any]:
    """Return what a run reached, as `learning.py` has it."""
    algorithm, game = run.settings["algorithm"], run.settings["environment"]
    last = int(run.steps[-1])
    alike = {name: told for name, told in ROWS.items() if (told.algorithm, told.env) == (algorithm, game)}
    found = next((name for name, told in alike.items() if abs(told.settings[1] - last) < last / 50), None)
    if found is None:
        raise SystemExit(
            f"{run.folder}: {last:,} steps are those of no row of learning.py. There are {', '.join(alike)}."
        )
    greedy = evaluate(algorithm, run.env, run.agents, num_episodes=episodes).mean(dim=1).cpu()
    config = {field.name: getattr(run.config, field.name) for field in dataclasses.fields(run.config)}
    return {
        "row": found,
        "placement": "device",
        "config": json.loads(json_text(config)),
        "seeds": list(run.seeds),
        "steps": last,
        "statistic": ROWS[found].statistic,
        "target": ROWS[found].target,
        TRAINING: figures(run.final_returns()),
        GREEDY: figures(greedy) | {"episodes": episodes},
    }


def draw(runs: list[SavedRun], path: Path) -> None:
    """Draw a panel for each run: every seed, their interquartile mean and its interval, and what DQN has in the games' paper."""
    rows = -(-len(runs) // PER_ROW)
    with picture(path, (4.2 * PER_ROW, 3.2 * rows), rows, PER_ROW) as places:
        for axes in places.flat[len(runs) :]:
            axes.set_visible(False)
        for axes, run in zip(places.flat, runs, strict=False):
            steps, lanes = binned(run.steps, run.returns)
            axes.plot(steps / 1e6, lanes.T, color="C0", alpha=0.25, linewidth=0.8)
            draw_statistic(axes, steps / 1e6, lanes, ops.iqm, "interquartile mean", "C0")
            game = run.settings["environment"]
            dqn = DQN_OF_THE_PAPER[game.removesuffix("-MinAtar")]
            axes.axhline(
                dqn, color="0.4", linestyle="--", linewidth=1.2, label="DQN after 5M, Young & Tian 2019"
            )
            axes.set_ylim(0.0, 1.2 * max(dqn, float(lanes.nan_to_num().max())))  # with room for the legend
            axes.legend(frameon=False, fontsize=8, loc="upper left")
            title = f"{run.settings['algorithm']} on {game}, {len(run.seeds)} seeds"
            axes.set_title(title, loc="left", fontsize=10)
            axes.set_xlabel("million environment steps")


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="of runs on games of MinAtar")
    parser.add_argument("--picture", type=Path, help="picture to write")
    parser.add_argument("--episodes", type=int, default=20, help="greedy ones of each seed")
    parser.add_argument("--out", type=Path, help="write the rows there as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    runs = [open_run(folder) for folder in given.folders]
    if given.picture:
        draw(runs, given.picture)
    rows = [row(run, given.episodes) for run in runs]
    for one in rows:
        print(one["row"], one["steps"], one[TRAINING], one[GREEDY])
    if given.out:
        given.out.write_text(json_text(rows))


if __name__ == "__main__":
    main()
