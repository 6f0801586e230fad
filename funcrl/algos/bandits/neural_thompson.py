"""NeuralLinear: a network learns features, and Bayesian linear regression on them says how sure one can be.

Riquelme, Tucker & Snoek 2018, "Deep Bayesian bandits showdown", arXiv 1802.09127, section 4
(NeuralLinear). For features φ(x) of d numbers (a constant 1 among them) and each action a, the
posterior of the weights w_a in r = w_aᵀ φ(x) + noise, after n interactions:

    Λ_a = λ I + n Ĉ_a,   Ĉ_a ≈ (1/n) Σ_{t: a_t = a} φ(x_t) φ(x_t)ᵀ                                (1)
    μ_a = Λ_a⁻¹ n ĉ_a,   ĉ_a ≈ (1/n) Σ_{t: a_t = a} r_t φ(x_t)                                    (2)
    w_a ~ N(μ_a, ν² Λ_a⁻¹)  and take  argmax_a w_aᵀ φ(x)                                          (3)
    L(θ) = E_{(x, a, r) in memory} (Q_θ(x)_a - r)²,   Q_θ(x) = W φ_θ(x) + b                       (4)

The features change while they are learnt, and sums over old ones would be worth nothing. The paper
retrains every so often and refits on all that it has seen; here Ĉ and ĉ are moving averages with
factor ρ over the batches that (4) draws from the memory, with the features of the time: old
features fade in 1 / (1 - ρ) updates, while n, all interactions so far, still says how sure to be.

Two more departures: the noise's scale ν is a setting, where the paper infers it with an
inverse-gamma prior; and (3) draws w_aᵀ φ(x) itself, which is N(μ_aᵀ φ, ν² φᵀ Λ_a⁻¹ φ), anew for each
context, so that environments that choose together explore differently.
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
from funcrl.ops import exploration
from funcrl.optim import descending

DEFAULT_STEPS = contexts.DEFAULT_STEPS
LOOP = "online"
LEARNT = ("params", "moments", "posterior")


@tree.struct
class Config:
    """Settings; the defaults are for contexts that are small images."""

    learning_rate: float = 2e-3
    """step size of Adam"""
    noise: float = 0.1
    """ν: standard deviation of the reward given the features; how much to explore"""
    prior_precision: float = 1.0
    """λ > 0, of the weights' prior N(0, ν²/λ)"""
    forgetting: float = 0.99
    """ρ in [0, 1): factor of the moving averages Ĉ and ĉ in each update"""
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
    """width of each hidden layer; the last one's units are the features"""
    activation: str = tree.static(default="relu")
    """elu, gelu, relu, silu or tanh"""
    network: nn.Module | None = tree.static(default=None)
    """your own network from contexts to d - 1 features, instead of the three above; a template: its
    parameters are drawn anew from each lane's key, its own numbers are not used"""

    def __post_init__(self) -> None:
        checks.settings(
            self,
            "neural_thompson.Config",
            unit=("forgetting",),
            not_negative=("learning_rate", "noise"),
            positive=("prior_precision", "adam_epsilon"),
            counts=("num_envs", "batch_size", "memory_size", "channels", "hidden"),
        )
        contexts.check_memory("neural_thompson.Config", self.memory_size, self.num_envs)
        hold = "hold at least one width"
        checks.require(len(self.hidden) > 0, "neural_thompson.Config", "hidden", hold, self.hidden)
        if isinstance(self.forgetting, float | int):
            hold = "be below 1, or the averages never begin"
            checks.require(self.forgetting < 1, "neural_thompson.Config", "forgetting", hold, self.forgetting)


@tree.struct
class Moments:
    """Moving averages for A actions and d features; divided by `weight` they are Ĉ and ĉ."""

    square: Tensor
    """`[A, d, d]`"""
    reward: Tensor
    """`[A, d]`"""
    weight: Tensor
    """`[]` sum of the weights so far, 1 - ρ^updates"""


@tree.struct
class Posterior:
    """Mean and covariance (without ν²) of each action's weights."""

    mean: Tensor
    """`[A, d]` μ"""
    covariance: Tensor
    """`[A, d, d]` Λ⁻¹"""


