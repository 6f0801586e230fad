"""Log-probabilities, entropies and divergences of the distributions that policies use."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def categorical_log_prob(logits: Tensor, index: Tensor) -> Tensor:
    """Return log softmax(logits)[index].

    Written with a mask rather than a gather, whose gradient is a scatter.

    Args:
        logits: `[..., A]` unnormalised log-probabilities.
        index: `[...]` integers in [0, A).

    Returns:
        `[...]`.

    >>> categorical_log_prob(torch.zeros(4), torch.tensor(1)).exp()
    tensor(0.2500)
    """
    chosen = index.unsqueeze(-1) == torch.arange(logits.shape[-1], device=logits.device)
    # A mask by selection: multiplying by it would turn the -inf of an impossible class into NaN.
    return torch.where(chosen, torch.log_softmax(logits, dim=-1), 0.0).sum(dim=-1)


def categorical_entropy(logits: Tensor) -> Tensor:
    """Return the entropy -Σ p log p of softmax(logits), in nats.

    A logit of -inf rules a class out: it adds nothing, and its gradient is 0.

    Args:
        logits: `[..., A]`.

    Returns:
        `[...]` in [0, log A].

    >>> categorical_entropy(torch.zeros(4))
    tensor(1.3863)
    """
    log_prob = torch.log_softmax(logits, dim=-1)
    prob = log_prob.exp()
    # The -inf of an impossible class is taken out before the product: the gradient of a product that
    # is masked afterwards is 0 · -inf, NaN.
    return -(prob * torch.where(prob > 0, log_prob, 0.0)).sum(dim=-1)


def categorical_kl(logits: Tensor, other_logits: Tensor) -> Tensor:
    """Return KL(p ‖ q) = Σ p (log p - log q) for p = softmax(logits), q = softmax(other_logits).

    A logit of -inf in p rules a class out: it adds nothing, and its gradients are 0.

    Args:
        logits: `[..., A]`.
        other_logits: `[..., A]`.

    Returns:
        `[...]`, at least 0 up to rounding; infinite, without a gradient, where q rules out what p does not.

    >>> categorical_kl(torch.zeros(4), torch.zeros(4))
    tensor(0.)
    """
    log_p = torch.log_softmax(logits, dim=-1)
    log_q = torch.log_softmax(other_logits, dim=-1)
    p = log_p.exp()
    # Taken out before the product, as in the entropy, for the sake of the gradient.
    return (p * torch.where(p > 0, log_p - log_q, 0.0)).sum(dim=-1)


def normal_log_prob(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log-density of independent normals, summed over the last axis.

    -½ Σ [((x - μ) / σ)² + 2 log σ + log 2π]

    Args:
        x: `[..., D]`.
        mean: `[..., D]`.
        log_std: `[..., D]`, or of a shape that broadcasts.

    Returns:
        `[...]`.

    >>> normal_log_prob(torch.zeros(1), torch.zeros(1), torch.zeros(1))
    tensor(-0.9189)
    """
    scaled = (x - mean) * torch.exp(-log_std)
    return -(0.5 * scaled**2 + log_std + 0.5 * math.log(2.0 * math.pi)).sum(dim=-1)


def normal_entropy(log_std: Tensor) -> Tensor:
    """Return the entropy Σ [log σ + ½ log 2πe] of independent normals, in nats.

    Args:
        log_std: `[..., D]`.

    Returns:
        `[...]`.

    >>> normal_entropy(torch.zeros(1))
    tensor(1.4189)
    """
    return (log_std + 0.5 * math.log(2.0 * math.pi * math.e)).sum(dim=-1)


def normal_kl(mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor) -> Tensor:
    """Return KL(p ‖ q) of independent normals, summed over the last axis.

    Σ [½ ((σ_p² / σ_q² - 1) + ((μ_p - μ_q) / σ_q)²) - log(σ_p / σ_q)]

    Source: Kullback 1959, "Information theory and statistics", section 9.1, with diagonal covariances.
    Written with expm1, because both terms in σ vanish where p and q are near each other.

    Args:
        mean: `[..., D]`.
        log_std: `[..., D]`.
        other_mean: `[..., D]`.
        other_log_std: `[..., D]`.

    Returns:
        `[...]`, at least 0 up to rounding.

    >>> normal_kl(torch.zeros(1), torch.zeros(1), torch.ones(1), torch.zeros(1))
    tensor(0.5000)
    """
    log_ratio = log_std - other_log_std
    apart = (mean - other_mean) * torch.exp(-other_log_std)
    return (0.5 * (torch.expm1(2.0 * log_ratio) + apart**2) - log_ratio).sum(dim=-1)


