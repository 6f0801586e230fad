"""DQN on CartPole as stable-baselines3 and as funcrl run it; see `peers.py`.

Same settings, once RL Baselines3 Zoo's and once CleanRL's, same network, same number of gradient steps
for each environment step, every timed step past warm-up.
"""

from __future__ import annotations

from typing import Any

from turns import Contestant

from funcrl.algos import dqn, presets
from funcrl.core import tree

SETTINGS = ("zoo", "cleanrl")
TARGET_PERIODS = {"zoo": 10, "cleanrl": 500}
"""environment steps between two copies of the target network, as the references count them"""
WARMUP = 1_000
"""environment steps before the first update; all that is timed comes later"""
STEPS_AT_ONCE = 250
"""of each lane, about"""
THEIRS = "stable_baselines3"


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


def stable_baselines3(name: str, lanes: int, device: str) -> Contestant:
    """Return stable-baselines3's DQN, past its warm-up."""
    assert lanes == 1
    config = settings(name)
    model = their_agent(config, "CartPole-v1", TARGET_PERIODS[name], device, seed=0)
    chunk = windows_at_once(config) * config.window_length

    def advance() -> int:
        before = model.num_timesteps
        model.learn(chunk, reset_num_timesteps=False, log_interval=None)
        return int(model.num_timesteps - before)

    while model.num_timesteps < WARMUP + chunk:
        advance()
    return Contestant(1, advance)


def funcrl(name: str, lanes: int, device: str) -> Contestant:
    """Return funcrl's DQN, compiled and past its warm-up."""
    import torch

    from funcrl import envs
    from funcrl.train import Run

    config, wait = settings(name), torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    cycles = windows_at_once(config)
    run = Run(dqn, envs.make("CartPole-v1"), config, range(lanes), device, num_cycles=cycles)

    def advance() -> int:
        run.iterate()
        wait()
        return lanes * run.steps_per_iteration

    taken = 0
    while taken < lanes * (WARMUP + run.steps_per_iteration):
        taken += advance()
    assert int(run.agent.step.min()) >= config.updates_per_window * cycles
    return Contestant(lanes, advance)


def make(system: str, lanes: str, device: str, name: str) -> Contestant:
    """Return a system at work on so many lanes, with one reference's settings."""
    return {"funcrl": funcrl, THEIRS: stable_baselines3}[system](name, int(lanes), device)
