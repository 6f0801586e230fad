"""Planning to the end: sweeps over many processes or discounts at once, until each has converged."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import gymnasium
import torch
from torch import Tensor

from funcrl import algos, envs
from funcrl.algos import planning
from funcrl.algos.planning import Mdp, bellman, reading
from funcrl.core import checks, jit, lanes, random, tree
from funcrl.core.batching import vmap
from funcrl.core.checks import require
from funcrl.train.resolve import resolve_env


@dataclass(frozen=True)
class Sweep:
    """What a callback is told after each sweep."""

    number: int
    """sweeps so far, from 1"""
    states: Any
    """states of the planner, lane axis first, on the device; `values`, `policy` and `metrics` in them"""


@dataclass(frozen=True)
class Solution:
    """What planning found, on the CPU but for `states`; L lanes, also where there is only one.

    A sweep is one update of the planner: of policy iteration, one evaluation with one improvement.
    """

    values: Tensor
    """`[L, S]` float64"""
    action_values: Tensor
    """`[L, S, A]` what each action is worth, `values` being what follows"""
    policy: Tensor
    """`[L, S, A]` probabilities; ties shared equally"""
    start_values: Tensor
    """`[L]` expected return of an episode, its first state drawn from `Mdp.initial`"""
    residuals: Tensor
    """`[L, I]` the planner's residual after each sweep, NaN after a lane's last"""
    sweeps: Tensor
    """`[L]` int32, number of sweeps that each lane took"""
    converged: Tensor
    """`[L]` boolean; the values of a lane that has not converged are no solution"""
    states: Any
    """final states of the planner, lane axis first"""


def solve(
    algorithm: str | ModuleType,
    mdp: Any,
    *,
    config: Any = None,
    policy: Any = None,
    device: torch.device | str = "cpu",
    max_sweeps: int = 100_000,
    callback: Callable[[Sweep], bool | None] | None = None,
    backend: str = "aot_eager",
) -> Solution:
    """Plan until every lane has converged, or the bound is reached.

    A lane is one process with one discount. Several discounts for one process are several lanes, as
    are several processes with one discount, or as many of both. What has converged no longer
    changes, so a lane's result does not depend on the others.

    Args:
        algorithm: Name or module, `"value_iteration"` or `funcrl.algos.planning.value_iteration`.
        mdp: An `Mdp`, or an environment that has a table of its own: a name, `"CliffWalking-v1"`, an
            environment of funcrl's or one of Gymnasium's. Its time limit does not count.
        config: Settings of the planner; its floats may be lists with one value a lane.
        policy: `[S, A]`, or `[L, S, A]`: the policy to evaluate, or that policy iteration begins
            with; the one that takes every action equally often by default.
        device: `"cpu"`, `"cuda"` or `"cuda:1"`.
        max_sweeps: Number of sweeps after which to stop in any case.
        callback: Called with a `Sweep` after each sweep; return True to stop there.
        backend: `"aot_eager"` starts at once; `"inductor"` compiles, for large processes; `"eager"`
            can be debugged.

    Returns:
        A `Solution`; it warns where a lane has not converged.

    Raises:
        ValueError: When an argument has a value that cannot be, among them a discount of 1 where an
            episode may never end.
        TypeError: When it is of the wrong kind.

    >>> config = planning.value_iteration.Config(gamma=[1.0, 0.9])
    >>> solve("value_iteration", "CliffWalking-v1", config=config).start_values
    tensor([-13.0000,  -7.4581], dtype=torch.float64)
    """
    algorithm = resolve_planner(algorithm)
    device = checks.device("solve", device)
    require(backend in jit.BACKENDS, "solve", "backend", f"be one of {', '.join(jit.BACKENDS)}", backend)
    checks.integer("solve", "max_sweeps", max_sweeps, 1)
    if callback is not None and not callable(callback):
        raise TypeError(f"solve: callback must be a function of a Sweep, got {callback!r}.")
    process = tree.map(lambda x: x.detach().to(device), resolve_mdp(mdp))
    states = _begin(algorithm, process, config, policy, device)
    advance = _advance(algorithm.update, process.num_lanes is not None, backend)

    residuals: list[Tensor] = []
    for number in range(1, max_sweeps + 1):
        states, is_running = advance(states, process)
        residuals.append(torch.where(states.step == number, states.metrics["residual"], torch.nan))
        # A callback may change what it is shown.
        stops = callback is not None and callback(Sweep(number, tree.map(torch.clone, states)))
        if stops or not bool(is_running.any()):
            break
    return _solution(states, process, torch.stack(residuals, dim=1))


def resolve_planner(algorithm: str | ModuleType) -> ModuleType:
    """Return the module of a planner given by name or as itself.

    Raises:
        ValueError: When the name is unknown.
        TypeError: When it is neither a name nor a module with the verbs of a planner.
    """
    if isinstance(algorithm, str):
        hold, instead = "plan", f"Write train({algorithm!r}, ...), or funcrl train {algorithm}."
        require(algorithm not in algos.REGISTRY, "solve", "algorithm", hold, algorithm, instead)
        checks.known("solve", "algorithm", algorithm, planning.REGISTRY)
        return planning.REGISTRY[algorithm]
    fields = getattr(getattr(algorithm, "State", None), "__dataclass_fields__", {})
    if not {"values", "policy", "step", "converged", "config", "metrics"} <= set(fields):
        raise TypeError(
            f"solve: algorithm must be a planner, got {algorithm!r}. Write 'value_iteration'; "
            "algorithms that learn from experience are for funcrl.train.train."
        )
    return algorithm


def resolve_mdp(mdp: Any) -> Mdp:
    """Return the process that is meant by a name, an environment, or itself.

    Raises:
        ValueError: When a name is unknown, or tables hold what cannot be.
        TypeError: When an environment has no table.
    """
    if isinstance(mdp, Mdp):
        # Fields may have been replaced by hand since they were checked.
        reading.check("solve", reading.Tables(mdp.transition, mdp.terminated, mdp.reward, mdp.initial))
        return mdp
    if not isinstance(mdp, str):
        return Mdp.from_gymnasium(mdp) if isinstance(mdp, gymnasium.Env) else Mdp.from_env(mdp)
    if envs.full_name(mdp) in envs.REGISTRY:
        return Mdp.from_env(envs.make(mdp))
    resolve_env("solve", mdp)
    return Mdp.from_gymnasium(gymnasium.make(mdp))


def _begin(algorithm: ModuleType, mdp: Mdp, config: Any, policy: Any, device: torch.device) -> Any:
    """Check settings and policy, and return the states of all lanes."""
    config = algorithm.Config() if config is None else config
    if not isinstance(config, algorithm.Config):
        name = algorithm.__name__.rpartition(".")[2]
        raise TypeError(
            f"solve: config must be a {name}.Config, got {config!r}. Write config={name}.Config()."
        )
    policies = None if policy is None else _policies(algorithm, mdp, policy, device)
    counts = {
        "mdp": mdp.num_lanes,
        "policy": policies.shape[0] if policies is not None and policies.ndim == 3 else None,
        "config": lanes.count("solve", "config", config),
    }
    given = {name: count for name, count in counts.items() if count is not None}
    hold = "be as many in all that has several, and at least one"
    fits = len(set(given.values())) <= 1 and 0 not in given.values()
    require(fits, "solve", "lanes", hold, given)
    num_lanes = next(iter(given.values()), 1)
    config = lanes.spread("solve", "config", config, num_lanes, torch.float64)
    gamma = torch.as_tensor(config.gamma, dtype=torch.float64, device="cpu").expand(num_lanes)
    bellman.require_an_end("solve", mdp, gamma, policies)

    values = lanes.Lanes(config)
    key = random.key(0, device)
    extra = {} if policies is None else {"policy": policies.expand(num_lanes, *policies.shape[-2:])}
    init = lambda _, numbers, given: algorithm.init(key, values.one(numbers), mdp, **given)
    numbers = [column.to(device) for column in values.values]
    states = vmap(init)(torch.arange(num_lanes, device=device), numbers, extra)
    return tree.map(lambda x: x.contiguous(), states)


def _policies(algorithm: ModuleType, mdp: Mdp, policy: Any, device: torch.device) -> Tensor:
    takes = "policy" in inspect.signature(algorithm.init).parameters
    hold = "be None for a planner that does not begin with a policy"
    require(takes, "solve", "policy", hold, type(policy).__name__, "Write 'policy_evaluation'.")
    policies = reading.policies("solve", policy, mdp.num_states, mdp.num_actions)
    return policies.to(device)


@functools.cache
def _advance(update: Callable[..., Any], has_lanes: bool, backend: str) -> jit.Jit:
    """Return the program of one sweep over all lanes; kept, so that it compiles once a shape."""

    def one(state: Any, mdp: Mdp) -> tuple[Any, Tensor]:
        # Values that are infinite or NaN would stay so.
        is_over = state.converged | ~state.values.isfinite().all()
        after = tree.where(is_over, state, update(state, mdp))
        return after, ~(after.converged | ~after.values.isfinite().all())

    return jit.jit(vmap(one, in_dims=(0, 0 if has_lanes else None)), backend=backend)


def _solution(states: Any, mdp: Mdp, residuals: Tensor) -> Solution:
    over = 0 if mdp.num_lanes is not None else None
    action_values = vmap(bellman.action_values, in_dims=(over, 0, 0))(mdp, states.values, states.config.gamma)
    start_values = (mdp.initial * states.values).sum(dim=-1)
    sweeps, converged = states.step.cpu(), states.converged.cpu()
    if not bool(converged.all()):
        lanes_left = (~converged).nonzero().flatten().tolist()
        warnings.warn(
            f"solve: {len(lanes_left)} of {len(converged)} lanes have not converged after "
            f"{int(sweeps.max())} sweeps (lanes {lanes_left[:5]}, residuals "
            f"{[float(x) for x in states.metrics['residual'].cpu()[lanes_left[:5]]]}). With gamma=1 a "
            "circle with a gain makes values infinite; otherwise allow more sweeps, max_sweeps=..., or "
            "solve at once: policy_iteration, or policy_evaluation with solver='linear'.",
            RuntimeWarning,
            stacklevel=3,
        )
    return Solution(
        values=states.values.cpu(),
        action_values=action_values.cpu(),
        policy=states.policy.cpu(),
        start_values=start_values.cpu(),
        residuals=residuals.cpu(),
        sweeps=sweeps,
        converged=converged,
        states=states,
    )
