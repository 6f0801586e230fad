"""Dyna-Q: Q-learning that also learns from steps that it remembers and takes again in its mind.

Sutton 1990, "Integrated architectures for learning, planning, and reacting"; the algorithm as in
Sutton & Barto 2018, section 8.2. After each real step, n times:

    S ← a state seen before, A ← an action taken in it before, each equally likely
    R, S' ← Model(S, A), what followed the last time
    Q(S, A) ← Q(S, A) + α [R + γ max_a Q(S', a) - Q(S, A)]

The model remembers one outcome of each state and action, as the book's does: it is right where the
environment is deterministic. It remembers as well whether the step terminated. `act` draws the
random numbers of the n imagined steps, so that all that is random has come from its key.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.algos.tabular import agent
from funcrl.algos.tabular.agent import DEFAULT_STEPS, METRICS, Settings, State, greedy
from funcrl.algos.tabular.q_learning import target
from funcrl.core import Transition, checks, random, tree

__all__ = [
    "DEFAULT_STEPS",
    "LEARNT",
    "LOOP",
    "METRICS",
    "Config",
    "Model",
    "State",
    "act",
    "greedy",
    "init",
    "update",
]

LOOP = "online"
LEARNT = ("values", "memory")


@tree.struct
class Config(Settings):
    """Settings of Dyna-Q."""

    num_imagined: int = tree.static(default=5)
    """n: imagined steps after each real one"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("dyna_q.Config", "num_imagined", self.num_imagined, 1)


@tree.struct
class Model:
    """What followed each state and action the last time."""

    reward: Tensor
    """`[S, A]` float32"""
    next_obs: Tensor
    """`[S, A]` int64"""
    terminated: Tensor
    """`[S, A]` boolean"""
    taken: Tensor
    """`[S, A]` boolean: the action has been taken in the state; the rest means nothing elsewhere"""
    seen: Tensor
    """`[S]` int64, the states in which an action has been taken, in the order in which that happened first"""
    num_seen: Tensor
    """`[]` int64, how many of `seen` mean something"""


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent, see `agent.begin`; its memory is a `Model`."""
    state = agent.begin("dyna_q.init", key, config, env)
    nothing = torch.zeros(state.values.shape, dtype=torch.int64, device=key.device)
    model = Model(
        reward=nothing.to(torch.float32),
        next_obs=nothing,
        terminated=nothing > 0,
        taken=nothing > 0,
        seen=nothing[:, 0],
        num_seen=nothing[0, 0],
    )
    return tree.replace(state, memory=model)


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an action from the behaviour policy, and what the imagined steps will need.

    Its extras are `imagination`, `[..., n, 2]` uniform numbers in [0, 1).
    """
    k_action, k_imagination = random.split(key, 2)
    action, _ = agent.act(state, obs, k_action)
    shape = (*obs.shape, state.config.num_imagined, 2)
    return action, {"imagination": random.uniform(k_imagination, shape)}


def remember(model: Model, batch: Transition) -> Model:
    """Return the model with one more step.

    Args:
        model: Before.
        batch: One step, fields `[]`.
    """
    place = (batch.obs, batch.action)
    new = ~model.taken[batch.obs].any()
    # A state that is not new is written where nothing means anything yet, or where it is kept.
    last = model.seen.shape[0] - 1
    at = torch.clamp(model.num_seen, max=last)
    return Model(
        reward=torch.index_put(model.reward, place, batch.reward),
        next_obs=torch.index_put(model.next_obs, place, batch.next_obs),
        terminated=torch.index_put(model.terminated, place, batch.terminated),
        taken=torch.index_put(model.taken, place, torch.ones_like(batch.terminated)),
        seen=torch.index_put(model.seen, (at,), torch.where(new, batch.obs, model.seen[at])),
        num_seen=model.num_seen + new,
    )


def imagine(model: Model, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Return a state seen before and an action taken in it before, each equally likely.

    Args:
        model: What has been seen; at least one step.
        uniform: `[2]` in [0, 1).

    Returns:
        `[]` int64 each.
    """
    obs = model.seen[(uniform[0] * model.num_seen).to(torch.int64)]
    taken = model.taken[obs].to(torch.int64)
    # The k-th action taken in it, counted from 0.
    rank = torch.cumsum(taken, dim=-1) - 1
    wanted = (uniform[1] * taken.sum()).to(torch.int64)
    actions = torch.arange(taken.shape[-1], device=taken.device)
    return obs, torch.where((taken > 0) & (rank == wanted), actions, 0).sum(dim=-1)


def update(state: State, batch: Transition) -> State:
    """Learn from one real step and from n imagined ones."""
    gamma, rate = state.config.gamma, agent.learning_rate(state)
    goal = target(state.values[batch.next_obs], batch.reward, batch.terminated, gamma)
    values, error = agent.learn(state.values, (batch.obs, batch.action), goal, rate)
    model = remember(state.memory, batch)
    for i in range(state.config.num_imagined):
        place = imagine(model, batch.extras["imagination"][i])
        next_values = values[model.next_obs[place]]
        goal = target(next_values, model.reward[place], model.terminated[place], gamma)
        values, _ = agent.learn(values, place, goal, rate)
    return agent.end_update(state, values, model, error)
