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
