"""Policy evaluation: the values of a policy, by sweeps over all states or by a linear solve.

Sutton & Barto 2018, section 4.1.

    v(s) = Σ_a π(a | s) [ r(s, a) + γ Σ_s' P_c(s' | s, a) v(s') ]                          (4.4)
    v_{k+1}(s) = Σ_a π(a | s) [ r(s, a) + γ Σ_s' P_c(s' | s, a) v_k(s') ]                  (4.5)

An update is one sweep (4.5), from v_0 = 0, or with `solver="linear"` the solution of (4.4). For
γ = 1 the policy must end from every state.
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
    """Settings of policy evaluation; every float may differ between lanes."""

    gamma: float = 0.99
    """discount γ, in [0, 1]"""
    threshold: float = 1e-12
    """converged where (4.4) is off by no more than this, times the largest value if that is above 1"""
    solver: str = tree.static(default="sweeps")
    """"sweeps", or "linear": exact after one update, at a cost of S³"""

    def __post_init__(self) -> None:
        checks.settings(self, "policy_evaluation.Config", unit=("gamma",), not_negative=("threshold",))
        checks.known("policy_evaluation.Config", "solver", self.solver, ("sweeps", "linear"))


@tree.struct
class State:
    """A policy and what is known of its values."""

    values: Tensor
    """`[S]` v_k"""
    policy: Tensor
    """`[S, A]` the policy that is evaluated; it stays as it is"""
    step: Tensor
    """`[]` int32, number of updates so far"""
    converged: Tensor
    """`[]` boolean"""
    config: Config
    """its floats are 0-d float64 tensors here"""
    metrics: dict[str, Tensor]
    """0-d float64 figures of the last update; NaN before the first"""


METRICS = ("residual", "improvable_states")
"""`residual` is ‖v_{k+1} - v_k‖ in the maximum norm, for the linear solver the error that is left in
(4.4); `improvable_states` counts where another action is better by more than the threshold"""


def init(key: Tensor, config: Config, env: object, policy: Tensor | None = None) -> State:
    """Make an evaluation that knows nothing yet.

    Args:
        key: `[2]` int32; nothing is random, the state lives on its device.
        config: Settings; its floats may be numbers or 0-d tensors.
        env: An `Mdp`, or anything else with a Discrete `observation_space` and `action_space`.
        policy: `[S, A]` the policy to evaluate; by default the one that takes every action equally
            often.

    Raises:
        ValueError: When a space is not Discrete, or the policy has another shape.
    """
    num_states, num_actions = acting.sizes("policy_evaluation.init", env)
    return State(
        values=torch.zeros(num_states, dtype=torch.float64, device=key.device),
        policy=acting.first_policy("policy_evaluation.init", policy, num_states, num_actions, key.device),
        step=torch.zeros((), dtype=torch.int32, device=key.device),
        converged=torch.zeros((), dtype=torch.bool, device=key.device),
        config=beginning.settings(config, key, torch.float64),
        metrics=beginning.no_metrics(METRICS, key, torch.float64),
    )


def update(state: State, batch: Mdp) -> State:
    """Sweep once, (4.5), or solve (4.4).

    Args:
        state: The evaluation before.
        batch: The process, of the size given to `init`.

    Returns:
        The evaluation after.
    """
    config = state.config
    before = state.values
    if config.solver == "linear":
        before = bellman.solve_policy(batch, state.policy, config.gamma)
    action_values = bellman.action_values(batch, before, config.gamma)
    values = (state.policy * action_values).sum(dim=-1)
    residual = (values - before).abs().amax()
    tolerance = config.threshold * bellman.scale(values)
    return State(
        values=values,
        policy=state.policy,
        step=state.step + 1,
        converged=residual <= tolerance,
        config=config,
        metrics={
            "residual": residual,
            "improvable_states": (action_values.amax(dim=-1) > values + tolerance).sum().double(),
        },
    )
