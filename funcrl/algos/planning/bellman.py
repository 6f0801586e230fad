"""The equations of dynamic programming, each written once.

Sutton & Barto 2018, "Reinforcement learning: an introduction", chapter 4. With P_c(s' | s, a) the
probability of going on from s' (`Mdp.continuing`):

    q(s, a) = r(s, a) + γ Σ_s' P_c(s' | s, a) v(s')                                        (4.6)
    v'(s)   = Σ_a π(a | s) q(s, a)                                                         (4.5)
    π'(s)   = argmax_a q(s, a)                                                             (4.9)
    v'(s)   = max_a q(s, a)                                                                (4.10)

The book lets the value of a terminal state be 0; here an outcome that ends the episode is left out
of the sum, so that a state may be an end for one action and not for another.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.algos.planning.mdp import Mdp
from funcrl.core import tree
from funcrl.core.checks import require
from funcrl.ops import exploration


def action_values(mdp: Mdp, values: Tensor, gamma: float | Tensor) -> Tensor:
    """(4.6): q(s, a) = r(s, a) + γ Σ_s' P_c(s' | s, a) v(s').

    Often wrong: looking past the end of an episode, by summing over outcomes that terminate.

    Args:
        mdp: The process.
        values: `[S]` v.
        gamma: Discount γ in [0, 1].

    Returns:
        `[S, A]`.

    >>> chain = Mdp.from_tensors([[[0.0, 1.0]], [[0.0, 1.0]]], [[1.0], [2.0]])
    >>> action_values(chain, torch.tensor([0.0, 10.0]).double(), 0.5).flatten()
    tensor([6., 7.], dtype=torch.float64)
    """
    return mdp.reward + gamma * (mdp.continuing @ values)


def expectation_backup(mdp: Mdp, values: Tensor, policy: Tensor, gamma: float | Tensor) -> Tensor:
    """(4.5): v'(s) = Σ_a π(a | s) q(s, a), one sweep of policy evaluation over all states at once.

    Args:
        mdp: The process.
        values: `[S]` v.
        policy: `[S, A]` π(a | s).
        gamma: Discount γ in [0, 1].

    Returns:
        `[S]`.
    """
    return (policy * action_values(mdp, values, gamma)).sum(dim=-1)


def optimality_backup(mdp: Mdp, values: Tensor, gamma: float | Tensor) -> Tensor:
    """(4.10): v'(s) = max_a q(s, a), one sweep of value iteration over all states at once.

    Args:
        mdp: The process.
        values: `[S]` v.
        gamma: Discount γ in [0, 1].

    Returns:
        `[S]`.
    """
    return action_values(mdp, values, gamma).amax(dim=-1)


def scale(values: Tensor) -> Tensor:
    """Return the unit in which differences between values are judged, max(1, max |v|).

    Rounding errors grow with the values; no fixed bound is right for rewards of 1 and of 10⁹.

    Args:
        values: Any shape.

    Returns:
        `[]`.

    >>> scale(torch.tensor([-64.0, 0.5]))
    tensor(64.)
    """
    return values.abs().amax().clamp(min=1.0)


def improve(action_values: Tensor, tolerance: float | Tensor = 0.0) -> Tensor:
    """(4.9) with ties shared: the policy that takes each of the best actions equally often.

    Actions that are equally good seldom have equal values: rounding and unfinished sweeps set them
    apart. Sharing also matters for γ = 1, where some best actions may lead round in circles; taking
    all of them equally often leaves every circle that can be left without loss.

    Args:
        action_values: `[S, A]` q.
        tolerance: How much worse than the best an action may be and still count as best.

    Returns:
        `[S, A]` π.

    >>> improve(torch.tensor([[1.0, 2.0, 1.9]]), 0.2)
    tensor([[0.0000, 0.5000, 0.5000]])
    """
    best = action_values.amax(dim=-1, keepdim=True)
    return exploration.greedy_probabilities(
        torch.where(action_values >= best - tolerance, best, action_values)
    )


def solve_policy(mdp: Mdp, policy: Tensor, gamma: float | Tensor) -> Tensor:
    """(4.4): the values of a policy, v = (I - γ P_π)⁻¹ r_π.

    A state in which the policy stays for ever and earns nothing has the value 0, also for γ = 1.
    Where there is no such v, because γ = 1 and the policy may go on for ever, all of it is NaN.

    Args:
        mdp: The process.
        policy: `[S, A]` π(a | s).
        gamma: Discount γ in [0, 1].

    Returns:
        `[S]`.

    >>> loop = Mdp.from_tensors([[[1.0]]], [[1.0]])
    >>> solve_policy(loop, torch.ones(1, 1).double(), 0.75), solve_policy(loop, torch.ones(1, 1).double(), 1.0)
    (tensor([4.], dtype=torch.float64), tensor([nan], dtype=torch.float64))
    """
    reward = (policy * mdp.reward).sum(dim=-1)
    onward = torch.einsum("sa,sat->st", policy, mdp.continuing)
    identity = torch.eye(mdp.num_states, dtype=onward.dtype, device=onward.device)
    at_rest = ((onward * identity).sum(dim=-1) >= 1) & (reward == 0)
    onward = torch.where(at_rest.unsqueeze(-1), 0.0, onward)
    # Not `linalg.solve`: it raises where a matrix is singular, for all lanes together.
    # With a column for the right side: lanes of vectors would come back in another layout.
    column, _ = torch.linalg.solve_ex(identity - gamma * onward, reward.unsqueeze(-1))
    values = column.squeeze(-1)
    # A singular system has no solution, and rounding may hide that it is singular.
    error = (reward + gamma * (onward @ values) - values).abs().amax()
    return torch.where(error <= 1e-6 * scale(mdp.reward), values, torch.nan)


def can_end(mdp: Mdp, policy: Tensor | None = None) -> Tensor:
    """Return from which states an episode can end; not for compiled code.

    To stay for ever in a state, whatever one does, and to earn nothing there counts as an end.

    Args:
        mdp: The process, or several, with a lane axis.
        policy: `[S, A]`; only actions that it may take are looked at, all of them by default.

    Returns:
        `[S]` boolean, or `[L, S]`.

    >>> two = Mdp.from_tensors([[[1.0, 0.0]], [[0.0, 1.0]]], [[1.0], [1.0]], terminated=[False, True])
    >>> can_end(two)
    tensor([False,  True])
    """
    allowed = torch.ones_like(mdp.reward, dtype=torch.bool) if policy is None else policy > 0
    stays = (mdp.transition.diagonal(dim1=-3, dim2=-1).transpose(-1, -2) >= 1) & (mdp.reward == 0)
    ends = ((mdp.terminated > 0).any(dim=-1) & allowed).any(dim=-1) | (stays | ~allowed).all(dim=-1)
    leads = ((mdp.transition > 0) & allowed.unsqueeze(-1)).any(dim=-2)
    for _ in range(mdp.num_states):
        wider = ends | (leads & ends.unsqueeze(-2)).any(dim=-1)
        if torch.equal(wider, ends):
            break
        ends = wider
    return ends


def require_an_end(function: str, mdp: Mdp, gamma: Tensor, policy: Tensor | None = None) -> None:
    """Check that where γ = 1 every state has a way to an end, without which values may be infinite.

    Args:
        function: Who complains.
        mdp: The process, or several, with a lane axis.
        gamma: `[L]` the discount of each lane.
        policy: `[S, A]` or `[L, S, A]`, the policy that is evaluated; any way counts without one.

    Raises:
        ValueError: When a state has none; it is named.
    """
    undiscounted = (gamma >= 1).nonzero().flatten().tolist()
    for lane in undiscounted:
        one = mdp if mdp.num_lanes is None else tree.index(mdp, lane)
        taken = policy[lane] if policy is not None and policy.ndim == 3 else policy
        stuck = (~can_end(one, taken)).nonzero().flatten().tolist()
        who = "no policy ends" if policy is None else "the policy never ends"
        hold = f"be below 1 where {who} the episode"
        instead = f"From state {stuck[0] if stuck else ''} it would go on for ever. Write gamma=0.99."
        require(not stuck, function, "config.gamma", hold, float(gamma[lane]), instead)
        if one is mdp and taken is policy:
            return  # all lanes are alike
