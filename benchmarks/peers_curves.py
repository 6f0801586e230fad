"""SAC's learning curve beside stable-baselines3's, on the same machine, for as many steps and with the same settings.

    python benchmarks/peers_curves.py --parts runs/cheetah                      # HalfCheetah-v5, 100,000 steps, 4 seeds
    python benchmarks/peers_curves.py --parts runs/1m --steps 1_000_000         # the length of the published rows

Needs the extras `peers` and `mujoco`. Our seeds are the lanes of one process; each of theirs is a process.
All have one thread; `--processes` of them run side by side. Each writes its part into the folder as soon as it is
done, and parts that are there are not computed again, so that a long comparison can be stopped and gone on with.
The rates in the parts are those of a machine that may have had other things to do: `peers.py sac` measures them in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from learning import figures
from turns import ONE_THREAD

from funcrl.algos import presets
from funcrl.io import comparing
from funcrl.io.files import write_atomically
from funcrl.train import evaluate, train

ENV = "HalfCheetah-v5"
EPISODES = 10
"""in which the policy of the end acts greedily, a seed"""
LABELS = {"stable_baselines3": "stable-baselines3", "funcrl": "funcrl"}


def ours(env: str, steps: int, seeds: list[int], device: str) -> dict[str, Any]:
    """Train all seeds at once and return what they earned."""
    config = presets.preset("sac", "zoo", env).config
    config = replace(config, buffer_size=min(config.buffer_size, steps))
    result = train("sac", env, config=config, seeds=seeds, num_steps=steps, device=device, processes=1)
    ended = ~result.returns.isnan()
    greedy = evaluate("sac", env, result.states, num_episodes=EPISODES).mean(dim=1)
    return {
        "seeds": seeds,
        "curves": [
            {"steps": result.steps[there].tolist(), "returns": returns[there].tolist()}
            for returns, there in zip(result.returns.cpu(), ended.cpu(), strict=True)
        ],
        "greedy": greedy.tolist(),
        "seconds": result.run_seconds,
        "environment_seconds": result.environment_seconds,
        "compile_seconds": result.compile_seconds,
    }


def theirs(env: str, steps: int, seed: int, device: str) -> dict[str, Any]:
    """Train one seed with stable-baselines3 and return what it earned."""
    from stable_baselines3 import SAC
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    config = presets.preset("sac", "zoo", env).config
    worlds = make_vec_env(env, seed=seed)
    model: Any = SAC(
        "MlpPolicy",
        worlds,
        learning_rate=config.learning_rate,
        learning_starts=config.warmup_steps,
        buffer_size=min(config.buffer_size, steps),
        batch_size=config.batch_size,
        gamma=config.gamma,
        tau=config.tau,
        policy_kwargs={"net_arch": list(config.hidden)},
        seed=seed,
        device=device,
    )
    start = time.perf_counter()
    model.learn(steps, log_interval=None)
    seconds = time.perf_counter() - start
    monitor: Any = worlds.envs[0]  # type: ignore[attr-defined]
    ends = torch.tensor(monitor.get_episode_lengths()).cumsum(0)
    greedy, _ = evaluate_policy(model, make_vec_env(env, seed=1_000 + seed), EPISODES, deterministic=True)
    return {
        "seeds": [seed],
        "curves": [{"steps": ends.tolist(), "returns": monitor.get_episode_rewards()}],
        "greedy": [float(greedy)],
        "seconds": seconds,
    }


def jobs(folder: Path, seeds: int, their_seeds: int) -> dict[Path, tuple[str, list[int]]]:
    """Return which system trains which seeds, by the file of its part."""
    parts: dict[Path, tuple[str, list[int]]] = {folder / "funcrl.json": ("funcrl", list(range(seeds)))}
    return parts | {
        folder / f"stable_baselines3_{seed}.json": ("stable_baselines3", [seed])
        for seed in range(their_seeds)
    }


def run(given: argparse.Namespace) -> None:
    """Compute the parts that are not there yet, each in a process of one thread."""

    def one(job: tuple[Path, tuple[str, list[int]]]) -> None:
        path, (system, seeds) = job
        options = ["--env", given.env, "--steps", str(given.steps), "--device", given.device]
        command = [sys.executable, __file__, "--parts", str(given.parts), *options]
        command += ["--one", system, "--of", *map(str, seeds)]
        found = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD
        ).stdout
        part = json.loads(found.splitlines()[-1]) | asked(given)
        write_atomically(path, json.dumps(part).encode())
        print(f"{path.name}: done", flush=True)

    given.parts.mkdir(parents=True, exist_ok=True)
    for path in jobs(given.parts, given.seeds, given.their_seeds):
        if path.exists():
            read(path, given)
    missing = [
        job for job in jobs(given.parts, given.seeds, given.their_seeds).items() if not job[0].exists()
    ]
    with ThreadPoolExecutor(given.processes) as pool:
        list(pool.map(one, missing))


def asked(given: argparse.Namespace) -> dict[str, Any]:
    """Return what parts of one comparison have in common."""
    return {"env": given.env, "steps": given.steps}


def read(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Return a part that is there, if it is whole and one of this comparison."""
    try:
        part: dict[str, Any] = json.loads(path.read_text())
        found = {name: part[name] for name in asked(given)}
        seeds = part["seeds"]
    except (ValueError, KeyError, TypeError):
        raise SystemExit(f"peers_curves: {path} is damaged. Remove it, to compute it once more.") from None
    wanted = jobs(given.parts, given.seeds, given.their_seeds)[path][1]
    if found != asked(given) or seeds != wanted:
        raise SystemExit(
            f"peers_curves: {path} is of {found}, seeds {seeds}. Give another folder as --parts."
        )
    return part


