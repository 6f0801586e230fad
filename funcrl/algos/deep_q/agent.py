"""What agents that learn Q from replayed experience share: a state, exploring, descending.

An algorithm's own file says what its network returns and what its loss is, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from gymnasium import spaces
from torch import Tensor, nn

from funcrl import nets, ops, optim
from funcrl.algos import beginning, behaviour, replayed
from funcrl.core import ReplayBatch, collective, masks, tree
from funcrl.ops import exploration, schedules
from funcrl.optim import descending

LEARNT = ("params", "target_params")

METRICS = ("loss", "td_error", "q", "grad_norm", "learning_rate", "exploration")


@tree.struct
class State:
    """An agent with a Q network and a slower copy of it."""

    params: nets.Params
    """θ"""
    target_params: nets.Params
    """θ⁻"""
    optimizer: tuple[Any, ...]
    """state of clipping and Adam"""
    step: Tensor
    """`[]` int32, number of gradient steps so far"""
    env_steps: Tensor
    """`[]` int32, environment steps of the lane so far, by which schedules go; the training loop counts them, a loop of
    one's own does it with `tree.replace(state, env_steps=...)`"""
    td_error: Tensor
    """`[B]` size of the error of each row of the last batch, by which prioritised replay draws"""
    config: Any
    """the algorithm's settings; their floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""
    network: nets.Network = tree.static()
    rates: descending.Rates = tree.static()
    """which numbers learn at another rate, or not at all"""


S = TypeVar("S", bound=State)


class Errors(NamedTuple):
    """What a loss says of each row of a batch."""

    loss: Tensor
    """`[B]` what is to be made small"""
    td_error: Tensor
    """`[B]` size of the error, at least 0"""
    q: Tensor
    """`[B]` Q(s, a) of the action that was taken"""


def begin(
    function: str,
    key: Tensor,
    config: Any,
    env: object,
    outputs: int = 1,
    describe: Callable[[Any, spaces.Space[Any], int], nn.Module] = replayed.network,
) -> State:
    """Make an agent that has learnt nothing.

    Args:
        function: Who complains, `"dqn.init"`.
        key: `[2]` int32.
        config: Settings; floats may be numbers or 0-d tensors.
        env: Anything with `observation_space` and `action_space` (Discrete).
        outputs: Numbers that the network returns for each action.
        describe: From settings, the space of observations and the number of outputs of all actions to the
            network, where the settings hold no network of their own.

    Raises:
        ValueError: When a space is not supported, or an own network has the wrong output.
    """
    instead = (
        "Q-learning compares actions one by one: wrap the environment so that they are numbered, "
        "Discrete(n) in Gymnasium's words; for real ones take sac, td3 or ppo."
    )
    space, num_actions = beginning.spaces_of(function, env, instead)
    size = num_actions * outputs
    network = nets.own(function, "config.network", config.network, space)
    if network is None:
        network = describe(config, space, size)
    params = nets.begin_whole(network, key)
    nets.check_output(function, "config.network", network, params, space, size)
    rates = descending.rates(function, config, params, nets.without_gradient({"": network}))
    config = beginning.settings(config, key)
    zero = torch.zeros((), dtype=torch.int32, device=key.device)
    return State(
        params=params,
        target_params=tree.map(torch.clone, params),
        optimizer=descending.begin(replayed.optimizer(config, config.learning_rate), params, rates),
        step=zero,
        env_steps=torch.zeros_like(zero),
        td_error=torch.zeros(config.batch_size, dtype=torch.float32, device=key.device),
        config=config,
        metrics=beginning.no_metrics(METRICS, key),
        network=network,
        rates=rates,
    )


def with_params(function: str, state: S, params: nets.Params) -> S:
    """Return an agent that has learnt nothing, with other parameters in both networks.

    Args:
        function: Who complains, `"rainbow.init"`.
        state: The agent.
        params: For its network.
    """
    rates = descending.rates(function, state.config, params, nets.without_gradient({"": state.network}))
    optimizer = replayed.optimizer(state.config, state.config.learning_rate)
    return tree.replace(
        state,
        rates=rates,
        params=params,
        target_params=tree.map(torch.clone, params),
        optimizer=descending.begin(optimizer, params, rates),
    )


def explore(state: State, values: Tensor, obs: Any, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an action from the behaviour policy.

    Args:
        state: The agent; says which policy, and how far exploration has fallen.
        values: `[..., A]` Q(s, ·), -inf for actions that are not valid.
        obs: `[...]` s, which may say which are.
        key: `[2]` int32.

    Returns:
        `[...]` int64, and nothing else.
    """
    policy = behaviour.policy(state.config, _exploration(state), values, masks.of(obs))
    return exploration.sample(key, policy), {}


