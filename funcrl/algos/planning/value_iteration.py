"""Value iteration: improve the values of all states by looking one step ahead, again and again.

Bellman 1957, "Dynamic programming"; Sutton & Barto 2018, section 4.4.

    v_{k+1}(s) = max_a [ r(s, a) + γ Σ_s' P_c(s' | s, a) v_k(s') ]                        (4.10)

An update is one sweep over all states at once, from v_0 = 0. Each sweep brings the values nearer to
the optimal ones by the factor γ at least: ‖v_{k+1} - v*‖ ≤ γ / (1 - γ) · ‖v_{k+1} - v_k‖, in the
maximum norm (Puterman 1994, "Markov decision processes", theorem 6.3.1).

For γ = 1 the values are those of the best way to the end, as long as no way of going on for ever
earns as much: there must be no circle with a gain, nor one without a cost where every end has one.
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
    """Settings of value iteration; every float may differ between lanes."""

    gamma: float = 0.99
    """discount γ, in [0, 1]"""
    threshold: float = 1e-12
    """converged where no value changes by more than this, times the largest value if that is above 1"""
    tie_tolerance: float = 1e-9
    """how much worse than the best an action may be and still share the policy, in the same unit"""

    def __post_init__(self) -> None:
        checks.settings(
            self, "value_iteration.Config", unit=("gamma",), not_negative=("threshold", "tie_tolerance")
        )


@tree.struct
class State:
    """A planner by value iteration."""

    values: Tensor
    """`[S]` v_k"""
    policy: Tensor
    """`[S, A]` greedy for the values before the last sweep, ties shared; uniform before the first"""
    step: Tensor
    """`[]` int32, number of sweeps so far"""
    converged: Tensor
    """`[]` boolean"""
    config: Config
    """its floats are 0-d float64 tensors here"""
    metrics: dict[str, Tensor]
    """0-d float64 figures of the last sweep; NaN before the first"""


METRICS = ("residual", "changed_states")
"""`residual` is ‖v_{k+1} - v_k‖ in the maximum norm; `changed_states` counts where the policy changed"""


def init(key: Tensor, config: Config, env: object) -> State:
    """Make a planner that knows nothing yet.

    Args:
        key: `[2]` int32; nothing is random, the state lives on its device.
        config: Settings; its floats may be numbers or 0-d tensors.
        env: An `Mdp`, or anything else with a Discrete `observation_space` and `action_space`.

    Raises:
        ValueError: When a space is not Discrete.
    """
    num_states, num_actions = acting.sizes("value_iteration.init", env)
    return State(
        values=torch.zeros(num_states, dtype=torch.float64, device=key.device),
        policy=acting.uniform_policy(num_states, num_actions, key.device),
        step=torch.zeros((), dtype=torch.int32, device=key.device),
        converged=torch.zeros((), dtype=torch.bool, device=key.device),
        config=beginning.settings(config, key, torch.float64),
        metrics=beginning.no_metrics(METRICS, key, torch.float64),
    )


def update(state: State, batch: Mdp) -> State:
    """Sweep once over all states, (4.10).

    Args:
        state: The planner before.
        batch: The process, of the size given to `init`.

    Returns:
        The planner after.
    """
    config = state.config
    action_values = bellman.action_values(batch, state.values, config.gamma)
    values = action_values.amax(dim=-1)
    unit = bellman.scale(values)
    policy = bellman.improve(action_values, config.tie_tolerance * unit)
    residual = (values - state.values).abs().amax()
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
