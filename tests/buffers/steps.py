"""Made-up experience in which every number says where it comes from, and a plain list to compare with."""

import torch

from funcrl.core import Transition


def window(rows):
    """Stack a list (time) of lists (environments) of steps into a window `[T, N, ...]`."""
    column = lambda name, dtype: torch.tensor([[step[name] for step in row] for row in rows], dtype=dtype)
    obs = column("obs", torch.float32)
    return Transition(
        obs=torch.stack([obs, -obs], dim=-1),
        action=column("action", torch.int64),
        reward=column("reward", torch.float32),
        terminated=column("terminated", torch.bool),
        truncated=column("truncated", torch.bool),
        next_obs=torch.stack([obs + 0.5, -obs], dim=-1),
        extras={"log_prob": obs},
    )


def step(number, env, end=""):
    """One step, recognised by its observation."""
    name = 1 + 10 * number + env
    return {
        "obs": name,
        "action": name % 7,
        "reward": float((name * 37) % 11 - 5),
        "terminated": end == "terminated",
        "truncated": end == "truncated",
    }


def plain(num_steps, num_envs=1, first=0):
    """A list of rows in which nothing ends."""
    return [[step(first + t, env) for env in range(num_envs)] for t in range(num_steps)]


def n_step(rows, number, env, gamma, n):
    """The transition over n steps from a list of rows: G, discount and next observation in float64."""
    total, discount = 0.0, 1.0
    for k in range(n):
        now = rows[number + k][env]
        total += discount * now["reward"]
        discount *= gamma
        if now["terminated"]:
            return total, 0.0, now["obs"] + 0.5
        if now["truncated"]:
            break
    return total, discount, now["obs"] + 0.5


def where(obs):
    """The number and the environment of a step, from its observation."""
    return (int(obs) - 1) // 10, (int(obs) - 1) % 10
