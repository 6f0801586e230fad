"""What an environment must have, and what its methods must return after one step."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import numbers
from typing import Any

import gymnasium
import numpy as np
import torch.utils._pytree as torch_pytree
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.core.checks import require
from funcrl.envs.checking.elements import check_element, check_space, check_tensor, draw
from funcrl.envs.checking.problems import failed, together
from funcrl.envs.host import HostEnv
from funcrl.envs.stepping import Env

METHODS: dict[str, tuple[str, ...]] = {
    "initial": ("key",),
    "transition": ("state", "action", "key"),
    "observation": ("state", "key"),
    "reward": ("state", "action", "next_state", "key"),
    "terminal": ("state", "key"),
}
"""The methods that an environment must have, and what they take."""

_OPTIONAL = {
    "next_episode": ("state", "key"),
    "score": ("state", "action", "next_state", "key"),
    "regret": ("state", "action"),
}

_ATTRIBUTES = ("observation_space", "action_space", "max_episode_steps")


def methods(env: Env) -> dict[str, tuple[str, ...]]:
    """Return the methods of an environment that are functions of one state, and what they take."""
    return METHODS | {name: takes for name, takes in _OPTIONAL.items() if hasattr(env, name)}


def call(function: str, env: Env, method: str, *arguments: Any) -> Any:
    """Return what a method returns, or name the method that could not.

    Raises:
        ValueError: When it raises anything, which becomes the cause.
    """
    try:
        return getattr(env, method)(*arguments)
    except Exception as error:
        takes = ", ".join(methods(env)[method])
        raise failed(function, f"{type(env).__name__}.{method}", f"run on ({takes})", error) from error


def check_protocol(function: str, env: Any) -> None:
    """Check that something is an environment: its methods, its attributes, its fields.

    Args:
        function: Who complains, `"check_env"`.
        env: What was given.

    Raises:
        TypeError: When it is something else, or of a class that is no struct.
        ValueError: When its time limit cannot be.

    >>> check_protocol("check_env", "CartPole-v1")
    Traceback (most recent call last):
    TypeError: check_env: env must be an environment, got 'CartPole-v1'. Write envs.make('CartPole-v1').
    """
    name = type(env).__name__
    hold = f"{function}: env must be an environment, got"
    if isinstance(env, str):
        raise TypeError(f"{hold} {env!r}. Write envs.make({env!r}).")
    if isinstance(env, type):
        raise TypeError(f"{hold} the class {env.__name__}. Write {env.__name__}().")
    if isinstance(env, (gymnasium.Env, gymnasium.vector.VectorEnv, HostEnv)):
        spec = getattr(env, "spec", None)
        maker = repr(spec.id) if spec else "lambda: ..."
        raise TypeError(
            f"{hold} a {name}, which Gymnasium runs on the host. Write gymnasium.utils.env_checker.check_env "
            f"to check it, and envs.from_gymnasium({maker}) to train on it."
        )
    missing = [verb for verb in (*METHODS, *_ATTRIBUTES) if not hasattr(env, verb)]
    if missing:
        raise TypeError(
            f"{function}: {name} must have {', '.join((*METHODS, *_ATTRIBUTES))}, got one without "
            f"{', '.join(missing)}. Write them as in funcrl/envs/cartpole.py."
        )
    together(
        [
            *(functools.partial(_check_signature, function, env, method) for method in methods(env)),
            functools.partial(_check_limit, function, env),
            functools.partial(_check_fields, function, env),
        ]
    )


def _check_signature(function: str, env: Any, method: str) -> None:
    name, takes = type(env).__name__, methods(env)[method]
    found = getattr(env, method)
    if not callable(found):
        raise TypeError(f"{function}: {name}.{method} must be a method, got {found!r}.")
    try:
        inspect.signature(found).bind(*takes)
    except TypeError:
        raise TypeError(
            f"{function}: {name}.{method} must take ({', '.join(takes)}), got {inspect.signature(found)}. "
            f"Write def {method}(self, {', '.join(takes)})."
        ) from None
    except ValueError:
        return  # built in: it does not tell


def _check_limit(function: str, env: Any) -> None:
    if env.max_episode_steps is not None:
        checks.integer(function, f"{type(env).__name__}.max_episode_steps", env.max_episode_steps, 1)


def _check_fields(function: str, env: Any) -> None:
    name = type(env).__name__
    if torch_pytree.tree_structure(env).is_leaf():
        raise TypeError(
            f"{function}: {name} must be a struct, so that its numbers can be swept, got a class that is "
            f"none. Write @tree.struct above class {name}, also where its base has it."
        )
    _check_struct(function, name, env)
    for path, leaf in tree.named_leaves(env).items():
        if not isinstance(leaf, (numbers.Real, Tensor)) or isinstance(leaf, bool):
            raise TypeError(
                f"{function}: {name}{path} must be a number, a tensor or static, got {leaf!r}. "
                f"Write {path.rpartition('.')[2]}: {type(leaf).__name__} = tree.static(default={leaf!r})."
            )


def _check_struct(function: str, name: str, node: Any) -> None:
    for field in dataclasses.fields(node):
        argument, value = f"{name}.{field.name}", getattr(node, field.name)
        if field.metadata.get("static", False):
            _check_static(function, argument, value)
        elif dataclasses.is_dataclass(value):
            _check_struct(function, argument, value)
        elif field.type in ("float", float) and (isinstance(value, (list, tuple)) or np.ndim(value)):
            raise TypeError(
                f"{function}: {argument} must be one number, got {value!r}. "
                "Write the number of one lane: several are for `train` and `make_vec`."
            )


def _check_static(function: str, argument: str, value: Any) -> None:
    try:
        hash(value)
        fixed = not isinstance(value, Tensor)
    except TypeError:
        fixed = False
    if not fixed:
        raise TypeError(
            f"{function}: {argument} must be immutable where it is static, got {value!r}. "
            "Write a tuple, or make it a tensor without tree.static."
        )


def check_returns(function: str, env: Env) -> None:
    """Check an environment's spaces, take one step, and check what its methods return.

    Args:
        function: Who complains, `"train"`.
        env: Something with the methods and attributes of an environment.

    Raises:
        ValueError: When a space cannot be, or a shape or dtype is another than it should be. All
            problems are named.
        TypeError: When no tensor is returned.
    """
    name = type(env).__name__
    together(
        [
            lambda: check_space(function, f"{name}.observation_space", env.observation_space),
            lambda: check_space(function, f"{name}.action_space", env.action_space, action=True),
        ]
    )
    k_initial, k_step, k_action = random.split(random.key(0, "cpu"), 3)
    before = call(function, env, "initial", k_initial)
    check_state(function, f"{name}.initial", before)
    action = draw(k_action, env.action_space)
    after = call(function, env, "transition", before, action, k_step)
    rest: list[tuple[str, tuple[Any, ...]]] = [
        ("observation", (before, k_initial)),
        ("observation", (after, k_step)),
        ("reward", (before, action, after, k_step)),
        ("terminal", (after, k_step)),
    ]
    if hasattr(env, "regret"):
        rest.append(("regret", (before, action)))

    def check(method: str, arguments: tuple[Any, ...]) -> None:
        check_result(function, env, method, arguments, call(function, env, method, *arguments))

    check_result(function, env, "transition", (before, action, k_step), after)
    together(functools.partial(check, *given) for given in rest)


def check_state(function: str, argument: str, state: Any) -> None:
    """Check that a state is made of tensors.

    Raises:
        TypeError: When a leaf is something else.
    """
    for path, leaf in tree.named_leaves(state).items():
        if not isinstance(leaf, Tensor):
            raise TypeError(
                f"{function}: {argument} must return a state of tensors, got {leaf!r}{path and f' in {path}'}. "
                "Write torch.full((), x, device=key.device)."
            )


def check_result(function: str, env: Env, method: str, arguments: tuple[Any, ...], result: Any) -> None:
    """Check structure, shapes and dtypes of what a method returned.

    Args:
        function: Who complains.
        env: The environment.
        method: One of `methods(env)`.
        arguments: What the method was called with.
        result: What it returned.

    Raises:
        ValueError: When a shape or a dtype is another than it should be.
        TypeError: When there is something else in place of a tensor.
    """
    argument = f"{type(env).__name__}.{method}"
    if method == "observation":
        check_element(function, argument, env.observation_space, result)
    elif method in ("reward", "score", "regret"):
        check_tensor(function, argument, result, (), None)
    elif method == "terminal":
        check_tensor(function, argument, result, (), "torch.bool")
    else:
        check_state(function, argument, result)
    if method in ("transition", "next_episode"):
        check_kept(function, argument, arguments[0], result)


def check_kept(function: str, argument: str, before: Any, after: Any) -> None:
    """Check that two states have the same structure, shapes and dtypes.

    Raises:
        ValueError: When they have not.
    """
    given, found = (f"{type(x).__name__}({', '.join(tree.named_leaves(x))})" for x in (before, after))
    kept = torch_pytree.tree_structure(before) == torch_pytree.tree_structure(after)
    found += " with other static fields" if given == found else ""
    require(kept, function, argument, f"keep the structure of the state, {given}", found)
    leaves = tree.named_leaves(before)
    for path, leaf in tree.named_leaves(after).items():
        given, found = (f"{list(x.shape)} {x.dtype}" for x in (leaves[path], leaf))
        hold = f"keep shape and dtype of the state{path and f' in {path}'}, {given}"
        instead = "" if leaf.dtype == leaves[path].dtype else f"Write x.to({leaves[path].dtype})"
        instead += f", or let initial begin with {leaf.dtype}." if instead else ""
        require(given == found, function, argument, hold, found, instead)
