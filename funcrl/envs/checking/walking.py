"""Random episodes of an environment, every call of its methods remembered and looked at."""

from __future__ import annotations

import dataclasses
import random as python_random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from funcrl.core import random, tree
from funcrl.core.checks import require
from funcrl.envs.checking.elements import draw, outside
from funcrl.envs.checking.protocol import call, check_kept, check_result, methods
from funcrl.envs.stepping import Env

_HELD = 25
_BEGINNINGS = 16


@dataclass(frozen=True)
class Sample:
    """One call of a method."""

    arguments: tuple[Any, ...]
    """copies from before the call"""
    result: Any
    """a copy from after it"""


@dataclass(frozen=True)
class Walk:
    """What some episodes of random actions went through."""

    function: str
    """who asks, for the sentences of errors"""
    env: Env
    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    """the calls of each method, in order"""

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the environment and remember the call."""
        given = copy(arguments)
        result = call(self.function, self.env, method, *arguments)
        self.samples[method].append(Sample(given, copy(result)))
        return result

    def some(self, method: str, count: int = 3) -> list[Sample]:
        """Return a few calls of a method, spread over the walk."""
        samples = self.samples[method]
        return [samples[i * (len(samples) - 1) // max(count - 1, 1)] for i in range(count)]


def take_walk(function: str, env: Env, key: Tensor, num_steps: int) -> Walk:
    """Take random steps through as many episodes as they last, and begin a few more.

    In the second half each action is held for 25 steps, which leads further away.

    Args:
        function: Who asks, `"check_env"`.
        env: The environment.
        key: `[2]` int32.
        num_steps: How many steps, 1 or more.

    Raises:
        ValueError: When a method raises, or an episode begins in a terminal state.
    """
    walk, last, length, action = Walk(function, env), None, 0, None
    state: Any = None
    limit = env.max_episode_steps
    for t in range(num_steps):
        k_initial, k_action, k_step = random.split(random.fold_in(key, t), 3)
        if state is None:
            state, length = _begin(walk, k_initial, last), 0
        if t < num_steps // 2 or t % _HELD == 0 or action is None:
            action = draw(k_action, env.action_space)
        following = walk.call("transition", state, action, k_step)
        walk.call("observation", following, k_step)
        for method in {"reward", "score"} & set(methods(env)):
            walk.call(method, state, action, following, k_step)
        if "regret" in methods(env):
            walk.call("regret", state, action)
        over = walk.call("terminal", following, k_step)
        length += 1
        state, last = (None if bool(over) or length == limit else following), following
    for k_initial in random.split(random.fold_in(key, num_steps), _BEGINNINGS):
        _begin(walk, k_initial, None)
        _begin(walk, k_initial, last)
    return walk


def _begin(walk: Walk, key: Tensor, last: Any) -> Any:
    again = last is not None and hasattr(walk.env, "next_episode")
    state = walk.call("next_episode", last, key) if again else walk.call("initial", key)
    walk.call("observation", state, key)
    # Not remembered: the walk's terminal flags belong to its transitions, one to one.
    over = bool(call(walk.function, walk.env, "terminal", state, key))
    argument = f"{type(walk.env).__name__}.initial"
    instead = "Write a terminal that is False in every first state, or begin elsewhere."
    require(not over, walk.function, argument, "return a state that is not terminal", _Words(state), instead)
    return state


def check_purity(walk: Walk, method: str) -> None:
    """Check that calls have no effect but their result, and that this depends on nothing else.

    Every call of the walk is made once more, with the same arguments.

    Raises:
        ValueError: When a global random state, an argument, the environment or the result changes.
    """
    argument = f"{type(walk.env).__name__}.{method}"
    contents, generators = _contents(walk.env), _generators()
    for sample in walk.samples[method]:
        given = copy(sample.arguments)
        again = call(walk.function, walk.env, method, *given)
        for name, state in _generators().items():
            hold = f"leave the global random state of {name} alone"
            instead = "Write random.uniform(key) (or normal, randint, bernoulli, ...) of funcrl.core."
            require(state == generators[name], walk.function, argument, hold, "a draw from it", instead)
        for parameter, before, after in zip(methods(walk.env)[method], sample.arguments, given, strict=True):
            hold = f"not change its argument {parameter} in place"
            instead = "Write x = x + y instead of x += y, or work on x.clone()."
            found = _Words(before, after, joined=" changed to ")
            require(same(before, after), walk.function, argument, hold, found, instead)
        for name, value in _contents(walk.env).items():
            hold = f"not change the environment's {name}"
            unchanged = name in contents and same(contents[name], value)
            instead = "Keep in the state what changes."
            require(unchanged, walk.function, argument, hold, _Words(value), instead)
        hold = "return the same whenever the arguments are the same"
        found = _Words(sample.result, again, joined=" and then ")
        instead = "Draw from the key, and keep in the state what changes."
        require(same(sample.result, again), walk.function, argument, hold, found, instead)


def check_values(walk: Walk, method: str) -> None:
    """Check kinds, shapes, bounds and finiteness of all that a method returned in the walk.

    Raises:
        ValueError: When an observation lies outside its space, a reward is not finite, or a shape
            or a dtype is another than it should be.
        TypeError: When there is something else in place of a tensor.
    """
    argument = f"{type(walk.env).__name__}.{method}"
    for sample in walk.samples[method]:
        check_result(walk.function, walk.env, method, sample.arguments, sample.result)
        if method == "initial":
            check_kept(walk.function, argument, walk.samples[method][0].result, sample.result)
        if method == "observation":
            words = outside(walk.env.observation_space, sample.result)
            instead = "Write wider bounds in observation_space, or torch.clamp."
            require(not words, walk.function, argument, "lie in observation_space", words, instead)
        if method in ("reward", "score", "regret"):
            finite = bool(sample.result.isfinite())
            instead = "Write torch.clamp around what it divides by or takes the logarithm of."
            require(finite, walk.function, argument, "be finite", float(sample.result), instead)
        if method == "regret":
            instead = "Write the mean reward of the best action minus that of this one."
            least = float(sample.result)
            require(least >= 0, walk.function, argument, "not be negative", least, instead)


def copy(value: Any) -> Any:
    """Return a tree with every tensor copied."""
    return tree.map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, value)


def same(value: Any, other: Any) -> bool:
    """Return whether two trees hold the same numbers, NaN being the same as NaN."""
    leaves, others = tree.leaves(value), tree.leaves(other)
    return len(leaves) == len(others) and all(map(_same_leaf, leaves, others))


def _same_leaf(value: Any, other: Any) -> bool:
    if isinstance(value, np.ndarray):
        return np.array_equal(value, other)
    if not isinstance(value, Tensor) or not isinstance(other, Tensor):
        return bool(value is other or value == other)
    if value.dtype != other.dtype or value.shape != other.shape:
        return False
    return bool(((value == other) | (value.isnan() & other.isnan())).all())


def _contents(env: Any) -> dict[str, Any]:
    """All that an environment holds, by name, with copies of its tensors."""
    found: dict[str, Any] = {}
    for name, value in vars(env).items():
        if dataclasses.is_dataclass(value):
            found |= {f"{name}.{inner}": held for inner, held in _contents(value).items()}
        else:
            found[name] = copy(value)
    return found


def _generators() -> dict[str, Any]:
    """States of the global random generators, in a form that `==` compares."""
    name, words, *rest = np.random.get_state(legacy=True)
    assert isinstance(words, np.ndarray)
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "NumPy": (name, words.tobytes(), *rest),
        "Python": python_random.getstate(),
    }


class _Words:
    """Values in words, which are found only when an error shows them."""

    def __init__(self, *values: Any, joined: str = "") -> None:
        self.values, self.joined = values, joined

    def __repr__(self) -> str:
        lines = [" ".join(repr(value).split()) for value in self.values]
        return self.joined.join(line if len(line) <= 100 else f"{line[:100]}…" for line in lines)
