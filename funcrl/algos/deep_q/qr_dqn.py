"""QR-DQN: learn quantiles of the return, act by their mean.

Dabney, Rowland, Bellemare & Munos 2018, "Distributional reinforcement learning with quantile
regression", arXiv 1710.10044.

    τ̂_i = (2i - 1) / 2N,   Q(s, a) = (1 / N) Σ_i θ_i(s, a)                                  (lemma 2)
    a* = argmax_a' Q(s', a'; θ⁻),   T θ_j = r + γ θ_j(s', a*; θ⁻)                         (algorithm 1)
    ρ_τ(u) = |τ - 1{u < 0}| L_κ(u)                                                               (10)
    L(θ) = Σ_i (1 / N) Σ_j ρ_τ̂i(T θ_j - θ_i(s, a; θ))                                     (algorithm 1)

Prioritised replay, which the paper does not have, draws by the error of the mean, |E T θ - Q(s, a)|:
the loss of two equal distributions is not 0.

Departures from the paper: perceptrons for observations that are no images, and settings for classic
control.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from funcrl import nets, ops
from funcrl.algos.deep_q import agent
from funcrl.algos.deep_q.agent import LEARNT, METRICS, Errors, State
from funcrl.algos.deep_q.settings import SHARES_OF_THE_RUN, Settings
from funcrl.core import ReplayBatch, checks, masks, tree

__all__ = [
    "LEARNT",
    "LOOP",
    "METRICS",
    "SHARES_OF_THE_RUN",
    "Config",
    "State",
    "act",
    "errors",
    "greedy",
    "init",
    "target",
    "update",
]

LOOP = "off_policy"


@tree.struct
class Config(Settings):
    """Settings of QR-DQN."""

    huber_threshold: float = 1.0
    """κ: errors beyond it count linearly; 0: all errors do"""
    num_quantiles: int = tree.static(default=50)
    """N: quantiles of each distribution"""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.settings(self, "qr_dqn.Config", not_negative=("huber_threshold",), counts=("num_quantiles",))


def target(
    reward: Tensor, discount: Tensor, next_quantiles: Tensor, next_values: Tensor | None = None
) -> Tensor:
    """Algorithm 1: T θ_j = r + γ θ_j(s', a*; θ⁻).

    Args:
        reward: `[B]`.
        discount: `[B]` γ, and 0 where the episode terminated.
        next_quantiles: `[B, A, N]` θ(s', ·; θ⁻).
        next_values: `[B, A]` by which a* is chosen; their means by default.

    Returns:
        `[B, N]`.

    >>> import torch
    >>> target(torch.ones(1), torch.tensor([0.5]), torch.tensor([[[0.0, 4.0], [1.0, 1.0]]]))
    tensor([[1., 3.]])
    """
    best = (next_quantiles.mean(dim=-1) if next_values is None else next_values).argmax(dim=-1)
    return reward.unsqueeze(-1) + discount.unsqueeze(-1) * ops.of_action(next_quantiles, best)


def errors(quantiles: Tensor, action: Tensor, goal: Tensor, threshold: Tensor) -> Errors:
    """Algorithm 1: Σ_i (1 / N) Σ_j ρ_τ̂i(T θ_j - θ_i) of each row, and the error of the mean.

    Args:
        quantiles: `[B, A, N]` θ(s, ·).
        action: `[B]` int64.
        goal: `[B, N]` T θ.
        threshold: `[]` κ.

    >>> import torch
    >>> found = errors(torch.zeros(1, 1, 2), torch.tensor([0]), torch.tensor([[4.0, -4.0]]), torch.tensor(0.0))
    >>> found.loss, found.td_error  # ¼ · 4 and ¾ · 4, halved, and the same for ¾
    (tensor([4.]), tensor([0.]))
    """
    own = ops.of_action(quantiles, action)
    loss = ops.quantile_regression(own, goal, threshold).sum(dim=-1)
    q = own.mean(dim=-1)
    return Errors(loss=loss, td_error=(goal.mean(dim=-1) - q).abs(), q=q)


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent.

    A network of the settings' own returns A · N numbers, those of the first action first.
    """
    return agent.begin("qr_dqn.init", key, config, env, outputs=config.num_quantiles)


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an action from the behaviour policy over the means of the quantiles."""
    return agent.explore(state, _predict(state, state.params, obs)[1], obs, key)


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return an action whose quantiles have the best mean."""
    return _predict(state, state.params, obs)[1].argmax(dim=-1)


def update(state: State, batch: ReplayBatch) -> State:
    """Take one gradient step on the quantile Huber loss."""
    agent.check_batch("qr_dqn.update", state, batch)
    goal = target(batch.reward, batch.discount, *_predict(state, state.target_params, batch.next_obs))

    def of(params: nets.Params, network: nets.Network) -> Errors:
        quantiles = _quantiles(tree.replace(state, network=network), params, batch.obs)
        return errors(quantiles, batch.action, goal, state.config.huber_threshold)

    return agent.descend(state, batch, of)


def _predict(state: State, params: nets.Params, obs: Any) -> tuple[Tensor, Tensor]:
    """Return θ(s, ·), `[..., A, N]`, and its means Q(s, ·), `[..., A]`, -inf for actions that are not valid."""
    quantiles = _quantiles(state, params, obs)
    return quantiles, masks.values(quantiles.mean(dim=-1), obs)


def _quantiles(state: State, params: nets.Params, obs: Tensor) -> Tensor:
    """Return θ(s, ·), `[..., A, N]`."""
    numbers: Tensor = nets.apply(state.network, params, obs)
    return numbers.reshape(*numbers.shape[:-1], -1, state.config.num_quantiles)