def tanh_log_slope(x: Tensor) -> Tensor:
    """Return log(d tanh(x) / dx) = log(1 - tanh² x), each element by itself.

    2 (log 2 - x - softplus(-2x)), which stays finite where tanh x rounds to ±1.

    Source: Haarnoja et al. 2018, arXiv 1801.01290, appendix C, equation 21; in this form: Dillon et al. 2017,
    "TensorFlow Distributions", arXiv 1711.10604, its Tanh bijector. x is what goes into the tanh, not what comes
    out of it.

    >>> tanh_log_slope(torch.tensor([0.0, 50.0]))
    tensor([  0.0000, -98.6137])
    """
    return 2.0 * (math.log(2.0) - x - torch.nn.functional.softplus(-2.0 * x))


# What a standard normal is averaged over: the trapezoidal rule, whose error falls exponentially with the
# number of points (Trefethen & Weideman 2014, "The exponentially convergent trapezoidal rule", section 5).
_STEP, _POINTS = 0.2, 65


def tanh_normal_entropy(mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the entropy of tanh(x) for independent normal x, in nats, summed over the last axis.

    H[x] + Σ E[log(1 - tanh² x)]; the expectation has no closed form and is integrated numerically, with an
    error below 1e-7 for σ up to 3 and 5e-4 for σ = e².

    Args:
        mean: `[..., D]`.
        log_std: `[..., D]`.

    Returns:
        `[...]`, at most D log 2.

    >>> tanh_normal_entropy(torch.zeros(1), torch.zeros(1))
    tensor(0.6698)
    """
    points = torch.arange(_POINTS, dtype=mean.dtype, device=mean.device) - _POINTS // 2
    points = _STEP * points
    weights = torch.softmax(-0.5 * points**2, dim=-1)
    x = mean.unsqueeze(-1) + torch.exp(log_std).unsqueeze(-1) * points
    return normal_entropy(log_std) + (weights * tanh_log_slope(x)).sum(dim=-1).sum(dim=-1)


def bernoulli_log_prob(logits: Tensor, value: Tensor) -> Tensor:
    """Return the log-probability of independent coins, summed over the last axis.

    Σ log sigmoid(±l), with + where the coin shows 1.

    Args:
        logits: `[..., D]` log-odds l of 1; ±inf makes a coin certain.
        value: `[..., D]` zeros and ones.

    Returns:
        `[...]`.

    >>> bernoulli_log_prob(torch.zeros(2), torch.tensor([0, 1])).exp()
    tensor(0.2500)
    """
    return torch.nn.functional.logsigmoid(torch.where(value > 0, logits, -logits)).sum(dim=-1)


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """Return the entropy -Σ [p log p + (1 - p) log(1 - p)] of independent coins, in nats.

    Args:
        logits: `[..., D]` log-odds l of 1, p = sigmoid(l).

    Returns:
        `[...]` in [0, D log 2].

    >>> bernoulli_entropy(torch.zeros(1))
    tensor(0.6931)
    """
    return categorical_entropy(_two(logits)).sum(dim=-1)


def bernoulli_kl(logits: Tensor, other_logits: Tensor) -> Tensor:
    """Return KL(p ‖ q) of independent coins, summed over the last axis.

    Args:
        logits: `[..., D]` log-odds of 1.
        other_logits: `[..., D]`.

    Returns:
        `[...]`, at least 0 up to rounding; infinite, without a gradient, where q rules out what p does not.

    >>> bernoulli_kl(torch.zeros(1), torch.zeros(1))
    tensor(0.)
    """
    return categorical_kl(_two(logits), _two(other_logits)).sum(dim=-1)


def _two(logits: Tensor) -> Tensor:
    """Return log sigmoid(±l), the log-probabilities of 0 and 1, `[..., 2]`.

    From (0, l) the logarithm of a probability near 1 would be lost, and softmax of an infinite l is NaN.
    """
    log_sigmoid = torch.nn.functional.logsigmoid
    return torch.stack([log_sigmoid(-logits), log_sigmoid(logits)], dim=-1)
