"""What agents share whose actor climbs what critics have learnt: a state, critics, descending.

Inside of them, actions are rows of D numbers in ±1; `policies.scaled` turns them into those of the environment. Several
critics are one network with a leading axis, see `nets.ensemble`. What is differentiated is always the first argument of a
loss, and each loss is given to `descend` with the parameters that it may move: no other can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl import nets, optim, policies
from funcrl.algos import beginning, replayed
from funcrl.core import ReplayBatch, checks, collective, random, tree
from funcrl.ops import schedules
from funcrl.optim import descending

LEARNT = ("params", "target_params")

Figures = dict[str, Tensor]
"""0-d, by name"""

CRITIC_METRICS = ("critic_loss", "td_error", "q", "critic_grad_norm", "learning_rate")

ACTOR_METRICS = ("actor_loss", "actor_grad_norm")

NETWORKS = {"actor": "actor", "critics": "critic"}
"""fields of the state, by what their numbers are called in `params`"""


@tree.struct
class State:
    """An agent with an actor, critics, and slower copies."""

    params: dict[str, nets.Params]
    """`actor`; `critics`, `[M, ...]` each; and what else an algorithm learns"""
    target_params: dict[str, nets.Params]
    """slower copies of those that targets are made with"""
    optimizer: dict[str, tuple[Any, ...]]
    """state of clipping and Adam, for each of `params`"""
    step: Tensor
    """`[]` int32, number of gradient steps so far"""
    env_steps: Tensor
    """`[]` int32, environment steps of the lane so far, by which schedules go; the training loop counts them, a loop of
    one's own does it with `tree.replace(state, env_steps=...)`"""
    td_error: Tensor
    """`[B]` size of the error of each row of the last batch, by which prioritised replay draws"""
    key: Tensor
    """`[2]` int32, from which updates draw by their number"""
    config: Any
    """the algorithm's settings; their floats are 0-d tensors here"""
    metrics: Figures
    """0-d figures of the last update; NaN before the first"""
    actor: nets.Network = tree.static()
    critic: nets.Network = tree.static()
    actions: policies.ScaledActions | None = tree.static()
    """how actions in ±1 are scaled; None where actions are numbered"""
    rates: descending.Rates = tree.static()
    """which numbers learn at another rate, or not at all"""


S = TypeVar("S", bound=State)


class Errors(NamedTuple):
    """What the critics' loss says of each row of a batch."""

    loss: Tensor
    """`[B]` what is to be made small, summed over critics"""
    td_error: Tensor
    """`[B]` size of the error, at least 0"""
    q: Tensor
    """`[B]` Q(s, a), mean over critics"""


def begin(
    function: str,
    key: Tensor,
    config: Any,
    env: object,
    metrics: tuple[str, ...],
    num_critics: int,
    make_actor: Callable[[Any, spaces.Space[Any], int], tuple[nets.Network, int]],
    critic_outputs: int = 1,
    targets: tuple[str, ...] = ("critics",),
) -> State:
    """Make an agent with real actions that has learnt nothing.

    Args:
        function: Who complains, `"sac.init"`.
        key: `[2]` int32.
        config: `Settings`; floats may be numbers or 0-d tensors.
        env: Anything with `observation_space` and `action_space`.
        metrics: Names of its figures.
        num_critics: M.
        make_actor: From settings, the space of observations and D to the actor, and how many numbers it has to put out.
        critic_outputs: How many a critic does.
        targets: Of which parameters there are slower copies.

    Raises:
        ValueError: When a space is not supported, or an own network has the wrong output.
    """
    observed = beginning.observations(function, env)
    instead = "Its actor puts out real numbers; for numbered actions take discrete_sac, dqn or ppo, for all others ppo."
    actions = policies.scaled_actions(function, env.action_space, instead)  # type: ignore[attr-defined]
    both = spaces.Tuple([observed, spaces.Box(-1.0, 1.0, (actions.size,))])
    actor, size = make_actor(config, observed, actions.size)
    critic = nets.own(function, "config.critic", config.critic, both) or replayed.network(
        config, both, critic_outputs
    )
    state = assemble(function, key, config, metrics, actor, critic, actions, num_critics, targets)
    nets.check_output(function, "config.actor", actor, state.params["actor"], observed, size)
    one = tree.index(state.params["critics"], 0)
    nets.check_output(function, "config.critic", critic, one, both, critic_outputs)
    return state


