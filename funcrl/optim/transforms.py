"""Adam, RAdam, RMSProp, SGD, clipping, and how they are chained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcrl.core import tree

Tree = Any
Number = float | Tensor


class Optimizer(NamedTuple):
    """A pair of pure functions; build one wherever it is needed, it holds no state."""

    init: Callable[[Tree], Tree]
    """`init(params) -> state`"""
    update: Callable[[Tree, Tree, Tree], tuple[Tree, Tree]]
    """`update(grads, state, params) -> (updates, state)`"""


@tree.struct
class AdamState:
    """Moments of Adam and RAdam."""

    count: Tensor
    """`[]` int32, number of updates so far"""
    mean: Tree
    """running mean of the gradient, a tree like the parameters"""
    square: Tree
    """running mean of its square, a tree like the parameters"""


@tree.struct
class RmsPropState:
    """Moments of RMSProp."""

    square: Tree
    """running mean of the gradient's square, a tree like the parameters"""


@tree.struct
class SgdState:
    """Velocity of SGD with momentum."""

    velocity: Tree
    """a tree like the parameters"""


def apply(params: Tree, updates: Tree) -> Tree:
    """Return params + updates.

    >>> apply({"w": torch.ones(1)}, {"w": torch.ones(1)})
    {'w': tensor([2.])}
    """
    return tree.map(torch.add, params, updates)


def adam(
    learning_rate: Number,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    epsilon: Number = 1e-8,
) -> Optimizer:
    """Return Adam; equal to `torch.optim.Adam`.

    m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²;
    update = -α · m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε)

    Source: Kingma & Ba 2015, arXiv 1412.6980, algorithm 1.
    Often wrong: ε inside the root, or 1e-8 where a reference used 1e-5.

    Args:
        learning_rate: Step size α.
        beta1: Decay β₁ of the mean, in [0, 1).
        beta2: Decay β₂ of the square, in [0, 1).
        epsilon: ε, added outside the root.

    Returns:
        An `Optimizer`.

    >>> optimizer = adam(0.1)
    >>> updates, _ = optimizer.update(torch.ones(1), optimizer.init(torch.ones(1)), torch.ones(1))
    >>> updates
    tensor([-0.1000])
    """

    def update(grads: Tree, state: AdamState, params: Tree) -> tuple[Tree, AdamState]:
        state = _next_moments(grads, state, beta1, beta2)
        # In float64, because 1 - β₂ᵗ cancels for small t. Two 0-d numbers a step cost nothing.
        mean_scale = _scale(1 / (1 - _power(beta1, state.count)), state.mean)
        square_scale = _scale(1 / (1 - _power(beta2, state.count)), state.square)

        def step(m: Tensor, v: Tensor) -> Tensor:
            scaled = torch.sqrt(v * square_scale[v.dtype]) + epsilon
            return -learning_rate * (m * mean_scale[m.dtype]) / scaled

        return tree.map(step, state.mean, state.square), state

    return Optimizer(_no_moments, update)


