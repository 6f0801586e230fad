"""Modified policy iteration: policy iteration whose evaluation stops after a few sweeps.

Puterman & Shin 1978, "Modified policy iteration algorithms for discounted Markov decision
problems"; Puterman 1994, "Markov decision processes", section 6.5.

    d(s) = argmax_a [ r(s, a) + γ Σ_s' P_c(s' | s, a) v_k(s') ]                            (1)
    u_0(s) = max_a [ r(s, a) + γ Σ_s' P_c(s' | s, a) v_k(s') ]                             (2)
    u_{i+1} = r_d + γ P_d u_i,   i < m,   v_{k+1} = u_m                                    (3)

With m = 0 it is value iteration, with m → ∞ policy iteration. A sweep of evaluation is cheaper than
one of value iteration by the factor A, so it pays where there are many actions or γ is near 1.

An update is one such round, from v_0 = 0. The evaluated d takes each of the exactly equal best
actions equally often; the policy that is handed out shares ties within `tie_tolerance`. For γ = 1
see `value_iteration`; besides, some d may go on for ever, which m sweeps do not notice.
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
    """Settings of modified policy iteration; every float may differ between lanes."""

    gamma: float = 0.99
    """discount γ, in [0, 1]"""
    threshold: float = 1e-12
    """converged where improving changes no value by more than this, times the largest value if that is above 1"""
    tie_tolerance: float = 1e-9
    """how much worse than the best an action may be and still share the policy, in the same unit"""
    num_sweeps: int = tree.static(default=10)
    """m: sweeps of evaluation after each improvement"""

    def __post_init__(self) -> None:
        checks.settings(
            self,
            "modified_policy_iteration.Config",
            unit=("gamma",),
            not_negative=("threshold", "tie_tolerance"),
        )
        checks.integer("modified_policy_iteration.Config", "num_sweeps", self.num_sweeps, 0)


@tree.struct
class State:
    """A planner by modified policy iteration."""

    values: Tensor
    """`[S]` v_k"""
    policy: Tensor
    """`[S, A]` greedy for the values before the last round, ties shared; uniform before the first"""
    step: Tensor
    """`[]` int32, number of rounds so far"""
    converged: Tensor
    """`[]` boolean"""
    config: Config
    """its floats are 0-d float64 tensors here"""
    metrics: dict[str, Tensor]
    """0-d float64 figures of the last round; NaN before the first"""


METRICS = ("residual", "changed_states")
"""`residual` is ‖u_0 - v_k‖ in the maximum norm; `changed_states` counts where the policy changed"""


def init(key: Tensor, config: Config, env: object) -> State:
    """Make a planner that knows nothing yet.

    Args:
        key: `[2]` int32; nothing is random, the state lives on its device.
        config: Settings; its floats may be numbers or 0-d tensors.
        env: An `Mdp`, or anything else with a Discrete `observation_space` and `action_space`.

    Raises:
        ValueError: When a space is not Discrete.
    """
    num_states, num_actions = acting.sizes("modified_policy_iteration.init", env)
    return State(
        values=torch.zeros(num_states, dtype=torch.float64, device=key.device),
        policy=acting.uniform_policy(num_states, num_actions, key.device),
        step=torch.zeros((), dtype=torch.int32, device=key.device),
        converged=torch.zeros((), dtype=torch.bool, device=key.device),
        config=beginning.settings(config, key, torch.float64),
        metrics=beginning.no_metrics(METRICS, key, torch.float64),
    )


def update(state: State, batch: Mdp) -> State:
    """Improve once and evaluate by m sweeps, (1) to (3).

    Args:
        state: The planner before.
        batch: The process, of the size given to `init`.

    Returns:
        The planner after.
    """
    config = state.config
    action_values = bellman.action_values(batch, state.values, config.gamma)
    improved = action_values.amax(dim=-1)
    residual = (improved - state.values).abs().amax()
    unit = bellman.scale(improved)
    policy = bellman.improve(action_values, config.tie_tolerance * unit)
    values = _evaluate(batch, improved, bellman.improve(action_values), config)
    return State(
        values=values,
        policy=policy,
        step=state.step + 1,
        converged=residual <= config.threshold * unit,
        config=config,
        metrics={
            "residual": residual,
            "changed_states": (policy != state.policy).any(dim=-1).sum().double(),
        },
    )


def _evaluate(mdp: Mdp, values: Tensor, policy: Tensor, config: Config) -> Tensor:
    """(3): m sweeps, on the tables of the policy alone."""
    reward = (policy * mdp.reward).sum(dim=-1)
    onward = config.gamma * torch.einsum("sa,sat->st", policy, mdp.continuing)
    for _ in range(config.num_sweeps):
        values = reward + onward @ values
    return values
