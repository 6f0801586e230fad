"""LinUCB: a linear model of each action's reward, and the upper end of its confidence interval.

Li, Chu, Langford & Schapire 2010, "A contextual-bandit approach to personalized news article
recommendation", arXiv 1003.0146, algorithm 1 (disjoint linear models). For the context x of d
numbers and each action a:

    A_a = λ I + Σ_{t: a_t = a} x_t x_tᵀ,   b_a = Σ_{t: a_t = a} r_t x_t              (lines 5, 6, 12, 13)
    θ_a = A_a⁻¹ b_a                                                                        (line 8)
    p_a = θ_aᵀ x + α √(xᵀ A_a⁻¹ x)                                                         (line 9)
    A⁻¹ ← A⁻¹ - A⁻¹x xᵀA⁻¹ / (1 + xᵀ A⁻¹ x)                                      (Sherman-Morrison)

Departures from the paper: the inverse itself is kept, d² operations a step where the paper's inversion
takes d³; λ may differ from 1; a constant 1 is appended to the context, which is flattened.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from funcrl import nets
from funcrl.algos import beginning
from funcrl.algos.bandits import contexts
from funcrl.core import Transition, checks, tree
from funcrl.ops import exploration

DEFAULT_STEPS = contexts.DEFAULT_STEPS
LOOP = "online"
LEARNT = ("inverse", "target")


@tree.struct
class Config:
    """Settings."""

    alpha: float = 0.1
    """α: width of the confidence interval; the paper's bound needs 1 + √(ln(2/δ) / 2), far more than works best"""
    prior_precision: float = 1.0
    """λ of the ridge regression, > 0; 1 in the paper"""
    num_envs: int = tree.static(default=1)
    """N: environments of one lane; they choose together, and are learnt from one after the other"""

    def __post_init__(self) -> None:
        checks.settings(
            self,
            "linucb.Config",
            not_negative=("alpha",),
            positive=("prior_precision",),
            counts=("num_envs",),
        )


@tree.struct
class State:
    """A LinUCB agent for K actions and d features."""

    inverse: Tensor
    """`[K, d, d]` A⁻¹"""
    target: Tensor
    """`[K, d]` b"""
    config: Config
    """its floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""
    parts: tuple[nets.inputs.Part, ...] = tree.static()
    """of an observation"""


METRICS = ("loss", "estimated_value", "interval")


def features(parts: tuple[nets.inputs.Part, ...], obs: Any) -> Tensor:
    """Return the features of contexts: their numbers, see `nets.inputs.row`, and a constant 1.

    Args:
        parts: Of a context.
        obs: `[...]` contexts.

    Returns:
        `[..., d]` float32.

    >>> from gymnasium import spaces
    >>> parts = nets.inputs.parts(spaces.Box(0, 9, (2,)))
    >>> features(parts, torch.tensor([[2.0, 3.0]]))
    tensor([[2., 3., 1.]])
    """
    x = nets.inputs.row(parts, obs).to(torch.float32)
    return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)


def sherman_morrison(inverse: Tensor, x: Tensor) -> Tensor:
    """Return (A + x xᵀ)⁻¹ = A⁻¹ - A⁻¹x xᵀA⁻¹ / (1 + xᵀ A⁻¹ x) for a symmetric A.

    Source: Sherman & Morrison 1950, "Adjustment of an inverse matrix".

    Args:
        inverse: `[d, d]` A⁻¹.
        x: `[d]`.

    Returns:
        `[d, d]`.

    >>> sherman_morrison(torch.eye(2), torch.tensor([1.0, 0.0]))
    tensor([[0.5000, 0.0000],
            [0.0000, 1.0000]])
    """
    v = inverse @ x
    # The product of one vector with itself is symmetric to the last bit, and so the inverse stays.
    return inverse - v[:, None] * v[None, :] / (1.0 + x @ v)


def estimate(inverse: Tensor, target: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return θ_aᵀ x and √(xᵀ A_a⁻¹ x), the two parts of line 9.

    Args:
        inverse: `[K, d, d]` A⁻¹.
        target: `[K, d]` b.
        x: `[B, d]`.

    Returns:
        `[B, K]` each.

    >>> estimate(torch.eye(2)[None] / 4, torch.tensor([[4.0, 8.0]]), torch.tensor([[2.0, 0.0]]))
    (tensor([[2.]]), tensor([[1.]]))
    """
    # One pass over the inverses, which are by far the most there is to read.
    v = x.expand(inverse.shape[0], *x.shape) @ inverse
    value = (v * target[:, None, :]).sum(dim=-1)
    # Never negative but for rounding.
    variance = torch.clamp((v * x).sum(dim=-1), min=0.0)
    return value.T, torch.sqrt(variance).T


def init(key: Tensor, config: Config, env: object) -> State:
    """Make an agent that has chosen nothing yet."""
    space, num_actions = beginning.spaces_of("linucb.init", env, contexts.CHOOSES)
    config = beginning.settings(config, key)
    parts = nets.inputs.parts(space, images=False)
    size = sum(part.size[0] for part in parts) + 1
    eye = torch.eye(size, dtype=torch.float32, device=key.device).expand(num_actions, size, size)
    return State(
        inverse=eye / config.prior_precision,
        target=torch.zeros(num_actions, size, dtype=torch.float32, device=key.device),
        config=config,
        metrics=beginning.no_metrics(METRICS, key),
        parts=parts,
    )


def act(state: State, obs: Tensor, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Take an action of the largest p_a (line 11), each of several with the same chance."""
    value, interval = _estimate(state, obs)
    best = exploration.greedy_probabilities(value + state.config.alpha * interval)
    return exploration.sample(key, best), {}


def greedy(state: State, obs: Tensor) -> Tensor:
    """Return the action of the largest θ_aᵀ x, without the interval."""
    return _estimate(state, obs)[0].argmax(dim=-1)


def update(state: State, batch: Transition) -> State:
    """Learn from one interaction of each environment (lines 12, 13), one after the other."""
    contexts.check_batch("linucb.update", batch, state.config.num_envs)
    inverse, target = state.inverse, state.target
    x = features(state.parts, batch.obs)
    chosen = batch.action
    value, interval = estimate(inverse, target, x)
    value, interval = (y.gather(1, chosen[:, None]).squeeze(1) for y in (value, interval))
    for row in range(state.config.num_envs):
        # Only the chosen action's d² numbers are read and written.
        at = (chosen[row].reshape(1),)
        changed = sherman_morrison(inverse[at].squeeze(0), x[row])
        inverse = torch.index_put(inverse, at, changed[None])
        target = torch.index_put(target, at, (batch.reward[row] * x[row])[None], accumulate=True)
    return State(
        inverse=inverse,
        target=target,
        config=state.config,
        metrics={
            "loss": ((value - batch.reward) ** 2).mean(),
            "estimated_value": value.mean(),
            "interval": (state.config.alpha * interval).mean(),
        },
        parts=state.parts,
    )


def _estimate(state: State, obs: Tensor) -> tuple[Tensor, Tensor]:
    """Return `estimate` for one context, `[K]`, or several, `[B, K]`."""
    x = features(state.parts, obs)
    value, interval = estimate(state.inverse, state.target, x.reshape(-1, x.shape[-1]))
    shape = (*x.shape[:-1], value.shape[-1])
    return value.reshape(shape), interval.reshape(shape)