def radam(
    learning_rate: Number,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    epsilon: Number = 1e-8,
) -> Optimizer:
    """Return RAdam, Adam that waits for enough squares to divide by; equal to `torch.optim.RAdam`.

    ρ∞ = 2 / (1 - β₂) - 1;  ρ = ρ∞ - 2 t β₂ᵗ / (1 - β₂ᵗ)
    r = √((ρ - 4)(ρ - 2) ρ∞ / ((ρ∞ - 4)(ρ∞ - 2) ρ))
    update = -α · m / (1 - β₁ᵗ) · (r √(1 - β₂ᵗ) / (√v + ε) where ρ > 5, and 1 elsewhere)

    Source: Liu et al. 2020, arXiv 1908.03265, algorithm 2, which waits for ρ > 4; with 5, here as in
    torch, no gradient is divided by an estimate of less than five squares.
    Often wrong: a learning rate of Adam; before ρ > 5 the steps are as large as the gradients.

    Args:
        learning_rate: Step size α.
        beta1: Decay β₁ of the mean, in [0, 1).
        beta2: Decay β₂ of the square, in [0, 1).
        epsilon: ε, added outside the root.

    Returns:
        An `Optimizer`.

    >>> optimizer = radam(0.1)
    >>> optimizer.update(torch.full((1,), 3.0), optimizer.init(torch.ones(1)), torch.ones(1))[0]
    tensor([-0.3000])
    """

    def update(grads: Tree, state: AdamState, params: Tree) -> tuple[Tree, AdamState]:
        state = _next_moments(grads, state, beta1, beta2)
        power = _power(beta2, state.count)
        longest = 2 / (1 - _power(beta2, torch.ones_like(state.count))) - 1
        length = longest - 2 * state.count * power / (1 - power)
        # Where it is not used, any positive number keeps the root real.
        used = torch.clamp(length, min=5.0)
        ratio = (used - 4) * (used - 2) * longest / ((longest - 4) * (longest - 2) * used)
        rectified = _scale(torch.sqrt(ratio * (1 - power)), state.square)
        mean_scale = _scale(1 / (1 - _power(beta1, state.count)), state.mean)

        def step(m: Tensor, v: Tensor) -> Tensor:
            adapted = torch.where(length > 5.0, rectified[v.dtype] / (torch.sqrt(v) + epsilon), 1.0)
            return -learning_rate * (m * mean_scale[m.dtype]) * adapted

        return tree.map(step, state.mean, state.square), state

    return Optimizer(_no_moments, update)


def rmsprop(learning_rate: Number, decay: Number = 0.99, epsilon: Number = 1e-8) -> Optimizer:
    """Return RMSProp; equal to `torch.optim.RMSprop`.

    v ← β v + (1 - β) g²;  update = -α · g / (√v + ε)

    Source: Tieleman & Hinton 2012, "Lecture 6.5 - RMSProp", COURSERA: Neural networks for machine learning.
    Often wrong: ε inside the root and v that starts at 1, as TensorFlow has them; the first steps are then
    much smaller.

    Args:
        learning_rate: Step size α.
        decay: Decay β of the square, in [0, 1).
        epsilon: ε, added outside the root.

    Returns:
        An `Optimizer`.

    >>> optimizer = rmsprop(0.1, decay=0.75)
    >>> optimizer.update(torch.full((1,), 3.0), optimizer.init(torch.ones(1)), torch.ones(1))[0]
    tensor([-0.2000])
    """

    def init(params: Tree) -> RmsPropState:
        return RmsPropState(square=tree.map(torch.zeros_like, params))

    def update(grads: Tree, state: RmsPropState, params: Tree) -> tuple[Tree, RmsPropState]:
        square = tree.map(lambda v, g: decay * v + (1 - decay) * g * g, state.square, grads)
        step = lambda v, g: -learning_rate * g / (torch.sqrt(v) + epsilon)
        return tree.map(step, square, grads), RmsPropState(square=square)

    return Optimizer(init, update)


def _no_moments(params: Tree) -> AdamState:
    return AdamState(
        count=torch.zeros((), dtype=torch.int32, device=tree.leaves(params)[0].device),
        mean=tree.map(torch.zeros_like, params),
        square=tree.map(torch.zeros_like, params),
    )


def _next_moments(grads: Tree, state: AdamState, beta1: Number, beta2: Number) -> AdamState:
    return AdamState(
        count=state.count + 1,
        mean=tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state.mean, grads),
        square=tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state.square, grads),
    )


def _power(base: Number, exponent: Tensor) -> Tensor:
    if not isinstance(base, Tensor):
        # Made on the device: a number copied there from the host could not be captured in a CUDA graph.
        base = torch.full((), base, device=exponent.device, dtype=torch.float64)
    return torch.pow(base.to(torch.float64), exponent)


def _scale(number: Tensor, moments: Tree) -> dict[torch.dtype, Tensor]:
    """Return a 0-d float64 number for leaves of each dtype: as it is for float64, in float32 for others."""
    dtypes = dict.fromkeys(leaf.dtype for leaf in tree.leaves(moments))
    return {dtype: number if dtype == torch.float64 else number.to(torch.float32) for dtype in dtypes}


