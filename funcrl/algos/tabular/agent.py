"""What all tabular agents share: settings, a table of values, and how they explore.

An algorithm's own file says how the table is learnt, and nothing else.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from funcrl.algos import beginning, behaviour
from funcrl.core import checks, tree
from funcrl.ops import exploration, schedules

DEFAULT_STEPS = 50_000
"""Environment steps of a lane in a run where nothing else is said."""

LEARNT = ("values",)

METRICS = ("td_error", "learning_rate", "exploration")


@tree.struct
class Settings:
    """Settings of a tabular algorithm.

    Every float may differ between lanes; names and integers belong to the program.
    """

    learning_rate: float = 0.5
    """step size α, in [0, 1]"""
    anneal_steps: float = math.inf
    """environment steps over which the learning rate falls linearly to zero; 0: the whole run where its length is known; inf: never"""
    gamma: float = 0.99
    """discount γ, in [0, 1]"""
    epsilon: float = 0.1
    """ε of the ε-greedy policy, in [0, 1]; its final value where it falls"""
    initial_epsilon: float = 1.0
    """ε at the beginning, where exploration_steps is not 0"""
    temperature: float = 1.0
    """β of the Boltzmann policy π(a | s) ∝ exp(Q(s, a) / β); its final value where it falls"""
    initial_temperature: float = 10.0
    """β at the beginning, where exploration_steps is not 0"""
    exploration_steps: float = 0.0
    """environment steps over which ε or β falls linearly to its final value; 0: that value from the beginning"""
    initial_value: float = 0.0
    """Q(s, a) before anything is learnt; a large one makes the agent try everything"""
    exploration: str = tree.static(default="epsilon_greedy")
    """epsilon_greedy or boltzmann"""

    def __post_init__(self) -> None:
        name = checks.name_of(self)
        checks.settings(
            self,
            name,
            unit=("learning_rate", "gamma"),
            not_negative=("anneal_steps",),
        )
        behaviour.check(name, self)
        checks.number(name, "initial_value", self.initial_value, -math.inf, math.inf)


@tree.struct
class State:
    """A tabular agent."""

    values: Tensor
    """`[S, A]` Q, what it acts by"""
    step: Tensor
    """`[]` int32, number of updates so far"""
    memory: Any
    """what the algorithm remembers beside, a struct of its file; `()` where it is nothing"""
    config: Any
    """the algorithm's settings; their floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""


def begin(function: str, key: Tensor, config: Any, env: object) -> State:
    """Make an agent that has learnt nothing.

    Args:
        function: Who complains, `"q_learning.init"`.
        key: `[2]` int32; only its device is used.
        config: Settings; floats may be numbers or 0-d tensors.
        env: Anything with `observation_space` and `action_space`.

    Returns:
        A `State` without memory.

    Raises:
        ValueError: When a space is not Discrete, counted from 0.
    """
    instead = "A table needs numbered states. ppo takes vectors; envs.FlattenObservation(env) makes them."
    shape = [beginning.count(function, env, name, instead) for name in ("observation_space", "action_space")]
    config = beginning.settings(config, key)
    return State(
        values=torch.zeros(shape, dtype=torch.float32, device=key.device) + config.initial_value,
        step=torch.zeros((), dtype=torch.int32, device=key.device),
        memory=(),
        config=config,
        metrics=beginning.no_metrics(METRICS, key),
    )


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an action from the behaviour policy."""
    return exploration.sample(key, policy(state, state.values[obs])), {}


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return a best action."""
    return state.values[obs].argmax(dim=-1)


def policy(state: State, values: Tensor) -> Tensor:
    """Return the behaviour policy π(· | s), ε-greedy or Boltzmann.

    Args:
        state: The agent; says which, and how far exploration has fallen.
        values: `[..., A]` Q(s, ·).

    Returns:
        `[..., A]` probabilities.
    """
    return behaviour.policy(state.config, _exploration(state), values)


def expected_value(state: State, values: Tensor) -> Tensor:
    """Return Σ_a π(a | s) Q(s, a) for the behaviour policy π.

    Args:
        state: The agent.
        values: `[..., A]` Q(s, ·).

    Returns:
        `[...]`.
    """
    probability = policy(state, values)
    # An action that is never taken counts for nothing, also where its value is -inf.
    return (probability * torch.where(probability > 0, values, 0.0)).sum(dim=-1)


def _exploration(state: State) -> Tensor:
    """Return ε, or β of the Boltzmann policy, as it is now, `[]`."""
    return behaviour.amount(state.config, state.step, state.config.exploration_steps)


def learning_rate(state: State) -> Tensor:
    """Return α as it is now, `[]`."""
    over = schedules.known_length(state.config.anneal_steps)
    return state.config.learning_rate * schedules.linear(1.0, 0.0, over, state.step)  # type: ignore[no-any-return]


def learn(table: Tensor, index: tuple[Tensor, ...], target: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """Move one entry of a table towards a target: Q(s, a) + α [target - Q(s, a)].

    Args:
        table: `[S, A]`, or with as many axes as `index` names.
        index: Which entry, `[]` int64 each.
        target: `[]`.
        rate: `[]` α; 0 leaves the entry as it is.

    Returns:
        The table after, and the error target - Q(s, a), `[]`.

    >>> learn(torch.zeros(1, 2), (torch.tensor(0), torch.tensor(1)), torch.tensor(4.0), torch.tensor(0.5))
    (tensor([[0., 2.]]), tensor(4.))
    """
    old = table[index]
    error = target - old
    return torch.index_put(table, index, old + rate * error), error


def end_update(state: State, values: Tensor, memory: Any, error: Tensor) -> State:
    """Return the agent after an update.

    Args:
        state: The agent before.
        values: `[S, A]` Q after.
        memory: What it remembers after.
        error: `[]` TD error of the update, for the metrics.
    """
    return State(
        values=values,
        step=state.step + 1,
        memory=memory,
        config=state.config,
        metrics={
            "td_error": error.abs(),
            "learning_rate": learning_rate(state),
            "exploration": _exploration(state),
        },
    )
