"""PQN: deep Q-learning from parallel environments, without replay and without a target network.

Gallici et al. 2024, "Simplifying deep temporal difference learning", arXiv 2407.04811.

    G_t = r_t + γ [λ G_{t+1} + (1 - λ) max_a' Q(s_{t+1}, a'; θ)]
    L(θ) = ½ E[(Q(s, a; θ) - G)²]

G is computed once for each window, with the parameters that collected it, and bootstraps with the
maximum alone where the window or the episode was cut off. What keeps the values from diverging is
layer normalisation before every activation, and a window of many environments in the place of memory.

As in the authors' code: RAdam, clipping by the global norm, ε that falls linearly and is the same
for all environments, several passes over each window in minibatches.

Departures: orthogonal weights in the place of the authors' normal ones. A time limit is not an end:
where an episode is truncated, the value of the state it reached is bootstrapped.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from funcrl import nets, ops, optim
from funcrl.algos import beginning, progress
from funcrl.core import Transition, checks, collective, masks, tree
from funcrl.nets.mlp import ACTIVATIONS, NORMALIZATIONS
from funcrl.ops import exploration, schedules
from funcrl.optim import descending

METRICS = ("loss", "td_error", "q", "grad_norm", "learning_rate", "exploration")

SHARES_OF_THE_RUN = {"anneal_steps": 1.0, "exploration_steps": 0.5}
"""Settings in which 0 asks for a share of the run, filled in where its length is known."""

LOOP = "on_policy"
LEARNT = ("params",)


@tree.struct
class Config:
    """Settings of PQN; the defaults are those of Rejax for CartPole.

    Every float may differ between lanes; integers, names and networks belong to the program.
    """

    learning_rate: float = 3e-4
    """step size α of RAdam"""
    anneal_steps: float = 0.0
    """environment steps over which the learning rate falls linearly to zero; 0: the whole run where its length is known; inf: never"""
    gamma: float = 0.99
    """discount γ, in [0, 1]"""
    td_lambda: float = 0.9
    """λ of the returns, in [0, 1]; 0 looks one step ahead, 1 to the end of the window"""
    epsilon: float = 0.05
    """ε of the ε-greedy policy, in [0, 1], once it has fallen"""
    initial_epsilon: float = 1.0
    """ε at the beginning"""
    exploration_steps: float = 0.0
    """environment steps over which ε falls linearly; 0: half of the run where its length is known"""
    max_grad_norm: float = 10.0
    """largest global norm of the gradient; inf: no clipping"""
    num_envs: int = tree.static(default=16)
    """N: environments of one lane"""
    window_length: int = tree.static(default=128)
    """T: steps of each environment between two rounds of updates"""
    num_epochs: int = tree.static(default=5)
    """passes over each window"""
    num_minibatches: int = tree.static(default=16)
    """gradient steps in a pass; must divide num_envs · window_length"""
    hidden: tuple[int, ...] = tree.static(default=(64, 64))
    """width of each hidden layer"""
    channels: tuple[int, ...] = tree.static(default=(32, 32))
    """channels of each convolution, where an observation is an image, the channels first or last; none: a perceptron there too"""
    stride: int = tree.static(default=1)
    """of every convolution; 1 keeps an image's size"""
    activation: str = tree.static(default="relu")
    """elu, gelu, relu, silu or tanh"""
    normalization: str = tree.static(default="layer")
    """layer or none: what comes before each activation"""
    network: nn.Module | None = tree.static(default=None)
    """your own network from observations to one value for each action, instead of hidden to
    normalization; a template: its parameters are drawn anew from each lane's key, its own numbers are
    not used"""
    frozen: tuple[str, ...] = tree.static(default=())
    """patterns of parameters that stay as they are, "features.*": no gradient, no state of the optimiser; what a network keeps
    beside its parameters under these names stays too"""
    rate_factors: tuple[str, ...] = tree.static(default=())
    """by what the step size of some parameters is multiplied, "features.*=0.1"; the first pattern that fits counts"""

    def __post_init__(self) -> None:
        name = "pqn.Config"
        checks.settings(
            self,
            name,
            unit=("gamma", "td_lambda", "epsilon", "initial_epsilon"),
            not_negative=("learning_rate", "anneal_steps", "exploration_steps"),
            positive=("max_grad_norm",),
            counts=(
                "num_envs",
                "window_length",
                "num_epochs",
                "num_minibatches",
                "hidden",
                "channels",
                "stride",
            ),
        )
        descending.check_settings(name, self)
        checks.known(name, "activation", self.activation, ACTIVATIONS)
        checks.known(name, "normalization", self.normalization, NORMALIZATIONS)
        size = self.num_envs * self.window_length
        checks.divides(name, "num_minibatches", self.num_minibatches, "num_envs · window_length", size)


