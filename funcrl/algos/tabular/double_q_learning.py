"""Double Q-learning: two tables, of which one chooses the best action and the other says its value.

Van Hasselt 2010, "Double Q-learning"; the equation as in Sutton & Barto 2018, section 6.7.

    Q₁(S, A) ← Q₁(S, A) + α [R + γ Q₂(S', argmax_a Q₁(S', a)) - Q₁(S, A)]                    (6.10)

with probability ½, and with the tables exchanged otherwise. One table that does both overestimates:
the largest of several uncertain values is on average too large.

The behaviour policy sees the mean of both tables (the paper's sum, on the scale of Q). `act` also
tosses the coin, so that all that is random has come from its key.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.algos.tabular import agent
from funcrl.algos.tabular.agent import DEFAULT_STEPS, METRICS, Settings, State, greedy
from funcrl.core import Transition, random, tree

__all__ = [
    "DEFAULT_STEPS",
    "LEARNT",
    "LOOP",
    "METRICS",
    "Config",
    "State",
    "act",
    "greedy",
    "init",
    "target",
    "update",
]

LOOP = "online"
LEARNT = ("values", "memory")


@tree.struct
class Config(Settings):
    """Settings of double Q-learning."""


def target(own: Tensor, other: Tensor, reward: Tensor, terminated: Tensor, gamma: Tensor) -> Tensor:
    """(6.10): R + γ Q₂(S', argmax_a Q₁(S', a)), without the second term where the episode terminated.

    Args:
        own: `[A]` Q₁(S', ·), of the table that learns.
        other: `[A]` Q₂(S', ·).
        reward: `[]`.
        terminated: `[]` boolean.
        gamma: `[]` γ.

    Returns:
        `[]`.

    >>> own, other = torch.tensor([1.0, 4.0]), torch.tensor([7.0, 2.0])
    >>> target(own, other, torch.tensor(0.0), torch.tensor(False), torch.tensor(0.5))
    tensor(1.)
    """
    chosen = torch.arange(own.shape[-1], device=own.device) == own.argmax(dim=-1)
    value = torch.where(chosen, other, 0.0).sum(dim=-1)
    return reward + gamma * torch.where(terminated, 0.0, value)


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent, see `agent.begin`; its memory is both tables, `[2, S, A]`."""
    state = agent.begin("double_q_learning.init", key, config, env)
    return tree.replace(state, memory=torch.stack([state.values, state.values]))


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an action from the behaviour policy, and the table that is to learn from it.

    Its extras are `second`, of the action's shape: whether it is the second table.
    """
    k_action, k_coin = random.split(key, 2)
    action, _ = agent.act(state, obs, k_action)
    return action, {"second": random.bernoulli(k_coin, 0.5, obs.shape)}


def update(state: State, batch: Transition) -> State:
    """Learn from one step, (6.10)."""
    second = batch.extras["second"].to(torch.int64)
    tables = state.memory
    goal = target(
        tables[second, batch.next_obs],
        tables[1 - second, batch.next_obs],
        batch.reward,
        batch.terminated,
        state.config.gamma,
    )
    rate = agent.learning_rate(state)
    tables, error = agent.learn(tables, (second, batch.obs, batch.action), goal, rate)
    return agent.end_update(state, tables.mean(dim=0), tables, error)
