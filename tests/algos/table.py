"""The table of algorithms. A new one inherits every test of `test_contracts` by one line here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch

from funcrl import envs
from funcrl.algos import ppo
from funcrl.core import Transition, random, tree
from funcrl.train.collect import act_and_step


@dataclass(frozen=True)
class Case:
    name: str
    algorithm: ModuleType
    config: Any
    env: Any
    other_integers: dict[str, int]
    """other values of integer settings that change the update or the shape of its batch"""

    def init(self, seed: int = 0, config: Any = None) -> Any:
        return self.algorithm.init(random.key(seed), self.config if config is None else config, self.env)

    def __hash__(self) -> int:
        return hash((self.name, self.config))

    @cache  # noqa: B019
    def window(self, seed: int = 0) -> Transition:
        """A short window of the untrained agent, [T, N, ...]."""
        state = self.init(seed)
        k_reset, *keys = random.split(random.key(100 + seed), 1 + self.config.window_length)
        running = envs.reset_all(self.env, random.split(k_reset, self.config.num_envs))
        rows = []
        for key in keys:
            running, row = act_and_step(self.algorithm.act, self.env, state, running, key)
            rows.append(row.transition)
        return tree.stack(rows)

    def batch(self, seed: int = 0) -> Any:
        return self.algorithm.prepare(self.init(seed), self.window(seed))


ON_POLICY = [
    Case(
        "ppo",
        ppo,
        ppo.Config(num_envs=3, window_length=8, num_minibatches=2, hidden=(8,), anneal_steps=4800.0),
        envs.make("CartPole-v1"),
        {"num_epochs": 3, "num_minibatches": 4, "window_length": 12, "num_envs": 4},
    ),
]


def lanes(case: Case, num: int = 3) -> tuple[Any, Any]:
    """States and batches of several seeds, lane axis first."""
    states = tree.stack([case.init(seed) for seed in range(num)])
    batches = tree.stack([case.batch(seed) for seed in range(num)])
    return tree.map(torch.clone, states), batches