def values(state: State, params: nets.Params, obs: Any) -> Tensor:
    """Return Q(s, ·), `[..., A]`, -inf for actions that are not valid; of a network with one number for each."""
    return masks.values(nets.apply(state.network, params, obs), obs)


def act(state: State, obs: Any, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an action from the behaviour policy."""
    return explore(state, values(state, state.params, obs), obs, key)


def greedy(state: State, obs: Any) -> Tensor:
    """Return a best action."""
    return values(state, state.params, obs).argmax(dim=-1)


def check_batch(function: str, state: State, batch: ReplayBatch) -> None:
    """Check that a batch holds as many rows as the settings say, and an action and a number in each.

    Args:
        function: Who complains, `"dqn.update"`.
        state: The agent.
        batch: The rows.

    Raises:
        ValueError: When a field has another shape, or actions are no integers.
    """
    replayed.check_batch(function, batch, state.config.batch_size, numbered=True)


def td_errors(values: Tensor, action: Tensor, goal: Tensor, threshold: Tensor) -> Errors:
    """Return the Huber loss of y - Q(s, a; θ) for each row, half the square where κ is infinite.

    Args:
        values: `[B, A]` Q(s, ·; θ).
        action: `[B]` int64.
        goal: `[B]` y.
        threshold: `[]` κ.
    """
    q = values.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    error = goal - q
    return Errors(ops.huber(error, threshold), error.abs(), q)


def descend_towards(state: S, batch: ReplayBatch, goal: Tensor) -> S:
    """Take one gradient step on the weighted Huber loss of y - Q(s, a; θ), see `descend`.

    Args:
        state: The agent before; its network returns Q(s, ·) and its settings hold `huber_threshold`.
        batch: `[B]` rows.
        goal: `[B]` y.

    Returns:
        The agent after.
    """

    def errors(params: nets.Params, network: nets.Network) -> Errors:
        values = nets.apply(network, params, batch.obs)
        return td_errors(values, batch.action, goal, state.config.huber_threshold)

    return descend(state, batch, errors)


def descend(state: S, batch: ReplayBatch, errors: Callable[[nets.Params, nets.Network], Errors]) -> S:
    """Take one gradient step on the weighted mean of the rows' losses, and visit the target network.

    θ ← θ - Adam(∇_θ (1 / B) Σ_i w_i L_i(θ)),   θ⁻ ← (1 - τ) θ⁻ + τ θ at every C-th step

    Args:
        state: The agent before.
        batch: `[B]` rows.
        errors: From parameters, and the network as it learns, to what the loss says of each row.

    Returns:
        The agent after.
    """
    network = nets.learning(state.network)

    def loss(params: nets.Params) -> tuple[Tensor, Errors]:
        rows = errors(params, network)
        return (batch.weight * rows.loss).mean(), rows

    rate, before = learning_rate(state), nets.with_new_keys(state.network, state.params)
    optimizer = replayed.optimizer(state.config, rate)
    after = descending.step(loss, before, optimizer, state.optimizer, state.rates)
    seen = nets.observed(state.network, before, batch.obs)
    params = descending.having_seen(after.params, seen, state.rates)
    rows: Errors = tree.map(collective.rows, after.beside)
    step = state.step + 1
    due = step % torch.full_like(step, state.config.target_period) == 0
    visited = optim.polyak(state.target_params, params, state.config.tau)
    figures = {
        "loss": after.value,
        "td_error": rows.td_error.mean(),
        "q": rows.q.mean(),
        "grad_norm": after.grad_norm,
        "learning_rate": rate,
        "exploration": _exploration(state),
    }
    return tree.replace(
        state,
        params=params,
        target_params=tree.map(lambda new, old: torch.where(due, new, old), visited, state.target_params),
        optimizer=after.optimizer,
        step=step,
        td_error=rows.td_error,
        metrics=figures,
    )


def _exploration(state: State) -> Tensor:
    """Return ε, or β of the Boltzmann policy, as it is now, `[]`."""
    over = schedules.known_length(state.config.exploration_steps)
    return behaviour.amount(state.config, state.env_steps, over)


def learning_rate(state: State) -> Tensor:
    """Return α as it is now, `[]`."""
    over = schedules.known_length(state.config.anneal_steps)
    return state.config.learning_rate * schedules.linear(1.0, 0.0, over, state.env_steps)  # type: ignore[no-any-return]
