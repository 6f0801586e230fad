"""What stable-baselines3's DQN learns with the zoo's settings, over as many seeds as ours.

python benchmarks/peers_learning.py [ENV ...] [--seeds 16] [--processes 2] [--device cpu]

Needs the extra `peers`. A published figure of one run says little where seeds differ as much as here;
this is what to hold the rows `dqn/*-zoo` of `learning.py` against.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from learning import GREEDY, TRAINING, figures
from peers_dqn import THEIRS, their_agent

from funcrl.algos import presets

TARGET_PERIODS = {"CartPole-v1": 10, "MountainCar-v0": 600}
"""by environment, the steps between two copies of the target network"""
EPISODES = 20


def one(env: str, seed: int, device: str) -> dict[str, float]:
    """Train one seed and return what it earned at the end."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    chosen = presets.preset("dqn", "zoo", env)
    share = chosen.config.exploration_steps / chosen.num_steps
    arguments = {"seed": seed, "exploration_fraction": share}
    model = their_agent(chosen.config, env, TARGET_PERIODS[env], device, **arguments)
    model.learn(chosen.num_steps, log_interval=None)
    training = model.get_env().envs[0].get_episode_rewards()[-100:]
    worlds = make_vec_env(env, seed=EPISODES * seed)
    greedy, _ = evaluate_policy(model, worlds, EPISODES, deterministic=True)
    return {TRAINING: sum(training) / len(training), GREEDY: float(greedy)}


def measure(environments: Sequence[str], seeds: int, processes: int, device: str) -> dict[str, Any]:
    """Return the figures over seeds, each trained in a process of one thread, or what to install."""
    if importlib.util.find_spec(THEIRS) is None:
        return {"skipped": "stable-baselines3 is not installed: pip install 'funcrl[peers]'"}
    import stable_baselines3 as theirs

    def run(job: tuple[str, int]) -> dict[str, float]:
        env, seed = job
        command = [sys.executable, __file__, env, "--one", str(seed), "--device", device]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return json.loads(found.splitlines()[-1])  # type: ignore[no-any-return]

    results: dict[str, Any] = {"version": {THEIRS: theirs.__version__}, "seeds": seeds}
    for env in environments:
        with ThreadPoolExecutor(processes) as pool:
            every = list(pool.map(run, [(env, seed) for seed in range(seeds)]))
        results[f"dqn/{env}, zoo"] = {
            name: figures(torch.tensor([found[name] for found in every])) for name in (TRAINING, GREEDY)
        }
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("environments", nargs="*", default=list(TARGET_PERIODS))
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", type=int, default=None, help="seed to train in this process")
    given = parser.parse_args()
    if given.one is None:
        found = measure(given.environments, given.seeds, given.processes, given.device)
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        torch.set_num_threads(1)
        print(json.dumps(one(given.environments[0], given.one, given.device)))
