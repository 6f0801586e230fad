"""n-step SARSA: rewards of n steps before the value of what was reached stands for the rest.

Sutton & Barto 2018, section 7.2; with n = 1 the algorithm is `sarsa`.

    G = R_{t+1} + γ R_{t+2} + … + γ^{n-1} R_{t+n} + γⁿ Q(S_{t+n}, A_{t+n})                    (7.4)
    Q(S_t, A_t) ← Q(S_t, A_t) + α [G - Q(S_t, A_t)]                                           (7.5)

A step is learnt from n steps later, when A_{t+n} is known, in the same order as in the book's
algorithm: there, too, A_{t+n} is chosen before Q(S_t, A_t) changes. Where the episode ends, the
steps that still wait are learnt from at once, the oldest first. After a terminated end nothing
follows; at a truncated one, of which the book does not speak, the expected value Σ_a π(a | S) Q(S, a)
of the state that was reached stands for that of the action that was never taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.algos.tabular import agent
from funcrl.algos.tabular.agent import DEFAULT_STEPS, LEARNT, METRICS, Settings, State, act, greedy
from funcrl.core import Transition, checks, tree

__all__ = [
    "DEFAULT_STEPS",
    "LEARNT",
    "LOOP",
    "METRICS",
    "Config",
    "State",
    "Waiting",
    "act",
    "greedy",
    "init",
    "update",
]

LOOP = "online"


@tree.struct
class Config(Settings):
    """Settings of n-step SARSA."""

    num_steps: int = tree.static(default=4)
    """n: steps whose rewards are added up"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("n_step_sarsa.Config", "num_steps", self.num_steps, 1)


@tree.struct
class Waiting:
    """The last n steps of the episode, the newest last."""

    obs: Tensor
    """`[n]` int64"""
    action: Tensor
    """`[n]` int64"""
    reward: Tensor
    """`[n]` float32"""
    count: Tensor
    """`[]` int32, how many of them have not been learnt from; those are the last ones"""


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent, see `agent.begin`; its memory is a `Waiting`."""
    state = agent.begin("n_step_sarsa.init", key, config, env)
    return tree.replace(state, memory=nothing_waits(config.num_steps, key.device))


def nothing_waits(num_steps: int, device: torch.device) -> Waiting:
    """Return room for n steps."""
    return Waiting(
        obs=torch.zeros(num_steps, dtype=torch.int64, device=device),
        action=torch.zeros(num_steps, dtype=torch.int64, device=device),
        reward=torch.zeros(num_steps, dtype=torch.float32, device=device),
        count=torch.zeros((), dtype=torch.int32, device=device),
    )


def update(state: State, batch: Transition) -> State:
    """Learn from the step n steps ago, and from all that wait where the episode ends."""
    waiting: Waiting = state.memory
    n = waiting.obs.shape[0]
    gamma, rate = state.config.gamma, agent.learning_rate(state)

    # (7.4) and (7.5) for the oldest, where n steps wait: A_{t+n} is this step's action.
    goal = _discounted(waiting.reward, gamma, state.values[batch.obs, batch.action])
    now = torch.where(waiting.count == n, rate, 0.0)
    values, error = agent.learn(state.values, (waiting.obs[0], waiting.action[0]), goal, now)

    obs, action = _shift(waiting.obs, batch.obs), _shift(waiting.action, batch.action)
    reward = _shift(waiting.reward, batch.reward)
    count = torch.clamp(waiting.count + 1, max=n)

    ended = batch.terminated | batch.truncated
    reached = agent.expected_value(state, values[batch.next_obs])
    reached = torch.where(batch.terminated, 0.0, reached)
    for i in range(n):
        now = torch.where(ended & (i >= n - count), rate, 0.0)
        goal = _discounted(reward[i:], gamma, reached)
        values, last_error = agent.learn(values, (obs[i], action[i]), goal, now)
    memory = Waiting(obs, action, reward, torch.where(ended, 0, count))
    return agent.end_update(state, values, memory, torch.where(ended, last_error, error))


def _shift(old: Tensor, new: Tensor) -> Tensor:
    """Drop the oldest of `[n]` and put `[]` behind the newest."""
    return torch.cat([old[1:], new.reshape(1)])


def _discounted(reward: Tensor, gamma: Tensor, value: Tensor) -> Tensor:
    """(7.4): the discounted sum of rewards `[k]`, and then γᵏ times the value `[]`."""
    total = value
    for i in reversed(range(reward.shape[0])):
        total = reward[i] + gamma * total
    return total
