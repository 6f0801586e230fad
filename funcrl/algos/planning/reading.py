"""Reading the tables of a Markov decision process from what people have, and checking them."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import lanes
from funcrl.core.batching import vmap
from funcrl.core.checks import require

_TOLERANCE = 1e-6


class Tables(NamedTuple):
    """The fields of an `Mdp`, in its order."""

    transition: Tensor
    terminated: Tensor
    reward: Tensor
    initial: Tensor


def from_tensors(function: str, transition: Any, reward: Any, terminated: Any, initial: Any) -> Tables:
    """Return checked tables, see `Mdp.from_tensors`."""
    transition = _numbers(function, "transition", transition)
    shape = tuple(transition.shape)
    hold = "have the shape [S, A, S], or [L, S, A, S]"
    require(len(shape) in (3, 4) and shape[-3] == shape[-1], function, "transition", hold, list(shape))
    hold = "have at least one state and one action (and one lane)"
    require(min(shape) > 0, function, "transition", hold, list(shape))
    num_states, num_actions = shape[-1], shape[-2]
    lead, device = shape[:-3], transition.device
    pair, triple = (num_states, num_actions), (num_states, num_actions, num_states)
    transition = _distributions(function, "transition", transition, len(shape) == 4)

    if initial is None:
        initial = torch.full((num_states,), 1 / num_states, dtype=torch.float64, device=device)
    initial = _fit(function, "initial", initial, lead, [(num_states,)], device)
    reward = _fit(function, "reward", reward, lead, [pair, triple], device)
    if reward.shape[len(lead) :] == triple:
        reward = (transition * reward).sum(dim=-1)
    return Tables(
        transition=transition,
        terminated=transition * _ending(function, terminated, lead, triple, device),
        reward=reward.contiguous(),
        initial=_distributions(function, "initial", initial, len(lead) > 0),
    )


def check(function: str, tables: Tables) -> None:
    """Check the fields of an `Mdp` that somebody may have put together by hand."""
    shape = tuple(tables.transition.shape)
    shapes = dict(zip(Tables._fields, (shape, shape, shape[:-1], (*shape[:-3], shape[-1])), strict=True))
    hold = "have the shape [S, A, S], or [L, S, A, S]"
    square = len(shape) in (3, 4) and shape[-3] == shape[-1]
    require(square, function, "mdp.transition", hold, list(shape))
    for name, tensor in tables._asdict().items():
        found = tuple(_numbers(function, f"mdp.{name}", tensor).shape)
        hold = f"have the shape {list(shapes[name])}"
        require(found == shapes[name], function, f"mdp.{name}", hold, list(found))
        hold, instead = "be float64", "Write Mdp.from_tensors(...)."
        require(tensor.dtype == torch.float64, function, f"mdp.{name}", hold, tensor.dtype, instead)
    has_lanes = len(shape) == 4
    _distributions(function, "mdp.transition", tables.transition, has_lanes)
    _distributions(function, "mdp.initial", tables.initial, has_lanes)
    wrong = (tables.terminated < 0) | (tables.terminated > tables.transition + _TOLERANCE)
    where = _first(wrong) if bool(wrong.any()) else []
    value = float(tables.terminated[tuple(where)]) if where else 0.0
    require(not where, function, f"mdp.terminated{where}", "be a part of mdp.transition", value)


def policies(function: str, policy: Any, num_states: int, num_actions: int) -> Tensor:
    """Return checked policies: `[S, A]`, or `[L, S, A]` with a lane axis."""
    tensor = _numbers(function, "policy", policy)
    shape = [num_states, num_actions]
    fits = tensor.ndim in (2, 3) and list(tensor.shape[-2:]) == shape
    hold = f"have the shape {shape}, or [L, {num_states}, {num_actions}]"
    require(fits, function, "policy", hold, list(tensor.shape))
    return _distributions(function, "policy", tensor, tensor.ndim == 3)


def from_gymnasium(function: str, env: Any) -> Tables:
    """Return checked tables, see `Mdp.from_gymnasium`."""
    inside = getattr(env, "unwrapped", env)
    table = getattr(inside, "P", None)
    if table is None or not hasattr(table, "__getitem__"):
        raise TypeError(
            f"{function}: env must have its table of outcomes in env.unwrapped.P, got {env!r}. "
            "Write Mdp.from_tensors(transition, reward, terminated) with the tables of your own."
        )
    rows = [table[state] for state in table] if hasattr(table, "keys") else list(table)
    hold = "hold a table of actions for each state"
    require(all(hasattr(row, "__len__") for row in rows), function, "env.unwrapped.P", hold, table)
    num_states, num_actions = len(rows), len(rows[0]) if rows else 0
    require(num_states > 0 and num_actions > 0, function, "env.unwrapped.P", "hold outcomes", table)
    transition = np.zeros((num_states, num_actions, num_states))
    terminated, reward = np.zeros_like(transition), np.zeros((num_states, num_actions))
    for state in range(num_states):
        _require_keys(function, "env.unwrapped.P", table, num_states)
        _require_keys(function, f"env.unwrapped.P[{state}]", table[state], num_actions)
        for action in range(num_actions):
            name = f"env.unwrapped.P[{state}][{action}]"
            for probability, following, paid, ends in _outcomes(function, name, table[state][action]):
                hold = f"lead to states from 0 to {num_states - 1}"
                reaches = float(following).is_integer() and 0 <= following < num_states
                require(reaches, function, name, hold, following)
                require(probability >= 0, function, name, "hold no negative probability", probability)
                following = int(following)
                transition[state, action, following] += probability
                terminated[state, action, following] += probability * bool(ends)
                reward[state, action] += probability * paid
    share = np.divide(terminated, transition, out=np.zeros_like(transition), where=transition != 0)
    return from_tensors(
        function, transition, reward, share.clip(0, 1), getattr(inside, "initial_state_distrib", None)
    )


def _outcomes(function: str, name: str, outcomes: Any) -> list[tuple[float, float, float, bool]]:
    """Return the outcomes that Gymnasium lists for a state and an action, as numbers."""
    try:
        return [
            (float(p), float(following), float(paid), bool(ends)) for p, following, paid, ends in outcomes
        ]
    except (TypeError, ValueError):
        raise TypeError(
            f"{function}: {name} must list (probability, next state, reward, terminated), got {outcomes!r}."
        ) from None


def _require_keys(function: str, name: str, table: Any, size: int) -> None:
    if hasattr(table, "keys"):
        missing = sorted(set(range(size)) ^ set(table.keys()))
        require(not missing, function, name, f"have the keys 0 to {size - 1}", list(table.keys()))
    require(len(table) == size, function, name, f"have {size} entries", len(table))


def from_env(function: str, env: Any) -> Tables:
    """Return checked tables, see `Mdp.from_env`."""
    needed = ("num_states", "action_space", "outcomes", "initial_distribution")
    missing = [name for name in needed if not hasattr(env, name)]
    if isinstance(env, type) or missing:
        lacks = f" without {', '.join(missing)}" if missing else ", a class"
        raise TypeError(
            f"{function}: env must be an environment that lists its outcomes, got {env!r}{lacks}. "
            "Write envs.make('CliffWalking-v1'), or Mdp.from_gymnasium(env) for one of Gymnasium's."
        )
    space = env.action_space
    discrete = isinstance(space, spaces.Discrete) and space.start == 0
    require(discrete, function, "env.action_space", "be Discrete (counted from 0)", space)
    num_lanes = lanes.count(function, "env", env)
    try:
        if num_lanes is None:
            tables = _tabulate(env)
        else:
            require(num_lanes > 0, function, "env", "hold at least one number in each field", num_lanes)
            several = lanes.Lanes(lanes.spread(function, "env", env, num_lanes, torch.float64))
            tables = vmap(lambda values: _tabulate(several.one(values)))(several.values)
    except (RuntimeError, AttributeError, IndexError, TypeError) as error:
        raise ValueError(
            f"{function}: env.outcomes must list outcomes as tensors under torch.vmap, with positions from 0 "
            f"to {int(env.num_states) - 1}, got an error: {str(error).splitlines()[0]}. See envs.tabular."
        ) from error
    share = tables.terminated / torch.where(tables.transition > 0, tables.transition, 1.0)
    return from_tensors(function, tables.transition, tables.reward, share.clamp(0, 1), tables.initial)


def _tabulate(env: Any) -> Tables:
    """Ask an environment for all outcomes; nothing is checked."""
    num_states, num_actions = int(env.num_states), int(env.action_space.n)
    positions = torch.arange(num_states, device="cpu").repeat_interleave(num_actions)
    actions = torch.arange(num_actions, device="cpu").repeat(num_states)
    outcomes = vmap(_in_float64(env.outcomes))(positions, actions)
    probability = outcomes.probability.double()
    empty = torch.zeros(num_states * num_actions, num_states, dtype=torch.float64, device="cpu")
    shape = (num_states, num_actions, num_states)
    ending = probability * outcomes.terminated.double()
    return Tables(
        transition=empty.scatter_add(1, outcomes.position, probability).reshape(shape),
        terminated=empty.scatter_add(1, outcomes.position, ending).reshape(shape),
        reward=(probability * outcomes.reward.double()).sum(dim=1).reshape(shape[:2]),
        initial=_in_float64(env.initial_distribution)().double(),
    )


def _in_float64(function: Any) -> Any:
    """Have an environment's function answer in float64, if it can."""
    if "dtype" not in inspect.signature(function).parameters:
        return function
    return lambda *args: function(*args, dtype=torch.float64)