def assemble(
    function: str,
    key: Tensor,
    config: Any,
    metrics: tuple[str, ...],
    actor: nets.Network,
    critic: nets.Network,
    actions: policies.ScaledActions | None,
    num_critics: int,
    targets: tuple[str, ...],
) -> State:
    """Make an agent of its networks, see `begin`."""
    k_actor, k_critics, k_updates = random.split(key, 3)
    params = {
        "actor": nets.begin_whole(actor, k_actor),
        "critics": nets.ensemble.init(critic, k_critics, num_critics),
    }
    rates = descending.rates(
        function, config, params, nets.without_gradient({"actor": actor, "critics": critic})
    )
    config = beginning.settings(config, key)
    zero = torch.zeros((), dtype=torch.int32, device=key.device)
    state = State(
        params={},
        target_params={name: tree.map(torch.clone, params[name]) for name in targets},
        optimizer={},
        step=zero,
        env_steps=torch.zeros_like(zero),
        td_error=torch.zeros(config.batch_size, dtype=torch.float32, device=key.device),
        key=k_updates,
        config=config,
        metrics=beginning.no_metrics(metrics, key),
        actor=actor,
        critic=critic,
        actions=actions,
        rates=rates,
    )
    for name, values in params.items():
        state = with_params(state, name, values)
    return state


def with_params(state: S, name: str, values: nets.Params) -> S:
    """Return the agent with further parameters, from which nothing has descended yet."""
    optimizer = replayed.optimizer(state.config, state.config.learning_rate)
    begun = descending.begin(optimizer, values, state.rates, f"{name}.")
    return tree.replace(
        state, params=state.params | {name: values}, optimizer=state.optimizer | {name: begun}
    )


def explored(state: State, unit: Tensor, key: Tensor) -> Tensor:
    """Return actions of the environment, `[..., *shape]`: until the buffer is warm any of its space, later those given.

    Args:
        state: The agent.
        unit: `[..., D]` in ±1, what it would do.
        key: `[2]` int32.
    """
    assert state.actions is not None
    random_action = random.uniform(key, unit.shape, -1.0, 1.0)
    warm = state.env_steps >= state.config.warmup_steps
    return state.actions.of_unit(torch.where(warm, unit, random_action))


def critics(state: State, params: nets.Params, obs: Any, unit: Tensor) -> Tensor:
    """Return what all critics put out, `[M, B, K]`.

    Args:
        state: The agent.
        params: Of the critics, `[M, ...]`.
        obs: `[B, ...]` s.
        unit: `[B, D]` a in ±1.
    """
    return nets.ensemble.apply(state.critic, params, (obs, unit))  # type: ignore[no-any-return]


def check_batch(function: str, state: State, batch: ReplayBatch) -> Tensor:
    """Check that a batch holds as many rows as the settings say, and return its actions in ±1, `[B, D]`.

    Args:
        function: Who complains, `"sac.update"`.
        state: The agent.
        batch: The rows.

    Raises:
        ValueError: When a field has another shape.
    """
    replayed.check_batch(function, batch, state.config.batch_size, numbered=False)
    assert state.actions is not None
    size = state.config.batch_size // collective.parts()
    wanted, found = (size, *state.actions.shape), tuple(batch.action.shape)
    hold = f"have the shape of actions, [B, {', '.join(map(str, state.actions.shape))}]"
    checks.require(found == wanted, function, "batch.action", hold, found)
    return state.actions.to_unit(batch.action)


def draw_key(state: State, purpose: int) -> Tensor:
    """Return the key of what the present update draws for one of two purposes, `[2]` int32."""
    return random.fold_in(state.key, 2 * state.step + purpose)


def exploration_key(state: State) -> Tensor:
    """Return the key of noise that stays until the next update, which draws from others, `[2]` int32."""
    return random.fold_in(random.split(state.key, 1)[0], state.step)


def squared_errors(values: Tensor, goal: Tensor) -> Errors:
    """Return Σ_m ½ (y - Q_m(s, a))² of each row.

    Args:
        values: `[M, B]` Q_m(s, a).
        goal: `[B]` y.
    """
    error = goal - values
    return Errors(0.5 * (error**2).sum(dim=0), error.abs().mean(dim=0), values.mean(dim=0))