@tree.struct
class State:
    """A NeuralLinear agent."""

    params: dict[str, nets.Params]
    """`features` and `head`, θ"""
    optimizer: Any
    """state of Adam"""
    memory: Memory
    """what was chosen and what it paid"""
    moments: Moments
    """what the posterior is made of"""
    posterior: Posterior
    """after the last update"""
    step: Tensor
    """`[]` int32, number of updates so far"""
    key: Tensor
    """`[2]` int32, from which each update makes its own"""
    config: Config
    """its floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""
    network: nets.Network = tree.static()
    head: nn.Module = tree.static()
    rates: descending.Rates = tree.static()
    """which numbers take no gradient"""


METRICS = ("loss", "estimated_value", "uncertainty", "grad_norm")


def moments(old: Moments, phi: Tensor, action: Tensor, reward: Tensor, forgetting: Tensor) -> Moments:
    """Return the moving averages of 1[a_i = a] φ φᵀ and 1[a_i = a] r φ after another batch.

    Args:
        old: Before.
        phi: `[B, d]` features.
        action: `[B]` int64.
        reward: `[B]`.
        forgetting: `[]` ρ.
    """
    actions = torch.arange(old.reward.shape[0], device=phi.device)
    taken = (action == actions[:, None]).to(phi.dtype) / phi.shape[0]
    new = Moments(
        square=(taken[:, :, None] * phi).transpose(1, 2) @ phi,
        reward=(taken * reward) @ phi,
        weight=torch.ones_like(old.weight),
    )
    return tree.map(lambda x, y: forgetting * x + (1.0 - forgetting) * y, old, new)  # type: ignore[no-any-return]


def posterior(average: Moments, count: Tensor, prior_precision: Tensor) -> Posterior:
    """(1), (2): Bayesian linear regression for each action.

    In float64: with n of thousands, Λ's eigenvalues span more digits than float32 has.

    Args:
        average: At least one batch.
        count: `[]` n.
        prior_precision: `[]` λ.

    >>> one = torch.ones(())
    >>> posterior(Moments(0.5 * one[None, None, None], 0.5 * one[None, None], one), 6 * one, one).mean
    tensor([[0.7500]])
    """
    square, reward, weight = (x.to(torch.float64) for x in (average.square, average.reward, average.weight))
    scale = count.to(torch.float64) / weight
    eye = torch.eye(square.shape[-1], dtype=torch.float64, device=count.device)
    precision = prior_precision.to(torch.float64) * eye + scale * square
    # cholesky_ex and not cholesky: a diverged lane gets NaN and leaves the others alone.
    root = torch.linalg.cholesky_ex(precision).L
    inverse_root = torch.linalg.solve_triangular(root, eye.expand_as(root), upper=False)
    covariance = inverse_root.transpose(-1, -2) @ inverse_root
    mean = (covariance @ (scale * reward).unsqueeze(-1)).squeeze(-1)
    return Posterior(mean=mean.to(torch.float32), covariance=covariance.to(torch.float32))


def predict(belief: Posterior, phi: Tensor) -> tuple[Tensor, Tensor]:
    """Return μ_aᵀ φ and √(φᵀ Λ_a⁻¹ φ): mean and spread (without ν) of the predicted reward.

    Args:
        belief: Of A actions.
        phi: `[..., d]`.

    Returns:
        `[..., A]` each.
    """
    rows = phi.reshape(-1, phi.shape[-1])
    # Never negative but for rounding.
    variance = torch.clamp(((rows @ belief.covariance) * rows).sum(dim=-1), min=0.0)
    shape = (*phi.shape[:-1], belief.mean.shape[0])
    return (rows @ belief.mean.T).reshape(shape), torch.sqrt(variance).T.reshape(shape)


def loss(
    params: dict[str, nets.Params], network: nets.Network, head: nn.Module, batch: Interactions
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """(4): mean squared error of the predicted reward, of the chosen actions only.

    Args:
        params: θ, the argument that is differentiated.
        network: From contexts to features.
        head: From features to one number an action.
        batch: `[B]` interactions.

    Returns:
        `[]` loss, `[B]` predicted rewards and `[B, d]` features.
    """
    phi = nets.apply(network, params["features"], batch.obs)
    value = nets.apply(head, params["head"], phi)
    chosen = value.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
    return ((chosen - batch.reward) ** 2).mean(), (chosen, _with_constant(phi))


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent."""
    function = "neural_thompson.init"
    space, num_actions = beginning.spaces_of(function, env, contexts.CHOOSES)
    network = nets.own(function, "config.network", config.network, space)
    if network is None:
        network = contexts.feature_network(space, config.channels, config.hidden, config.activation)
    k_features, k_head, k_updates = random.split(key, 3)
    params = {"features": nets.begin_whole(network, k_features)}
    width = contexts.output_size(function, network, params["features"], space)
    head = nets.mlp((width,), (), num_actions, output_gain=0.01)
    params["head"] = nets.init(head, k_head)
    rates = descending.Rates(without_gradient=nets.without_gradient({"features": network}))
    config = beginning.settings(config, key)
    size = width + 1
    eye = torch.eye(size, dtype=torch.float32, device=key.device).expand(num_actions, size, size)
    nothing = torch.zeros(num_actions, size, dtype=torch.float32, device=key.device)
    return State(
        params=params,
        optimizer=descending.begin(_optimizer(config), params, rates),
        memory=contexts.empty(config.memory_size, space, key.device),
        moments=Moments(
            torch.zeros_like(eye), nothing, torch.zeros((), dtype=torch.float32, device=key.device)
        ),
        posterior=Posterior(mean=nothing.clone(), covariance=eye / config.prior_precision),
        step=torch.zeros((), dtype=torch.int32, device=key.device),
        key=k_updates,
        config=config,
        metrics=beginning.no_metrics(METRICS, key),
        network=network,
        head=head,
        rates=rates,
    )


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Take the action that is best for a draw from the posterior, (3)."""
    k_draw, k_tie = random.split(key, 2)
    mean, spread = predict(state.posterior, _features(state, obs))
    drawn = mean + state.config.noise * spread * random.normal(k_draw, mean.shape)
    # Draws differ, but not without noise.
    return exploration.sample(k_tie, exploration.greedy_probabilities(drawn)), {}


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return the action with the largest μ_aᵀ φ(x)."""
    return predict(state.posterior, _features(state, obs))[0].argmax(dim=-1)


