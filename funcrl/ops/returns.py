"""Returns and advantages of a window of experience.

Time is the first axis. Two flags end an episode and must be told apart: after `terminated` there is
nothing to bootstrap from; after `truncated` (a time limit) the state that was reached still has a
value, but the next row belongs to another episode. No function here takes a single `done`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.core import loops
from funcrl.core.checks import require


def _check_shapes(function: str, **tensors: Tensor) -> None:
    (first, expected), *rest = ((name, tuple(tensor.shape)) for name, tensor in tensors.items())
    for name, shape in rest:
        require(shape == expected, function, name, f"have the shape {expected} of {first}", shape)


def discounted_return(
    reward: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    next_value: Tensor,
    gamma: float | Tensor,
) -> Tensor:
    """Return the discounted sum of rewards to the end of each episode or of the window.

    G_t = r_t + γ G_{t+1} inside an episode; r_t where it terminates; r_t + γ V(s'_t) where it is
    truncated, and at the end of the window.

    Source: Sutton & Barto 2018, equations 3.8 and 3.9.
    Often wrong: setting G to r at a time limit, which teaches that good states are worth little.

    Args:
        reward: `[T, ...]`.
        terminated: `[T, ...]` boolean.
        truncated: `[T, ...]` boolean.
        next_value: `[T, ...]` value of the state that each step led to (zeros for plain returns).
        gamma: Discount in [0, 1].

    Returns:
        `[T, ...]`.

    Raises:
        ValueError: When the shapes differ.

    >>> no = torch.tensor([False, False])
    >>> discounted_return(torch.ones(2), no, no, torch.tensor([0.0, 10.0]), 0.5)
    tensor([4., 6.])
    """
    return lambda_return(reward, terminated, truncated, next_value, gamma, 1.0)


def lambda_return(
    reward: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    next_value: Tensor,
    gamma: float | Tensor,
    lam: float | Tensor,
) -> Tensor:
    """Return the λ-return of every step.

    G_t = r_t + γ [(1 - λ) V(s'_t) + λ G_{t+1}], with V(s'_t) in the place of G_{t+1} where the
    episode or the window ends and 0 for both where it terminates.

    Source: Sutton & Barto 2018, equation 12.20 (there for linear values).

    Args:
        reward: `[T, ...]`.
        terminated: `[T, ...]` boolean.
        truncated: `[T, ...]` boolean.
        next_value: `[T, ...]` value of the state that each step led to.
        gamma: Discount in [0, 1].
        lam: λ in [0, 1]; 0 is one step of TD, 1 the discounted return.

    Returns:
        `[T, ...]`.

    Raises:
        ValueError: When the shapes differ.

    >>> no = torch.tensor([False, False])
    >>> lambda_return(torch.ones(2), no, no, torch.tensor([8.0, 10.0]), 0.5, 0.0)
    tensor([5., 6.])
    """
    _check_shapes(
        "ops.lambda_return",
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        next_value=next_value,
    )
    # As G - V solves the recurrence of GAE with V(s_t) = 0, so G itself does with these terms:
    # the last row of the window bootstraps fully because G_{T} stands for V(s'_{T-1}).
    alive = 1.0 - terminated.to(reward.dtype)
    carry = (~(terminated | truncated)).to(reward.dtype)
    carry = torch.cat([carry[:-1], torch.zeros_like(carry[-1:])])
    term = reward + gamma * alive * next_value * (1.0 - lam * carry)
    return loops.linear_recurrence(gamma * lam * carry, term, reverse=True)


def gae(
    reward: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    value: Tensor,
    next_value: Tensor,
    gamma: float | Tensor,
    lam: float | Tensor,
) -> Tensor:
    """Return generalised advantage estimates.

    δ_t = r_t + γ V(s'_t) (1 - terminated_t) - V(s_t)
    A_t = δ_t + γ λ (1 - terminated_t) (1 - truncated_t) A_{t+1}

    Source: Schulman et al. 2016, arXiv 1506.02438, equations 11 to 16; also equations 11 and 12 of
    the PPO paper, arXiv 1707.06347.
    Often wrong: one `done` for both factors, so that a time limit counts as a death; or V(s_{t+1})
    taken from the first observation of the next episode.

    Args:
        reward: `[T, ...]`.
        terminated: `[T, ...]` boolean.
        truncated: `[T, ...]` boolean.
        value: `[T, ...]` V(s_t).
        next_value: `[T, ...]` V(s'_t), value of the state that step t led to.
        gamma: Discount γ in [0, 1].
        lam: λ in [0, 1].

    Returns:
        `[T, ...]` advantages; add `value` for the λ-returns.

    Raises:
        ValueError: When the shapes differ.

    >>> no = torch.tensor([False, False])
    >>> gae(torch.ones(2), no, no, torch.zeros(2), torch.zeros(2), 1.0, 0.5)
    tensor([1.5000, 1.0000])
    """
    _check_shapes(
        "ops.gae",
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        value=value,
        next_value=next_value,
    )
    alive = 1.0 - terminated.to(reward.dtype)
    carry = (~(terminated | truncated)).to(reward.dtype)
    delta = reward + gamma * alive * next_value - value
    return loops.linear_recurrence(gamma * lam * carry, delta, reverse=True)


def v_trace(
    log_ratio: Tensor,
    reward: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    value: Tensor,
    next_value: Tensor,
    gamma: float | Tensor,
    lam: float | Tensor = 1.0,
    clip_rho: float | Tensor = 1.0,
    clip_c: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return value targets and advantages of a policy from what another policy did.

    ρ_t = min(ρ̄, π(a_t | s_t) / μ(a_t | s_t)),  c_t = λ min(c̄, π(a_t | s_t) / μ(a_t | s_t))
    δ_t = ρ_t [r_t + γ V(s'_t) - V(s_t)]
    v_t = V(s_t) + δ_t + γ c_t [v_{t+1} - V(s_{t+1})]
    A_t = ρ_t [r_t + γ v_{t+1} - V(s_t)]

    Where an episode or the window ends, V(s'_t) stands for v_{t+1}, and 0 where it terminates.

    Source: Espeholt et al. 2018, "IMPALA", arXiv 1802.01561, equation 1 and remark 1, and section 4.2; λ as in
    its reference implementation.
    Often wrong: an advantage from v_t in the place of v_{t+1}, or from V(s'_t), which forgets the correction of
    later steps.

    Args:
        log_ratio: `[T, ...]` log π(a_t | s_t) - log μ(a_t | s_t), of the policy that learns and the one that acted.
        reward: `[T, ...]`.
        terminated: `[T, ...]` boolean.
        truncated: `[T, ...]` boolean.
        value: `[T, ...]` V(s_t).
        next_value: `[T, ...]` V(s'_t), value of the state that step t led to.
        gamma: Discount γ in [0, 1].
        lam: λ in [0, 1].
        clip_rho: ρ̄, at least `clip_c`: it decides towards which policy's values this goes.
        clip_c: c̄, how far later steps count.

    Returns:
        `[T, ...]` v and `[T, ...]` A.

    Raises:
        ValueError: When the shapes differ.

    >>> no, same = torch.tensor([False, False]), torch.zeros(2)
    >>> v_trace(same, torch.ones(2), no, no, torch.zeros(2), torch.tensor([0.0, 10.0]), 0.5)
    (tensor([4., 6.]), tensor([4., 6.]))
    """
    _check_shapes(
        "ops.v_trace",
        log_ratio=log_ratio,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        value=value,
        next_value=next_value,
    )
    ratio = torch.exp(log_ratio)
    rho, c = torch.clamp(ratio, max=clip_rho), lam * torch.clamp(ratio, max=clip_c)
    alive = 1.0 - terminated.to(reward.dtype)
    carry = (~(terminated | truncated)).to(reward.dtype)
    delta = rho * (reward + gamma * alive * next_value - value)
    correction = loops.linear_recurrence(gamma * c * carry, delta, reverse=True)
    later = torch.cat([correction[1:], torch.zeros_like(correction[:1])])
    # Inside an episode s'_t is s_{t+1}, so that V(s'_t) and its correction are v_{t+1}.
    return value + correction, rho * (reward + gamma * (alive * next_value + carry * later) - value)


def n_step(
    reward: Tensor, terminated: Tensor, truncated: Tensor, gamma: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the discounted sum of the next n rewards, or of fewer where the episode ends before.

    G = Σ_{k<m} γᵏ r_k, where step m - 1 is the first that ends the episode, or m = n if none does;
    the target of TD is G + discount · V(s'_{m-1}).

    Source: Sutton & Barto 2018, equation 7.1.
    Often wrong: rewards of the next episode added, γⁿ where only m steps were taken, or no
    bootstrapping after a time limit.

    Args:
        reward: `[n, ...]` of steps that follow each other, n small: the sum is unrolled. What comes
            after the end of the episode is not read.
        terminated: `[n, ...]` boolean.
        truncated: `[n, ...]` boolean.
        gamma: Discount γ in [0, 1].

    Returns:
        `[...]` G; `[...]` discount, γᵐ, and 0 where step m - 1 terminated; `[...]` int64, m - 1.

    Raises:
        ValueError: When the shapes differ.

    >>> no, end = torch.tensor([False, False, False]), torch.tensor([False, True, False])
    >>> n_step(torch.ones(3), no, end, 0.5)
    (tensor(1.5000), tensor(0.2500), tensor(1))
    """
    _check_shapes("ops.n_step", reward=reward, terminated=terminated, truncated=truncated)
    total, discount = torch.zeros_like(reward[0]), torch.ones_like(reward[0])
    last = torch.full_like(terminated[0], reward.shape[0] - 1, dtype=torch.int64)
    for k in reversed(range(reward.shape[0])):
        end = terminated[k] | truncated[k]
        total = reward[k] + gamma * torch.where(end, 0.0, total)
        discount = gamma * torch.where(terminated[k], 0.0, torch.where(truncated[k], 1.0, discount))
        last = torch.where(end, k, last)
    return total, discount, last