def _numbers(function: str, name: str, value: Any) -> Tensor:
    try:
        if not isinstance(value, Tensor):
            value = torch.from_numpy(np.array(value, dtype=np.float64))
        if value.is_complex() or value.ndim == 0:
            raise TypeError
        tensor: Tensor = value.to(torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{function}: {name} must be a table of numbers, all rows of one length, got {value!r}."
        ) from error
    bad = ~tensor.isfinite()
    if bool(bad.any()):
        where = _first(bad)
        require(False, function, f"{name}{where}", "be finite", float(tensor[tuple(where)]))
    return tensor


def _fit(
    function: str,
    name: str,
    value: Any,
    lead: tuple[int, ...],
    shapes: list[tuple[int, ...]],
    device: torch.device,
) -> Tensor:
    """Return the tensor of one of these shapes, or of one of them behind the lane axis."""
    tensor = _numbers(function, name, value).to(device)
    for shape in shapes:
        if tuple(tensor.shape) == (*lead, *shape):
            return tensor
    for shape in shapes:
        if tuple(tensor.shape) == shape:
            return tensor.expand(*lead, *shape)
    allowed = " or ".join(str([*lead, *shape]) for shape in shapes)
    instead = "It must fit the shape of transition."
    require(False, function, name, f"have the shape {allowed}", list(tensor.shape), instead)
    return tensor