def update(state: State, batch: Transition) -> State:
    """Remember one interaction of each environment, take one gradient step on (4), and refit (1), (2)."""
    config = state.config
    contexts.check_batch("neural_thompson.update", batch, config.num_envs)
    memory = contexts.remember(state.memory, batch.obs, batch.action, batch.reward)
    drawn = contexts.recall(memory, random.fold_in(state.key, state.step), config.batch_size)
    network, features = nets.learning(state.network), state.params["features"]
    params = state.params | {"features": nets.with_new_keys(state.network, features)}
    of = lambda params: loss(params, network, state.head, drawn)
    after = descending.step(of, params, _optimizer(config), state.optimizer, state.rates)
    seen = {"features": nets.observed(state.network, params["features"], drawn.obs)}
    chosen, phi = after.beside
    if isinstance(state.network, nets.Pure):
        phi = _features(state, drawn.obs)  # as it is used, where that is not how it trains
    average = moments(state.moments, phi, drawn.action, drawn.reward, config.forgetting)  # type: ignore[arg-type]
    belief = posterior(average, memory.count, config.prior_precision)  # type: ignore[arg-type]
    spread = predict(belief, phi)[1].gather(-1, drawn.action.unsqueeze(-1))
    return tree.replace(
        state,
        params=descending.having_seen(after.params, seen, state.rates),
        optimizer=after.optimizer,
        memory=memory,
        moments=average,
        posterior=belief,
        step=state.step + 1,
        metrics={
            "loss": after.value,
            "estimated_value": chosen.mean(),
            "uncertainty": (config.noise * spread).mean(),
            "grad_norm": after.grad_norm,
        },
    )


def _features(state: State, obs: Tensor) -> Tensor:
    return _with_constant(nets.apply(state.network, state.params["features"], obs))


def _with_constant(phi: Tensor) -> Tensor:
    return torch.cat([phi, torch.ones_like(phi[..., :1])], dim=-1)


def _optimizer(config: Config) -> optim.Optimizer:
    return optim.adam(config.learning_rate, epsilon=config.adam_epsilon)
