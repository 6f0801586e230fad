"""Policy iteration: evaluate the policy exactly, make it greedy, until it stays as it is.

Howard 1960, "Dynamic programming and Markov processes"; Sutton & Barto 2018, section 4.3.

    v_k = (I - γ P_πk)⁻¹ r_πk                                                              (4.4)
    π_{k+1}(s) = argmax_a [ r(s, a) + γ Σ_s' P_c(s' | s, a) v_k(s') ]                      (4.9)

An update is one evaluation and one improvement, from the policy that takes every action equally
often. Departures from the book's pseudocode, with their reasons:

- The policy changes only in states where that is better by more than `threshold`, so every change
  raises a value and no policy comes back; the book's may cycle between equally good ones for ever
  (its exercise 4.4). It has converged when no state changes.
- Evaluation is a linear solve, not sweeps that stop early.
- The policy that is handed out in the end shares ties equally, which (4.9) leaves open.

For γ = 1 evaluation needs policies that end. The first one does wherever any does, and so do all
others, unless the process has a circle with a gain, in which values are infinite: Let π' be an
improvement of a π that ends, and C a set of states that π' never leaves. Averaged over C as π'
visits it, the reward equals the gain of π' over v_π, which is not negative. If it is positive, so
is the reward of the circle. If it is 0, nothing was better anywhere in C, π' is π there, and π
leaves C. In that case the values become NaN, and the planner never converges. A circle that earns
nothing is never entered, also where every end costs something: what comes out is the best way to
the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from funcrl.algos import beginning
from funcrl.algos.planning import acting, bellman
from funcrl.algos.planning.acting import act, greedy
from funcrl.algos.planning.mdp import Mdp
from funcrl.core import checks, tree

__all__ = ["METRICS", "Config", "State", "act", "greedy", "init", "update"]


@tree.struct
class Config:
    """Settings of policy iteration; every float may differ between lanes."""

    gamma: float = 0.99
    """discount γ, in [0, 1]"""
    threshold: float = 1e-10
    """an action is better if it is by more than this, times the largest value if that is above 1; far
    below it lie the rounding errors of the linear solve"""
    tie_tolerance: float = 1e-9
    """how much worse than the best an action may be and still share the final policy, in the same
    unit; at least A · threshold, so that no action of the converged policy is left out"""

    def __post_init__(self) -> None:
        checks.settings(
            self, "policy_iteration.Config", unit=("gamma",), not_negative=("threshold", "tie_tolerance")
        )


@tree.struct
class State:
    """A planner by policy iteration."""

    values: Tensor
    """`[S]` v_k, those of the policy before the last improvement; 0 before the first"""
    policy: Tensor
    """`[S, A]` π_{k+1}"""
    step: Tensor
    """`[]` int32, number of improvements so far"""
    converged: Tensor
    """`[]` boolean"""
    config: Config
    """its floats are 0-d float64 tensors here"""
    metrics: dict[str, Tensor]
    """0-d float64 figures of the last improvement; NaN before the first"""


METRICS = ("residual", "changed_states")
"""`residual` is the most that one improvement gains in a state, max_s [max_a q_k(s, a) - v_k(s)];
`changed_states` counts the states where it gains more than the threshold"""


def init(key: Tensor, config: Config, env: object, policy: Tensor | None = None) -> State:
    """Make a planner that knows nothing yet.

    Args:
        key: `[2]` int32; nothing is random, the state lives on its device.
        config: Settings; its floats may be numbers or 0-d tensors.
        env: An `Mdp`, or anything else with a Discrete `observation_space` and `action_space`.
        policy: `[S, A]` the policy to begin with; by default the one that takes every action equally
            often.

    Raises:
        ValueError: When a space is not Discrete, or the policy has another shape.
    """
    num_states, num_actions = acting.sizes("policy_iteration.init", env)
    return State(
        values=torch.zeros(num_states, dtype=torch.float64, device=key.device),
        policy=acting.first_policy("policy_iteration.init", policy, num_states, num_actions, key.device),
        step=torch.zeros((), dtype=torch.int32, device=key.device),
        converged=torch.zeros((), dtype=torch.bool, device=key.device),
        config=beginning.settings(config, key, torch.float64),
        metrics=beginning.no_metrics(METRICS, key, torch.float64),
    )


def update(state: State, batch: Mdp) -> State:
    """Evaluate the policy, (4.4), and improve it, (4.9).

    Args:
        state: The planner before.
        batch: The process, of the size given to `init`.

    Returns:
        The planner after.
    """
    config = state.config
    values = bellman.solve_policy(batch, state.policy, config.gamma)
    action_values = bellman.action_values(batch, values, config.gamma)
    gain = action_values.amax(dim=-1) - values
    tolerance = config.threshold * bellman.scale(values)
    is_better = gain > tolerance
    policy = torch.where(is_better.unsqueeze(-1), bellman.improve(action_values), state.policy)
    # Written so that values that are NaN have not converged.
    converged = (gain <= tolerance).all()
    ties = torch.maximum(config.tie_tolerance * bellman.scale(values), batch.num_actions * tolerance)
    return State(
        values=values,
        policy=torch.where(converged, bellman.improve(action_values, ties), policy),
        step=state.step + 1,
        converged=converged,
        config=config,
        metrics={"residual": gain.amax(), "changed_states": is_better.sum().double()},
    )