def gathered(given: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of both systems, and draw their curves."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in LABELS}
    for path, (system, _) in jobs(given.parts, given.seeds, given.their_seeds).items():
        found[system].append(read(path, given))
    contestants, results = [], asked(given)
    for system, parts in found.items():
        curves = [curve for part in parts for curve in part["curves"]]
        steps, returns = aligned(curves)
        finals = torch.stack([row[row.isfinite()][-10:].mean() for row in returns])
        contestants.append(comparing.Contestant(LABELS[system], steps, returns, finals))
        results[system] = {
            "mean return of the last 10 training episodes": figures(finals),
            f"mean return of {EPISODES} greedy episodes": figures(
                torch.tensor([value for part in parts for value in part["greedy"]])
            ),
            "seconds": [round(part["seconds"]) for part in parts],
        }
    if given.picture:
        title, reached = f"SAC on {given.env}", "mean return of the last 10 training episodes"
        comparing.comparison(contestants, given.picture, title, reached)
    print(comparing.table(contestants))
    return results


def aligned(curves: list[dict[str, list[float]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `[I]` steps at which any episode ended and `[S, I]` returns, NaN where none of that seed did."""
    steps = torch.tensor(sorted({step for curve in curves for step in curve["steps"]}))
    returns = torch.full((len(curves), len(steps)), torch.nan)
    for row, curve in zip(returns, curves, strict=True):
        row[torch.searchsorted(steps, torch.tensor(curve["steps"]))] = torch.tensor(curve["returns"])
    return steps, returns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", type=Path, required=True, help="folder of what is computed already")
    parser.add_argument("--env", default=ENV)
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps of a seed")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument(
        "--their-seeds", type=int, default=4, help="each of which takes as long as all of ours"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=None, help="file to write the figures to")
    parser.add_argument("--picture", type=Path, default=None, help="file to draw the curves into")
    parser.add_argument("--one", choices=list(LABELS), default=None, help="system to train in this process")
    parser.add_argument("--of", type=int, nargs="+", default=[0], help="its seeds")
    given = parser.parse_args()
    for name in ("steps", "seeds", "their_seeds", "processes"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(given, name)}")
    if given.one is not None:
        torch.set_num_threads(1)
        if given.one == "funcrl":
            print(json.dumps(ours(given.env, given.steps, given.of, given.device)))
        else:
            print(json.dumps(theirs(given.env, given.steps, given.of[0], given.device)))
    else:
        run(given)
        figures_of_both = json.dumps(gathered(given), indent=1, ensure_ascii=False)
        print(figures_of_both)
        if given.out:
            given.out.write_text(figures_of_both + "\n")