def descend_critics(
    state: S,
    batch: ReplayBatch,
    seen: Any,
    errors: Callable[[nets.Params, S], Errors],
    targets: bool = True,
) -> S:
    """Take one gradient step of the critics on the weighted mean of the rows' losses.

    θ ← θ - Adam(∇_θ (1 / B) Σ_i w_i L_i(θ)),   θ̄ ← (1 - τ) θ̄ + τ θ

    Args:
        state: The agent before.
        batch: `[B]` rows.
        seen: `[B, ...]` what a critic is given of it.
        errors: From the critics' parameters, and the agent as its critics learn, to what the loss says of each row.
        targets: Whether their slower copies follow now.

    Returns:
        The agent after, one step older.
    """

    def loss(params: nets.Params, learner: S) -> tuple[Tensor, Errors]:
        rows = errors(params, learner)
        return (batch.weight * rows.loss).mean(), rows

    state, value, part, norm = descend(state, "critics", loss, learning_rate(state), seen)
    rows: Errors = tree.map(collective.rows, part)
    state = tree.replace(
        state,
        step=state.step + 1,
        td_error=rows.td_error,
        metrics=state.metrics
        | {
            "critic_loss": value,
            "td_error": rows.td_error.mean(),
            "q": rows.q.mean(),
            "critic_grad_norm": norm,
            "learning_rate": learning_rate(state),
        },
    )
    return follow(state) if targets else state


def descend_actor(state: S, obs: Any, loss: Callable[[nets.Params, S], tuple[Tensor, Any]]) -> tuple[S, Any]:
    """Take one gradient step of the actor.

    Args:
        state: The agent before.
        obs: `[B, ...]` what it sees.
        loss: From its parameters, and the agent as its actor learns, to what is to be made small, `[]`, and anything beside.

    Returns:
        The agent after, and what was beside the loss.
    """
    after, value, beside, norm = descend(state, "actor", loss, actor_learning_rate(state), obs)
    figures = {"actor_loss": value, "actor_grad_norm": norm}
    return tree.replace(after, metrics=after.metrics | figures), beside


def descend(
    state: S, name: str, loss: Callable[[nets.Params, S], tuple[Tensor, Any]], rate: Tensor, seen: Any = None
) -> tuple[S, Tensor, Any, Tensor]:
    """Take one gradient step of some parameters, and of no others.

    Args:
        state: The agent before.
        name: Of the parameters.
        loss: From these, and the agent as their network learns, to what is to be made small, `[]`, and anything beside.
        rate: `[]` learning rate.
        seen: `[B, ...]` what their network is given, where they are a network's.

    Returns:
        The agent after, the loss before, what was beside it, and the norm of its gradient.
    """
    before, learner, network = state.params[name], state, None
    if name in NETWORKS:
        network = getattr(state, NETWORKS[name])
        before = nets.with_new_keys(network, before)
        learner = tree.replace(state, **{NETWORKS[name]: nets.learning(network)})
    optimizer = replayed.optimizer(state.config, rate)
    step = descending.step(
        lambda params: loss(params, learner),
        before,
        optimizer,
        state.optimizer[name],
        state.rates,
        f"{name}.",
    )
    params = step.params
    if isinstance(network, nets.Pure):
        observed = nets.ensemble.observed if name == "critics" else nets.observed
        params = descending.having_seen(params, observed(network, before, seen), state.rates, f"{name}.")
    after = tree.replace(
        state,
        params=state.params | {name: params},
        optimizer=state.optimizer | {name: step.optimizer},
    )
    return after, step.value, step.beside, step.grad_norm


def follow(state: S) -> S:
    """Return the agent whose slower copies have gone a share τ of the way, θ̄ ← (1 - τ) θ̄ + τ θ."""
    online = {name: state.params[name] for name in state.target_params}
    return tree.replace(state, target_params=optim.polyak(state.target_params, online, state.config.tau))


def learning_rate(state: State) -> Tensor:
    """Return α of the critics as it is now, `[]`."""
    return state.config.learning_rate * _remaining(state)  # type: ignore[no-any-return]


def actor_learning_rate(state: State) -> Tensor:
    """Return that of the actor, `[]`."""
    own, critics = state.config.actor_learning_rate, state.config.learning_rate
    return torch.where(own > 0, own, critics) * _remaining(state)


def _remaining(state: State) -> Tensor:
    over = schedules.known_length(state.config.anneal_steps)
    return schedules.linear(1.0, 0.0, over, state.env_steps)
