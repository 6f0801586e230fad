"""The table of algorithms. A new one inherits every test of `test_contracts` by one line here.

There are three kinds of algorithms, by what they learn from: windows of experience (`prepare`
makes batches of them), single steps, and a model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import torch

from funcrl import envs
from funcrl.algos import REGISTRY, ppo
from funcrl.core import Transition, random, tree
from funcrl.train.collect import act_and_step
from funcrl.train.online import act_and_learn
from funcrl.train.run import num_envs


@dataclass(frozen=True, eq=False)
class Case:
    name: str
    config: Any
    env: Any
    other_integers: dict[str, int] = field(default_factory=dict)
    """other values of integer settings that change the update or the shape of its batch"""
    draws: bool = True
    """whether the agent's first state depends on its key"""

    @property
    def algorithm(self) -> ModuleType:
        return REGISTRY[self.name]

    def with_config(self, config: Any) -> Case:
        return type(self)(self.name, config, self.env, self.other_integers, self.draws)

    def init(self, seed: int = 0, config: Any = None) -> Any:
        return self.algorithm.init(random.key(seed), self.config if config is None else config, self.env)

    def observations(self, count: int) -> Any:
        """What agents may see in `count` first steps, `[count, ...]`."""
        return envs.reset_all(self.env, random.split(random.key(7), count)).obs


class OnPolicy(Case):
    """Learns from windows."""

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


class Online(Case):
    """Learns from each step as it comes."""

    @cache  # noqa: B019
    def batch(self, seed: int = 0) -> Transition:
        """What the untrained agent sees and does first: `[]`, or `[N]` where it has several environments."""
        k_reset, k_step = random.split(random.key(100 + seed), 2)
        running = envs.reset_all(self.env, random.split(k_reset, num_envs(self.config)))
        _, _, _, batch = act_and_learn(self.algorithm, self.env, self.init(seed), running, k_step)
        return batch


ON_POLICY = [
    OnPolicy(
        "ppo",
        ppo.Config(num_envs=3, window_length=8, num_minibatches=2, hidden=(8,), anneal_steps=4800.0),
        envs.make("CartPole-v1"),
        {"num_epochs": 3, "num_minibatches": 4, "window_length": 12, "num_envs": 4},
    ),
]

_CLIFF = envs.make("CliffWalking-v1")

ONLINE = [
    *(
        Online(name, REGISTRY[name].Config(exploration_steps=100.0, anneal_steps=1000.0), _CLIFF, draws=False)
        for name in ("q_learning", "sarsa", "expected_sarsa", "double_q_learning", "n_step_sarsa", "dyna_q")
    ),
]

CASES = [*ON_POLICY, *ONLINE]


def lanes(case: Case, num: int = 3) -> tuple[Any, Any]:
    """States and batches of several seeds, lane axis first."""
    states = tree.stack([case.init(seed) for seed in range(num)])
    batches = tree.stack([case.batch(seed) for seed in range(num)])
    return tree.map(torch.clone, states), batches
