"""DQN on CartPole beside stable-baselines3: steps per second with learning, in one run on one machine.

python benchmarks/peers.py [--repeats 5] [--seconds 3] [--threads 1] [--device cpu]

Needs the extra `peers`. Same settings, same network, same number of gradient steps for each
environment step, every timed step past warm-up; one seed there against 1, 16 and 64 lanes here. The
turns are interleaved, so that whatever else the machine does falls on all alike. Compile time is apart.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from funcrl import envs
from funcrl.algos import dqn, presets
from funcrl.core import tree
from funcrl.train import OffPolicyRun

LANES = (1, 16, 64)
SETTINGS = ("zoo", "cleanrl")
TARGET_PERIODS = {"zoo": 10, "cleanrl": 500}
"""environment steps between two copies of the target network, as the references count them"""
WARMUP = 1_000
"""environment steps before the first update; all that is timed comes later"""
STEPS_AT_ONCE = 250
"""of each lane, about"""
THEIRS = "stable_baselines3"

Advance = Callable[[], int]
"""Takes some steps, learning included, and says how many they were, all lanes together."""


def settings(name: str) -> dqn.Config:
    """Return a reference's settings for CartPole, with what both implementations can do alike.

    The Huber loss and the clipped gradient are what stable-baselines3 always has. ε stays at its final
    value: a random action there spares it the network, which is not what most of a run looks like.
    """
    config = presets.preset("dqn", name, "CartPole-v1").config
    return tree.replace(
        config,
        huber_threshold=1.0,
        max_grad_norm=10.0,
        initial_epsilon=config.epsilon,
        warmup_steps=WARMUP,
    )


def windows_at_once(config: dqn.Config) -> int:
    """Return how many windows are taken in one go: so many that starting them costs nothing much."""
    return max(1, STEPS_AT_ONCE // int(config.window_length))


def their_agent(config: dqn.Config, env: str, target_period: int, device: str, **arguments: Any) -> Any:
    """Return stable-baselines3's DQN with our settings.

    Args:
        config: The settings.
        env: Name of an environment of Gymnasium's.
        target_period: Environment steps between two copies of the target network.
        device: Where its network lives.
        **arguments: What our settings do not say, or say otherwise.
    """
    import gymnasium
    from stable_baselines3 import DQN

    arguments = {
        "learning_rate": config.learning_rate,
        "buffer_size": config.buffer_size,
        "learning_starts": config.warmup_steps,
        "batch_size": config.batch_size,
        "tau": config.tau,
        "gamma": config.gamma,
        "train_freq": config.window_length,
        "gradient_steps": config.updates_per_window,
        "target_update_interval": target_period,
        "exploration_initial_eps": config.initial_epsilon,
        "exploration_final_eps": config.epsilon,
        "max_grad_norm": config.max_grad_norm,
        "policy_kwargs": {"net_arch": list(config.hidden)},
        "device": device,
    } | arguments
    return DQN("MlpPolicy", gymnasium.make(env), **arguments)


def stable_baselines3(config: dqn.Config, target_period: int, device: str) -> Advance:
    """Return stable-baselines3's DQN, past its warm-up."""
    model = their_agent(config, "CartPole-v1", target_period, device, seed=0)
    chunk = windows_at_once(config) * config.window_length

    def advance() -> int:
        before = model.num_timesteps
        model.learn(chunk, reset_num_timesteps=False, log_interval=None)
        return int(model.num_timesteps - before)

    while model.num_timesteps < WARMUP + chunk:
        advance()
    return advance


def funcrl(config: dqn.Config, lanes: int, device: str) -> tuple[Advance, float]:
    """Return funcrl's DQN, compiled and past its warm-up; and the seconds that this took."""
    began = time.perf_counter()
    cycles = windows_at_once(config)
    run = OffPolicyRun(dqn, envs.make("CartPole-v1"), config, range(lanes), device, num_cycles=cycles)

    def advance() -> int:
        run.iterate()
        return lanes * run.steps_per_iteration

    taken = 0
    while taken < lanes * (WARMUP + run.steps_per_iteration):
        taken += advance()
    assert int(run.agent.step.min()) >= config.updates_per_window * cycles
    return advance, time.perf_counter() - began


def rate(advance: Advance, seconds: float, device: str) -> float:
    """Return steps per second over at least so many seconds."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        steps += advance()
        wait()
    return steps / (time.perf_counter() - began)


def compare(name: str, repeats: int, seconds: float, device: str) -> dict[str, Any]:
    """Return the rates under one reference's settings."""
    config = settings(name)
    contestants = {THEIRS: stable_baselines3(config, TARGET_PERIODS[name], device)}
    preparing = {}
    for lanes in LANES:
        label = f"funcrl, {lanes} lane{'s' if lanes > 1 else ''}"
        contestants[label], preparing[label] = funcrl(config, lanes, device)
    rates: dict[str, list[float]] = {label: [] for label in contestants}
    for _ in range(repeats):
        for label, advance in contestants.items():
            rates[label].append(rate(advance, seconds, device))
    medians = {label: statistics.median(found) for label, found in rates.items()}
    return {
        label: {
            "steps_per_second": round(medians[label]),
            "range": [round(min(found)), round(max(found))],
            "times_theirs": round(medians[label] / medians[THEIRS], 2),
            **({"compile_and_warmup_seconds": round(preparing[label], 1)} if label in preparing else {}),
        }
        for label, found in rates.items()
    }


def measure(repeats: int, seconds: float, device: str) -> dict[str, Any]:
    """Return all figures, or what to install."""
    if importlib.util.find_spec(THEIRS) is None:
        return {"skipped": "stable-baselines3 is not installed: pip install 'funcrl[peers]'"}
    import stable_baselines3 as theirs

    return {
        "version": {THEIRS: theirs.__version__},
        "threads_of_each": torch.get_num_threads(),
        **{name: compare(name, repeats, seconds, device) for name in SETTINGS},
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table, a row for each contestant."""
    if "skipped" in figures:
        return f"peers: {figures['skipped']}"
    lines = [
        f"DQN on CartPole-v1, {figures['threads_of_each']} thread(s) each, {figures['version']}",
        "| settings | who | steps/s, all lanes | lowest to highest | times theirs |",
        "|---|---|---|---|---|",
    ]
    for name in SETTINGS:
        for label, row in figures[name].items():
            low, high = row["range"]
            lines.append(
                f"| {name} | {label} | {row['steps_per_second']:,} | {low:,} to {high:,} | {row['times_theirs']} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn of each contestant")
    parser.add_argument("--threads", type=int, default=None, help="of both; all cores by default")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    print(table(measure(given.repeats, given.seconds, given.device)))
