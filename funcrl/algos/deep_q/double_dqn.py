"""Double DQN: one network chooses the next action, the other one says what it is worth.

van Hasselt, Guez & Silver 2016, "Deep reinforcement learning with double Q-learning", arXiv 1509.06461.

    y = r + γ Q(s', argmax_a' Q(s', a'; θ); θ⁻)                                 (4), with θ⁻ for θ'
    L(θ) = E[(y - Q(s, a; θ))²]

The maximum over noisy values in DQN's target is too high on average; here the noise of the choice
and that of the value are (nearly) independent. Only the target differs from DQN, and so do not the
departures from the paper: Adam, perceptrons, the squared loss where `huber_threshold` is infinite.
"""

from __future__ import annotations

from torch import Tensor

from funcrl import nets
from funcrl.algos.deep_q import agent
from funcrl.algos.deep_q.agent import LEARNT, METRICS, State, act, greedy
from funcrl.algos.deep_q.settings import SHARES_OF_THE_RUN, ErrorSettings
from funcrl.core import ReplayBatch, tree

__all__ = [
    "LEARNT",
    "LOOP",
    "METRICS",
    "SHARES_OF_THE_RUN",
    "Config",
    "State",
    "act",
    "goal",
    "greedy",
    "init",
    "target",
    "update",
]

LOOP = "off_policy"


@tree.struct
class Config(ErrorSettings):
    """Settings of Double DQN."""


def target(reward: Tensor, discount: Tensor, online: Tensor, slow: Tensor) -> Tensor:
    """(4): r + γ Q(s', argmax_a' Q(s', a'; θ); θ⁻).

    Often wrong: the two networks in each other's place, which chooses with old values.

    Args:
        reward: `[B]`.
        discount: `[B]` γ, and 0 where the episode terminated.
        online: `[B, A]` Q(s', ·; θ), which chooses.
        slow: `[B, A]` Q(s', ·; θ⁻), which is believed.

    Returns:
        `[B]`.

    >>> import torch
    >>> one, half = torch.ones(1), torch.tensor([0.5])
    >>> target(one, half, torch.tensor([[2.0, 1.0]]), torch.tensor([[0.0, 9.0]]))
    tensor([1.])
    """
    best = online.argmax(dim=-1, keepdim=True)
    return reward + discount * slow.gather(-1, best).squeeze(-1)


def goal(state: State, batch: ReplayBatch) -> Tensor:
    """(4) for every row of a batch, by an agent's two networks.

    Args:
        state: The agent, of Double DQN or another whose network returns Q(s, ·).
        batch: `[B]` rows.

    Returns:
        `[B]`.
    """
    online = agent.values(state, state.params, batch.next_obs)
    slow = nets.apply(state.network, state.target_params, batch.next_obs)
    return target(batch.reward, batch.discount, online, slow)


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    return agent.begin("double_dqn.init", key, config, env)


def update(state: State, batch: ReplayBatch) -> State:
    """Take one gradient step towards (4)."""
    agent.check_batch("double_dqn.update", state, batch)
    return agent.descend_towards(state, batch, goal(state, batch))
