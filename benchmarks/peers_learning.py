"""What stable-baselines3 learns with the zoo's settings, over as many seeds as ours.

python benchmarks/peers_learning.py [ROW ...] [--seeds 16] [--processes 2] [--device cpu]

Needs the extra `peers`. A published figure of one run says little where seeds differ as much as here;
this is what to hold the rows `dqn/*-zoo` and `ppo/MountainCarContinuous` of `learning.py` against.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from learning import GREEDY, TRAINING, figures
from peers_dqn import THEIRS, their_agent

from funcrl.algos import presets

TARGET_PERIODS = {"CartPole-v1": 10, "MountainCar-v0": 600}
"""by environment, the steps between two copies of DQN's target network"""
EPISODES = 20


def dqn(env: str, seed: int, device: str) -> tuple[Any, Any]:
    """Return a DQN that has learnt, and environments to judge it in."""
    from stable_baselines3.common.env_util import make_vec_env

    chosen = presets.preset("dqn", "zoo", env)
    share = chosen.config.exploration_steps / chosen.num_steps
    arguments = {"seed": seed, "exploration_fraction": share}
    model = their_agent(chosen.config, env, TARGET_PERIODS[env], device, **arguments)
    model.learn(chosen.num_steps, log_interval=None)
    return model, make_vec_env(env, seed=EPISODES * seed)


def ppo(env: str, seed: int, device: str) -> tuple[Any, Any]:
    """Return a PPO that has learnt with gSDE and normalised observations and rewards, and environments to judge it in."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    chosen = presets.preset("ppo", "zoo", env)
    config = chosen.config
    worlds = VecNormalize(make_vec_env(env, config.num_envs, seed=seed), gamma=config.gamma)
    model = PPO(
        "MlpPolicy",
        worlds,
        learning_rate=config.learning_rate,
        n_steps=config.window_length,
        # The zoo says more rows than a window has: all of them.
        batch_size=config.num_envs * config.window_length // config.num_minibatches,
        n_epochs=config.num_epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.entropy_weight,
        vf_coef=config.value_weight,
        max_grad_norm=config.max_grad_norm,
        use_sde=config.action_noise == "smooth",
        policy_kwargs={"log_std_init": config.initial_log_std, "ortho_init": False},
        seed=seed,
        device=device,
    )
    model.learn(chosen.num_steps, log_interval=None)
    judged = VecNormalize(make_vec_env(env, seed=EPISODES * seed), training=False, norm_reward=False)
    judged.obs_rms = worlds.obs_rms
    return model, judged


ROWS: dict[str, tuple[Callable[[str, int, str], tuple[Any, Any]], str]] = {
    **{f"dqn/{env}": (dqn, env) for env in TARGET_PERIODS},
    "ppo/MountainCarContinuous-v0": (ppo, "MountainCarContinuous-v0"),
}


def one(row: str, seed: int, device: str) -> dict[str, float]:
    """Train one seed and return what it earned at the end."""
    from stable_baselines3.common.evaluation import evaluate_policy

    learn, env = ROWS[row]
    model, judged = learn(env, seed, device)
    training = model.get_env().envs[0].get_episode_rewards()[-100:]
    greedy, _ = evaluate_policy(model, judged, EPISODES, deterministic=True)
    return {TRAINING: sum(training) / len(training), GREEDY: float(greedy)}


def measure(rows: Sequence[str], seeds: int, processes: int, device: str) -> dict[str, Any]:
    """Return the figures over seeds, each trained in a process of one thread, or what to install."""
    if importlib.util.find_spec(THEIRS) is None:
        return {"skipped": "stable-baselines3 is not installed: pip install 'funcrl[peers]'"}
    import stable_baselines3 as theirs

    def run(job: tuple[str, int]) -> dict[str, float]:
        row, seed = job
        command = [sys.executable, __file__, row, "--one", str(seed), "--device", device]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return json.loads(found.splitlines()[-1])  # type: ignore[no-any-return]

    results: dict[str, Any] = {"version": {THEIRS: theirs.__version__}, "seeds": seeds}
    for row in rows:
        with ThreadPoolExecutor(processes) as pool:
            every = list(pool.map(run, [(row, seed) for seed in range(seeds)]))
        results[f"{row}, zoo"] = {
            name: figures(torch.tensor([found[name] for found in every])) for name in (TRAINING, GREEDY)
        }
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rows", nargs="*", default=list(ROWS), help=f"some of {', '.join(ROWS)}")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", type=int, default=None, help="seed to train in this process")
    given = parser.parse_args()
    if given.one is None:
        found = measure(given.rows, given.seeds, given.processes, given.device)
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        torch.set_num_threads(1)
        print(json.dumps(one(given.rows[0], given.one, given.device)))