def _distributions(function: str, name: str, tensor: Tensor, has_lanes: bool) -> Tensor:
    """Check that the last axis holds probabilities, and make each row sum to one."""
    negative = tensor < 0
    if bool(negative.any()):
        where = _first(negative)
        value = float(tensor[tuple(where)])
        meaning = _meaning(where[:-1], has_lanes)
        require(False, function, f"{name}{where}", "be a probability, not negative", value, meaning)
    total = tensor.sum(dim=-1, keepdim=True)
    off = (total[..., 0] - 1).abs() > _TOLERANCE
    if bool(off.any()):
        where = _first(off)
        value = float(f"{float(total[tuple(where)]):.10g}")
        require(False, function, f"{name}{where or ''}", "sum to one", value, _meaning(where, has_lanes))
    return tensor / total


def _meaning(where: list[int], has_lanes: bool) -> str:
    """Say in words which row of probabilities it is."""
    lane, row = (f" of lane {where[0]}", where[1:]) if has_lanes else ("", where)
    parts = [f"{name} {number}" for name, number in zip(("state", "action"), row, strict=False)]
    return f"This is the row of {' and '.join(parts)}{lane}." if parts or lane else ""


def _ending(
    function: str, terminated: Any, lead: tuple[int, ...], triple: tuple[int, ...], device: torch.device
) -> Tensor:
    """Return the probability with which each outcome ends the episode, given that it happens."""
    if terminated is None:
        return torch.zeros(triple, dtype=torch.float64, device=device)
    share = _fit(function, "terminated", terminated, lead, [triple, triple[-1:]], device)
    is_boolean = getattr(terminated, "dtype", np.asarray(terminated).dtype) in (torch.bool, np.bool_)
    if share.shape[len(lead) :] == triple[-1:]:
        instead = "For S states write a list of True and False: which end the episode when they are reached."
        require(is_boolean, function, "terminated", "be boolean where its shape is [S]", terminated, instead)
        share = share[..., None, None, :]
    outside = (share < 0) | (share > 1)
    if bool(outside.any()):
        where = _first(outside)
        value = float(share[tuple(where)])
        instead = "Write the probability of ending given that the outcome happens."
        require(False, function, f"terminated{where}", "lie in [0, 1]", value, instead)
    return share


def _first(mask: Tensor) -> list[int]:
    """Return where a mask first holds."""
    return mask.nonzero()[0].tolist()
