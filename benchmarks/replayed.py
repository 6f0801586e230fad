"""Agents that learn from replayed experience, and rows to learn from, without a run around them."""

from __future__ import annotations

from typing import Any

import torch

from funcrl import envs
from funcrl.algos import REGISTRY
from funcrl.core import ReplayBatch, random, tree


def agents_and_rows(name: str, num_lanes: int, device: str) -> tuple[Any, ReplayBatch]:
    """Return the states of an off-policy actor-critic, `[S]`, 64 x 64 hidden, and `[S, 256]` rows of Pendulum or CartPole."""
    algorithm, numbered = REGISTRY[name], name == "discrete_sac"
    env = envs.make("CartPole-v1" if numbered else "Pendulum-v1")
    config = algorithm.Config(hidden=(64, 64))
    keys = torch.stack([random.key(seed, device) for seed in range(num_lanes)])
    agents = torch.vmap(lambda key: algorithm.init(key, config, env))(keys)
    k_obs, k_next, k_action = random.split(random.key(0, device), 3)
    rows, size = (num_lanes, config.batch_size), env.observation_space.shape
    batch = ReplayBatch(
        obs=random.normal(k_obs, (*rows, *size)),
        action=random.randint(k_action, rows, 0, 2)
        if numbered
        else random.uniform(k_action, (*rows, 1), -2.0, 2.0),
        reward=torch.ones(rows, device=device),
        discount=torch.full(rows, 0.99, device=device),
        next_obs=random.normal(k_next, (*rows, *size)),
        weight=torch.ones(rows, device=device),
    )
    return tree.map(lambda x: torch.clone(x, memory_format=torch.contiguous_format), agents), batch
