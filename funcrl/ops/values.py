"""Losses and targets of action values, and of distributions over returns."""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.core.checks import require


def of_action(values: Tensor, action: Tensor) -> Tensor:
    """Return what belongs to one action in each row: values[..., a, :].

    Written with a mask rather than a gather, whose gradient is a scatter.

    Args:
        values: `[..., A, N]` N numbers for each action.
        action: `[...]` integers in [0, A).

    Returns:
        `[..., N]`.

    >>> of_action(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor(1))
    tensor([3., 4.])
    """
    chosen = action.unsqueeze(-1) == torch.arange(values.shape[-2], device=values.device)
    # A mask by selection: multiplying by it would spread the NaN of an action that was not taken.
    return torch.where(chosen.unsqueeze(-1), values, 0.0).sum(dim=-2)


def huber(error: Tensor, threshold: float | Tensor) -> Tensor:
    """Return Huber's loss: half the square of small errors, linear in large ones.

    L_κ(δ) = ½ δ² where |δ| ≤ κ, κ (|δ| - ½ κ) elsewhere

    Source: Huber 1964, "Robust estimation of a location parameter"; as clipping of the error, Mnih
    et al. 2015. Written with c = min(|δ|, κ) as c (|δ| - ½ c), whose value and gradient are finite
    for κ = ∞, the squared error.
    Often wrong: clipping δ itself and then squaring, which gives large errors no gradient at all.

    Args:
        error: `[...]` δ.
        threshold: κ > 0, in the unit of δ.

    Returns:
        `[...]`, at least 0.

    >>> huber(torch.tensor([0.5, -3.0]), 1.0)
    tensor([0.1250, 2.5000])
    """
    size = error.abs()
    clipped = size.clamp(max=threshold)
    return clipped * (size - 0.5 * clipped)


def quantile_huber(error: Tensor, level: Tensor, threshold: float | Tensor) -> Tensor:
    """Return the asymmetric Huber loss whose minimiser is a quantile (nearly: exactly so for κ = 0).

    ρ_τ(u) = |τ - 1{u < 0}| L_κ(u),   with |u| in the place of L_κ(u) where κ = 0

    Source: Dabney et al. 2018, "Distributional reinforcement learning with quantile regression",
    arXiv 1710.10044, equation 10, and 8 for κ = 0. The later paper on implicit quantile networks
    divides by κ; this one does not, and with κ = 1 there is no difference.
    Often wrong: the sign of u, target minus quantile, without which τ becomes 1 - τ.

    Args:
        error: `[...]` u = target - quantile.
        level: `[...]` τ in (0, 1), of a shape that broadcasts.
        threshold: κ ≥ 0, in the unit of u.

    Returns:
        `[...]`, at least 0.

    >>> quantile_huber(torch.tensor([2.0, -2.0]), torch.tensor(0.25), 1.0)
    tensor([0.3750, 1.1250])
    """
    threshold = torch.as_tensor(threshold, dtype=error.dtype, device=error.device)
    size = torch.where(threshold > 0, huber(error, threshold), error.abs())
    return torch.where(error < 0, 1.0 - level, level) * size


def categorical_projection(values: Tensor, probabilities: Tensor, support: Tensor) -> Tensor:
    """Return a distribution moved onto equally spaced atoms, each mass shared by its two neighbours.

    (Φ p)_i = Σ_j [1 - |clip(z'_j, z_0, z_{N-1}) - z_i| / Δz] clipped to [0, 1] · p_j

    The mean is kept where no value lies beyond the ends.

    Source: Bellemare, Dabney & Munos 2017, "A distributional perspective on reinforcement learning",
    arXiv 1707.06887, equation 7. Algorithm 1 of the paper scatters, which loses the mass of a value
    that falls on an atom (both neighbours are that atom, and both shares are 0); (7) does not.

    Args:
        values: `[..., M]` z', where the mass lies.
        probabilities: `[..., M]` p; each row sums to one.
        support: `[N]` z, N at least 2, equally spaced and rising.

    Returns:
        `[..., N]`, each row sums to one.

    Raises:
        ValueError: When the support has a single atom, or the shapes differ.

    >>> one = torch.ones(1)
    >>> categorical_projection(0.25 * one, one, torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.0000, 0.7500, 0.2500])
    """
    name, shape, num_atoms = "ops.categorical_projection", tuple(values.shape), support.shape[-1]
    require(num_atoms >= 2, name, "support", "have at least two atoms", tuple(support.shape))
    hold = f"have the shape {shape} of values"
    require(tuple(probabilities.shape) == shape, name, "probabilities", hold, tuple(probabilities.shape))
    low, high = support[0], support[-1]
    spacing = (high - low) / (num_atoms - 1)
    # Places are counted in atoms: rounding is then the same for every unit of the returns.
    place = (torch.minimum(torch.maximum(values, low), high) - low) / spacing
    atom = torch.arange(num_atoms, dtype=place.dtype, device=place.device)
    share = torch.clamp(1.0 - (place.unsqueeze(-2) - atom.unsqueeze(-1)).abs(), min=0.0)
    return (share * probabilities.unsqueeze(-2)).sum(dim=-1)


def importance_weights(probability: Tensor, exponent: float | Tensor) -> Tensor:
    """Return weights that undo the bias of drawing some rows more often than others.

    w_i = (N P(i))^-β / max_j (N P(j))^-β = (min_j P(j) / P(i))^β

    The number N of rows to draw from cancels. The largest weight of the batch is 1, so that they
    only ever make steps smaller.

    Source: Schaul et al. 2016, "Prioritized experience replay", arXiv 1511.05952, section 3.4.

    Args:
        probability: `[B]` P(i) > 0 of each row that was drawn, or anything in proportion to it.
        exponent: β in [0, 1]: 0 undoes nothing, 1 everything.

    Returns:
        `[B]` in (0, 1].

    >>> importance_weights(torch.tensor([0.5, 0.125]), 0.5)
    tensor([0.5000, 1.0000])
    """
    return (probability.amin(dim=-1, keepdim=True) / probability) ** exponent
