"""Noise in the parameters of a network, of a size that is learnt: exploration without ε.

Fortunato et al. 2018, "Noisy networks for exploration", arXiv 1706.10295.

    w = μ^w + σ^w ⊙ ε^w,   b = μ^b + σ^b ⊙ ε^b                                                  (9)
    ε^w_ij = f(ε_i) f(ε_j),   ε^b_j = f(ε_j),   f(x) = sgn(x) √|x|                       (10), (11)

The noise belongs to the parameters and not to the network: one draw serves a whole batch, so
`perturb` makes plain parameters of noisy ones, and any network runs with them as it is. Only linear
layers become noisy, as in the paper.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from funcrl.core import random
from funcrl.core.checks import require
from funcrl.nets.templates import Network, Params, Pure

SIGMA = ".sigma"
"""What the name of a parameter's σ ends with. No parameter of a module has such a name."""


def widen(network: Network, params: Params, scale: float | Tensor = 0.5) -> Params:
    """Return parameters with a σ beside each weight and bias of a linear layer.

    Source: Fortunato et al. 2018, section 3.2: σ = σ₀ / √p for p inputs of the layer.

    Args:
        network: The template that the parameters were made for.
        params: The means μ; the paper draws them from U(±1/√p), the default of `init`.
        scale: σ₀ ≥ 0.

    Returns:
        The means by their names, and each σ by the name of its mean and `SIGMA`.

    Raises:
        ValueError: When the network has no linear layer.

    >>> layer = nn.Linear(4, 1, device="meta")
    >>> widen(layer, {"weight": torch.zeros(1, 4), "bias": torch.zeros(1)})["bias.sigma"]
    tensor([0.2500])
    """
    wide = dict(params)
    template = network.training if isinstance(network, Pure) else network
    for path, module in template.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        for name, _ in module.named_parameters(prefix=path, recurse=False):
            wide[name + SIGMA] = torch.ones_like(params[name]) * scale / math.sqrt(module.in_features)
    require(len(wide) > len(params), "nets.noisy.widen", "network", "have a linear layer", network)
    return wide


def means(params: Params) -> Params:
    """Return the parameters without noise, μ.

    >>> sorted(means({"weight": torch.zeros(1, 4), "weight.sigma": torch.ones(1, 4)}))
    ['weight']
    """
    return {name: x for name, x in params.items() if not name.endswith(SIGMA)}


def noise(params: Params, key: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Return f(ε) for all inputs and outputs of all noisy layers, drawn once or several times.

    Args:
        params: What `widen` returned.
        key: `[2]` int32.
        shape: Of what is returned, beside the last axis. One call costs less than several, above all
            in time to compile.

    Returns:
        `[*shape, E]`, of mean 0 and variance √(2/π).

    >>> noise({"weight": torch.zeros(1, 4), "weight.sigma": torch.ones(1, 4)}, random.key(0), (3,)).shape
    torch.Size([3, 5])
    """
    normal = random.normal(key, (*shape, sum(_sizes(params))))
    return normal.sign() * normal.abs().sqrt()


def perturb(params: Params, noise: Tensor) -> Params:
    """Return parameters with noise, (9) and (10).

    Args:
        params: What `widen` returned.
        noise: `[E]` what `noise` returned.

    Returns:
        Parameters for the network, by the names of the means.

    >>> layer = {"weight": torch.zeros(1, 2), "weight.sigma": torch.ones(1, 2)}
    >>> perturb(layer, torch.tensor([2.0, 3.0, -4.0]))["weight"]
    tensor([[ 6., -8.]])
    """
    drawn, pieces = means(params), iter(torch.split(noise, _sizes(params)))
    for name in _weights(params):
        outputs, inputs = next(pieces), next(pieces)
        drawn[name] = drawn[name] + params[name + SIGMA] * outputs.unsqueeze(1) * inputs
        bias = name.removesuffix("weight") + "bias"
        if bias in drawn:
            drawn[bias] = drawn[bias] + params[bias + SIGMA] * outputs
    return drawn


def _weights(params: Params) -> list[str]:
    """Return the names of the noisy weights, sorted: the noise must not depend on the order of a dict."""
    return sorted(name.removesuffix(SIGMA) for name in params if name.endswith("weight" + SIGMA))


def _sizes(params: Params) -> list[int]:
    """Return outputs and inputs of each noisy layer."""
    return [size for name in _weights(params) for size in params[name].shape]