@tree.struct
class State:
    """A PQN agent."""

    params: nets.Params
    """θ"""
    optimizer: tuple[Any, ...]
    """state of clipping and RAdam"""
    step: Tensor
    """`[]` int32, number of gradient steps so far"""
    config: Config
    """its floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""
    network: nets.Network = tree.static()
    rates: descending.Rates = tree.static()
    """which numbers learn at another rate, or not at all"""


@tree.struct
class Batch:
    """A minibatch of B rows."""

    obs: Tensor
    """`[B, ...]`"""
    action: Tensor
    """`[B]` int64"""
    target: Tensor
    """`[B]` λ-returns G"""


def loss(value: Tensor, target: Tensor) -> Tensor:
    """L: ½ E[(Q(s, a) - G)²].

    Args:
        value: `[B]` Q(s, a; θ).
        target: `[B]` G.

    Returns:
        `[]`.

    >>> loss(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0]))
    tensor(1.)
    """
    return 0.5 * ((value - target) ** 2).mean()


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    space, num_actions = beginning.spaces_of("pqn.init", env, "PQN has one value for each action.")
    network = nets.own("pqn.init", "config.network", config.network, space)
    if network is None:
        network = nets.for_observations(
            space,
            config.channels,
            config.hidden,
            num_actions,
            stride=config.stride,
            activation=config.activation,
            normalization=config.normalization,
        )
    params = nets.begin_whole(network, key)
    nets.check_output("pqn.init", "config.network", network, params, space, num_actions)
    rates = descending.rates("pqn.init", config, params, nets.without_gradient({"": network}))
    config = beginning.settings(config, key)
    return State(
        params=params,
        optimizer=descending.begin(_optimizer(config, config.learning_rate), params, rates),
        step=torch.zeros((), dtype=torch.int32, device=key.device),
        config=config,
        metrics=beginning.no_metrics(METRICS, key),
        network=network,
        rates=rates,
    )


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an action from the ε-greedy policy."""
    policy = exploration.epsilon_greedy(_values(state, obs), _epsilon(state), masks.of(obs))
    return exploration.sample(key, policy), {}


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return a best action."""
    return _values(state, obs).argmax(dim=-1)


def prepare(state: State, window: Transition) -> Batch:
    """Compute the λ-returns and flatten the window into rows.

    Often wrong: Q(s', a') of the action that was taken next, in the place of the best one's; that is
    Sarsa, and its values are those of the exploring policy.
    """
    best = _values(state, window.next_obs).amax(dim=-1)
    target = ops.lambda_return(
        window.reward,
        window.terminated,
        window.truncated,
        best,
        state.config.gamma,
        state.config.td_lambda,
    )
    data = Batch(obs=window.obs, action=window.action, target=target)
    return tree.map(lambda x: x.flatten(0, 1), data)  # type: ignore[no-any-return]


def update(state: State, batch: Batch) -> State:
    """Take one gradient step on L."""
    shape, expected = tuple(batch.target.shape), tuple(batch.action.shape)
    hold = "have the shape of batch.action"
    checks.require(shape == expected, "pqn.update", "batch.target", hold, shape)
    for leaf in tree.leaves(batch.obs):
        rows = tuple(leaf.shape)
        checks.require(rows[:1] == expected, "pqn.update", "batch.obs", "hold a row for each action", rows)

    network = nets.learning(state.network)

    def of(params: nets.Params) -> tuple[Tensor, Tensor]:
        values = nets.apply(network, params, batch.obs)
        value = values.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        return loss(value, batch.target), value

    learning_rate = progress.learning_rate(state.step, state.config)
    optimizer = _optimizer(state.config, learning_rate)
    params = nets.with_new_keys(state.network, state.params)
    after = descending.step(of, params, optimizer, state.optimizer, state.rates)
    seen = nets.observed(state.network, params, batch.obs)
    figures = {
        "loss": after.value,
        "td_error": collective.mean((batch.target - after.beside).abs().mean()),
        "q": collective.mean(after.beside.mean()),
        "grad_norm": after.grad_norm,
        "learning_rate": learning_rate,
        "exploration": _epsilon(state),
    }
    return tree.replace(
        state,
        params=descending.having_seen(after.params, seen, state.rates),
        optimizer=after.optimizer,
        step=state.step + 1,
        metrics=figures,
    )


def _values(state: State, obs: Any) -> Tensor:
    """Return Q(s, ·), `[..., A]`, -inf for actions that are not valid."""
    return masks.values(nets.apply(state.network, state.params, obs), obs)


def _epsilon(state: State) -> Tensor:
    config: Any = state.config
    return schedules.linear(
        config.initial_epsilon,
        config.epsilon,
        schedules.known_length(config.exploration_steps),
        progress.env_steps(state.step, state.config),
    )


def _optimizer(config: Config, learning_rate: float | Tensor) -> optim.Optimizer:
    return optim.chain(optim.clip_by_global_norm(config.max_grad_norm), optim.radam(learning_rate))