def sgd(learning_rate: Number, momentum: Number = 0.0) -> Optimizer:
    """Return stochastic gradient descent; equal to `torch.optim.SGD`.

    u ← μ u + g;  update = -α u

    Args:
        learning_rate: Step size α.
        momentum: μ in [0, 1).

    Returns:
        An `Optimizer`.

    >>> optimizer = sgd(0.1)
    >>> optimizer.update(torch.ones(1), optimizer.init(torch.ones(1)), torch.ones(1))[0]
    tensor([-0.1000])
    """

    def init(params: Tree) -> SgdState:
        return SgdState(velocity=tree.map(torch.zeros_like, params))

    def update(grads: Tree, state: SgdState, params: Tree) -> tuple[Tree, SgdState]:
        velocity = tree.map(lambda u, g: momentum * u + g, state.velocity, grads)
        return tree.map(lambda u: -learning_rate * u, velocity), SgdState(velocity=velocity)

    return Optimizer(init, update)


def global_norm(grads: Tree) -> Tensor:
    """Return the Euclidean norm of all leaves together.

    >>> global_norm({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])})
    tensor(5.)
    """
    return torch.sqrt(sum((leaf * leaf).sum() for leaf in tree.leaves(grads)))


def clip_by_global_norm(max_norm: Number) -> Optimizer:
    """Return a transformation that scales the whole gradient down to `max_norm`.

    g ← g · min(1, c / ‖g‖), equal to `torch.nn.utils.clip_grad_norm_` (which adds 1e-6 to ‖g‖).

    Source: Pascanu et al. 2013, arXiv 1211.5063, algorithm 1.
    Often wrong: clipping each element or each leaf by itself, which turns the gradient.

    Args:
        max_norm: Largest norm c; infinity leaves the gradient alone.

    Returns:
        An `Optimizer` whose updates are gradients.

    >>> clip_by_global_norm(1.0).update(torch.tensor([3.0, 4.0]), (), None)[0]
    tensor([0.6000, 0.8000])
    """

    def update(grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        scale = torch.clamp(max_norm / (global_norm(grads) + 1e-6), max=1.0)
        return tree.map(lambda g: g * scale, grads), state

    return Optimizer(lambda params: (), update)


def chain(*optimizers: Optimizer) -> Optimizer:
    """Return the optimiser that applies each of `optimizers` to what the one before it returned.

    >>> optimizer = chain(clip_by_global_norm(1.0), sgd(1.0))
    >>> optimizer.update(torch.tensor([3.0, 4.0]), optimizer.init(torch.zeros(2)), None)[0]
    tensor([-0.6000, -0.8000])
    """

    def init(params: Tree) -> tuple[Tree, ...]:
        return tuple(optimizer.init(params) for optimizer in optimizers)

    def update(grads: Tree, state: tuple[Tree, ...], params: Tree) -> tuple[Tree, tuple[Tree, ...]]:
        new_state = []
        for optimizer, part in zip(optimizers, state, strict=True):
            grads, part = optimizer.update(grads, part, params)
            new_state.append(part)
        return grads, tuple(new_state)

    return Optimizer(init, update)


def polyak(target: Tree, online: Tree, tau: Number) -> Tree:
    """Return the moving average (1 - τ) · target + τ · online.

    Source: Lillicrap et al. 2016, arXiv 1509.02971, algorithm 1, last line.
    Often wrong: swapping the two, which some libraries do under the same name.

    Args:
        target: Slow tree.
        online: Fast tree of the same structure.
        tau: τ in [0, 1]; 1 copies.

    >>> polyak(torch.zeros(1), torch.ones(1), 0.25)
    tensor([0.2500])
    """

    def average(slow: Tensor, fast: Tensor) -> Tensor:
        # Whole numbers, as batch normalisation counts, have no averages.
        return (1 - tau) * slow + tau * fast if fast.is_floating_point() else fast

    return tree.map(average, target, online)
