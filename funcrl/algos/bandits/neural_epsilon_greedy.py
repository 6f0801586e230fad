"""Neural ε-greedy: a network predicts the reward of every action; the best is taken, or any with probability ε.

The baseline of Riquelme, Tucker & Snoek 2018, "Deep Bayesian bandits showdown", arXiv 1802.09127,
section 4 (ε-greedy). For contexts x, with Q_θ(x) one number an action:

    π(a | x) = ε_t / A + (1 - ε_t) [a = argmax_b Q_θ(x)_b],  ε_t on a line from ε_0 to ε_T        (1)
    L(θ) = E_{(x, a, r) in memory} (Q_θ(x)_a - r)²                                                (2)

Only the action that was taken appears in (2): nobody tells what another would have paid.

Each step trains on a batch drawn from a memory of past interactions, with one gradient step of
Adam. Without a memory every interaction would be used once, and a network needs to see it often.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from funcrl import nets, optim
from funcrl.algos import beginning
from funcrl.algos.bandits import contexts
from funcrl.algos.bandits.contexts import Interactions, Memory
from funcrl.core import Transition, checks, random, tree
from funcrl.ops import exploration, schedules
from funcrl.optim import descending

DEFAULT_STEPS = contexts.DEFAULT_STEPS
LOOP = "online"
LEARNT = ("params",)


@tree.struct
class Config:
    """Settings; the defaults are for contexts that are small images."""

    learning_rate: float = 2e-3
    """step size of Adam"""
    initial_epsilon: float = 1.0
    """ε_0, probability of a random action at the beginning"""
    epsilon: float = 0.005
    """ε_T, probability of a random action from exploration_steps on"""
    exploration_steps: float = 2000.0
    """T: interactions over which ε goes from one to the other; inf: never"""
    adam_epsilon: float = 1e-8
    """ε of Adam"""
    num_envs: int = tree.static(default=16)
    """N: environments of one lane, interactions between two gradient steps"""
    batch_size: int = tree.static(default=64)
    """B: interactions drawn from the memory for a gradient step"""
    memory_size: int = tree.static(default=20_000)
    """M: interactions remembered; where it forgets the first mistakes, nothing but right choices is
    left in it after a while, and the network learns that every action pays"""
    channels: tuple[int, ...] = tree.static(default=(16, 32))
    """output channels of each convolution, where a context is an image [C, H, W]; stride 2"""
    hidden: tuple[int, ...] = tree.static(default=(64,))
    """width of each hidden layer"""
    activation: str = tree.static(default="relu")
    """elu, gelu, relu, silu or tanh"""
    network: nn.Module | None = tree.static(default=None)
    """your own network from contexts to one number an action, instead of the three above; a template:
    its parameters are drawn anew from each lane's key, its own numbers are not used"""

    def __post_init__(self) -> None:
        checks.settings(
            self,
            "neural_epsilon_greedy.Config",
            unit=("initial_epsilon", "epsilon"),
            not_negative=("learning_rate", "exploration_steps"),
            positive=("adam_epsilon",),
            counts=("num_envs", "batch_size", "memory_size", "channels", "hidden"),
        )
        contexts.check_memory("neural_epsilon_greedy.Config", self.memory_size, self.num_envs)


@tree.struct
class State:
    """A neural ε-greedy agent."""

    params: nets.Params
    """θ"""
    optimizer: Any
    """state of Adam"""
    memory: Memory
    """what was chosen and what it paid"""
    step: Tensor
    """`[]` int32, number of updates so far"""
    key: Tensor
    """`[2]` int32, from which each update makes its own"""
    config: Config
    """its floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""
    network: nets.Network = tree.static()
    rates: descending.Rates = tree.static()
    """which numbers take no gradient"""


METRICS = ("loss", "estimated_value", "epsilon", "grad_norm")


def loss(params: nets.Params, network: nets.Network, batch: Interactions) -> tuple[Tensor, Tensor]:
    """(2): mean squared error of the predicted reward, of the chosen actions only.

    Args:
        params: θ, the argument that is differentiated.
        network: From contexts to one number an action.
        batch: `[B]` interactions.

    Returns:
        `[]` loss and `[B]` predicted rewards.
    """
    value = nets.apply(network, params, batch.obs)
    chosen = value.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
    return ((chosen - batch.reward) ** 2).mean(), chosen


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    function = "neural_epsilon_greedy.init"
    space, num_actions = beginning.spaces_of(function, env, contexts.CHOOSES)
    network = nets.own(function, "config.network", config.network, space)
    if network is None:
        network = nets.for_observations(
            space,
            config.channels,
            config.hidden,
            num_actions,
            activation=config.activation,
            output_gain=0.01,
        )
    k_params, k_updates = random.split(key, 2)
    params = nets.begin_whole(network, k_params)
    rates = descending.Rates(without_gradient=nets.without_gradient({"": network}))
    nets.check_output(function, "config.network", network, params, space, num_actions)
    config = beginning.settings(config, key)
    return State(
        params=params,
        optimizer=descending.begin(_optimizer(config), params, rates),
        memory=contexts.empty(config.memory_size, space, key.device),
        step=torch.zeros((), dtype=torch.int32, device=key.device),
        key=k_updates,
        config=config,
        metrics=beginning.no_metrics(METRICS, key),
        network=network,
        rates=rates,
    )


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an action from (1)."""
    value = nets.apply(state.network, state.params, obs)
    return exploration.sample(key, exploration.epsilon_greedy(value, _epsilon(state))), {}


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return the action with the largest predicted reward."""
    return nets.apply(state.network, state.params, obs).argmax(dim=-1)  # type: ignore[no-any-return]


def update(state: State, batch: Transition) -> State:
    """Remember one interaction of each environment, and take one gradient step on (2)."""
    config = state.config
    contexts.check_batch("neural_epsilon_greedy.update", batch, config.num_envs)
    memory = contexts.remember(state.memory, batch.obs, batch.action, batch.reward)
    drawn = contexts.recall(memory, random.fold_in(state.key, state.step), config.batch_size)
    network, params = nets.learning(state.network), nets.with_new_keys(state.network, state.params)
    of = lambda params: loss(params, network, drawn)
    after = descending.step(of, params, _optimizer(config), state.optimizer, state.rates)
    seen = nets.observed(state.network, params, drawn.obs)
    return tree.replace(
        state,
        params=descending.having_seen(after.params, seen, state.rates),
        optimizer=after.optimizer,
        memory=memory,
        step=state.step + 1,
        metrics={
            "loss": after.value,
            "estimated_value": after.beside.mean(),
            "epsilon": _epsilon(state),
            "grad_norm": after.grad_norm,
        },
    )


def _epsilon(state: State) -> Tensor:
    config = state.config
    return schedules.linear(
        config.initial_epsilon, config.epsilon, config.exploration_steps, state.memory.count
    )


def _optimizer(config: Config) -> optim.Optimizer:
    return optim.adam(config.learning_rate, epsilon=config.adam_epsilon)
