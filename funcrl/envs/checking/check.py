"""Telling what is wrong with an environment, method by method, before anything is trained on it.

Gymnasium's `check_env` looks at spaces and at returned values. Here an environment is a set of pure
functions that `vmap` and the compiler take apart, and most of what can go wrong lies there.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from funcrl.core import checks, jit, random, tree
from funcrl.core.checks import require
from funcrl.core.graphs import no_fallback
from funcrl.envs.checking.problems import failed, together
from funcrl.envs.checking.protocol import check_protocol, check_returns, methods
from funcrl.envs.checking.walking import Sample, Walk, check_purity, check_values, take_walk
from funcrl.envs.stepping import EnvState, step


def check_env(env: Any, *, num_steps: int = 200, seed: int = 0, backend: str = "aot_eager") -> None:
    """Check that an environment is what `train`, `vmap` and the compiler need; silent where it is.

    What is looked at, in this order: methods and fields, spaces, what the methods return in one
    step, purity, what they return in many random steps, `vmap`, the device of new tensors, sweeps
    over the environment's numbers, the compiled step, time limit and autoreset. Problems that do
    not depend on each other are named together, one a line.

    Args:
        env: The environment, an instance.
        num_steps: Random steps to take, 1 or more.
        seed: Decides about them, 0 or more.
        backend: `"aot_eager"` traces the step without compiling it; see `jit`.

    Raises:
        ValueError: When a value, a shape or a behaviour is not what it must be.
        TypeError: When something is of the wrong kind.

    >>> from funcrl.envs.cartpole import CartPole
    >>> check_env(CartPole(), num_steps=20, backend="eager")
    """
    checks.integer("check_env", "num_steps", num_steps, 1)
    checks.integer("check_env", "seed", seed, 0)
    require(backend in jit.BACKENDS, "check_env", "backend", f"be one of {', '.join(jit.BACKENDS)}", backend)
    check_protocol("check_env", env)
    check_returns("check_env", env)
    walk = take_walk("check_env", env, random.key(seed, "cpu"), num_steps)
    _each_method(check_purity, walk)
    _each_method(check_values, walk)
    _each_method(check_vmap, walk)
    together(
        [
            lambda: _each_method(check_device, walk),
            lambda: check_sweeps(walk),
            lambda: check_step(walk, backend),
        ]
    )


def _each_method(check: Callable[[Walk, str], None], walk: Walk) -> None:
    together(functools.partial(check, walk, method) for method in methods(walk.env))


def check_vmap(walk: Walk, method: str) -> None:
    """Check that a method returns under `vmap` what it returns alone.

    Raises:
        ValueError: When it does not, or `vmap` would have to run it lane by lane.
    """
    argument = f"{type(walk.env).__name__}.{method}"
    samples = walk.some(method)
    try:
        with no_fallback():
            found = torch.vmap(getattr(walk.env, method))(*_stack([x.arguments for x in samples]))
    except Exception as error:
        raise failed(walk.function, argument, "run under torch.vmap", error) from error
    expected = _stack([sample.result for sample in samples])
    hold = "return under torch.vmap what it returns alone"
    _require_close(walk, argument, hold, expected, found, "Let nothing depend on how it is called.")


def check_device(walk: Walk, method: str) -> None:
    """Check that a method makes its tensors where its arguments are.

    On torch's `meta` device, which every machine has. Its tensors have shapes but no numbers, so a
    method that asks for a number is let pass here.

    Raises:
        ValueError: When a tensor is made elsewhere.
    """
    argument = f"{type(walk.env).__name__}.{method}"
    env = _to_meta(walk.env)
    arguments = _to_meta(_stack([sample.arguments for sample in walk.some(method)]))
    hold = "make its tensors where its arguments are"
    instead = "Write device=key.device wherever a tensor is made."
    try:
        found = torch.vmap(getattr(env, method))(*arguments)
    except Exception as error:
        mixed = "is not on the expected device" in str(error) or "on the same device" in str(error)
        require(not mixed, walk.function, argument, hold, str(error).partition("\n")[0], instead)
        return
    elsewhere = sorted({str(leaf.device) for leaf in tree.leaves(found)} - {"meta"})
    value = f"a tensor that is always on {', '.join(elsewhere)}"
    require(not elsewhere, walk.function, argument, hold, value, instead)


def check_sweeps(walk: Walk) -> None:
    """Check that every number of an environment, those inside of it too, may differ between lanes.

    Raises:
        ValueError: When a method does not take a tensor for a field, or returns something else.
    """
    places = enumerate(tree.named_leaves(walk.env))
    together(
        functools.partial(_check_sweep, walk, place, path, method)
        for place, path in places
        for method in methods(walk.env)
    )


def _check_sweep(walk: Walk, place: int, path: str, method: str) -> None:
    argument, name = f"{type(walk.env).__name__}.{method}", f"self{path}"
    (sample,) = walk.some(method, 1)
    leaf = tree.leaves(walk.env)[place]
    floating = leaf.is_floating_point() if isinstance(leaf, Tensor) else isinstance(leaf, float)
    # A little less rather than a little more: a probability stays one.
    values = [leaf, 0.99 * leaf if floating else leaf]

    def run(value: Any) -> Any:
        places = itertools.count()
        env = tree.map(lambda old: value if next(places) == place else old, walk.env)
        return getattr(env, method)(*sample.arguments)

    instead = f"Write torch operations on {name}, no float(), math or `if`; or make it tree.static."
    try:
        with no_fallback():
            found = torch.vmap(run)(_stack(values))
        expected = _stack([run(value) for value in values])
    except Exception as error:
        hold = f"take a tensor for {name}, so that it can be swept"
        raise failed(walk.function, argument, hold, error, instead) from error
    hold = f"return the same where {name} is a tensor"
    _require_close(walk, argument, hold, expected, found, instead)


def check_step(walk: Walk, backend: str) -> None:
    """Check `envs.step`: compiled once and equal to eager, with time limit and autoreset.

    Raises:
        ValueError: When the compiler stumbles (over a method that is named), or an episode does not
            end or begin as it should.
    """
    env, name = walk.env, type(walk.env).__name__
    samples = [*walk.some("transition"), *_ending(walk)]
    inner, actions, keys = _stack([sample.arguments for sample in samples])
    num = len(samples)
    begin = EnvState(
        inner=inner,
        obs=torch.vmap(env.observation)(inner, keys),
        episode_return=torch.zeros(num, dtype=torch.float32, device=keys.device),
        episode_length=torch.zeros(num, dtype=torch.int32, device=keys.device),
    )
    steps = torch.vmap(lambda state, action, key: step(env, state, action, key))
    program = jit.jit(steps, backend=backend)
    limit = env.max_episode_steps
    rows = []
    for length in (0, 0 if limit is None else limit - 1):
        state = tree.replace(begin, episode_length=torch.full_like(begin.episode_length, length))
        arguments = tree.map(torch.Tensor.contiguous, (state, actions, keys))
        expected = steps(*arguments)
        try:
            found = program(*arguments)
        except Exception as error:
            argument, reason = _culprit(walk, backend) or (name, error)
            raise failed(walk.function, argument, "be traceable by the compiler", reason) from error
        instead = "Let nothing depend on how it is called."
        _require_close(walk, name, "step compiled as it does uncompiled", expected, found, instead)
        instead = "Let the structure of the state depend on nothing."
        once = program.num_graphs == 1
        require(once, walk.function, name, "be compiled once", program.num_graphs, instead)
        _check_ends(walk, *expected, length + 1, limit)
        rows.append(expected[1].next_obs)
    hold = "show what the action led to, whether or not the time is up"
    _require_close(
        walk, f"{name}.observation", hold, rows[0], rows[1], "Let it depend on state and key alone."
    )


def _ending(walk: Walk) -> list[Sample]:
    """The first transition of the walk into a terminal state, if there was one."""
    ends = [bool(sample.result) for sample in walk.samples["terminal"]]
    return walk.samples["transition"][ends.index(True) :][:1] if True in ends else []


def _culprit(walk: Walk, backend: str) -> tuple[str, Exception] | None:
    """The method that the compiler stumbles over, with its error."""
    for method in methods(walk.env):
        arguments = _stack([sample.arguments for sample in walk.some(method)])
        try:
            jit.jit(torch.vmap(getattr(walk.env, method)), backend=backend)(*arguments)
        except Exception as error:
            return f"{type(walk.env).__name__}.{method}", error
    return None


def _check_ends(walk: Walk, state: EnvState, row: Any, steps: int, limit: int | None) -> None:
    name = type(walk.env).__name__
    cut = limit is not None and steps >= limit
    truncated = row.truncated.tolist()
    hold = f"{'' if cut else 'not '}cut an episode off after {steps} steps"
    argument, instead = f"{name}.max_episode_steps", "Write an int that is always the same, or None."
    require(truncated == [cut] * len(truncated), walk.function, argument, hold, truncated, instead)
    ended = row.terminated | row.truncated
    lengths = torch.where(ended, 0, row.episode_length)
    hold = f"begin the next episode where one ended, with lengths {lengths.tolist()}"
    found = state.episode_length.tolist()
    require(lengths.tolist() == found, walk.function, name, hold, found)
    going_on = tree.where(ended, state.obs, row.next_obs)
    _require_close(walk, f"{name}.observation", "go on where no episode ended", going_on, state.obs)


def _require_close(
    walk: Walk, argument: str, hold: str, expected: Any, found: Any, instead: str = ""
) -> None:
    wanted, names = tree.named_leaves(expected), tree.named_leaves(found)
    require(list(wanted) == list(names), walk.function, argument, hold, f"other leaves, {', '.join(names)}")
    for path, value in names.items():
        other, place = wanted[path], f"{path}: " if path else ""
        kinds = [f"{place}{list(x.shape)} {x.dtype}" for x in (other, value)]
        require(kinds[0] == kinds[1], walk.function, argument, f"{hold}, {kinds[0]}", kinds[1], instead)
        exact = not value.is_floating_point()
        near = value == other if exact else torch.isclose(value, other, 1e-4, 1e-5, equal_nan=True)
        if not bool(near.all()):
            index = tuple(int(i) for i in (~near).nonzero()[0])
            numbers = [f"{place}{x[index].item()}" for x in (other, value)]
            require(False, walk.function, argument, f"{hold}, {numbers[0]}", numbers[1], instead)


def _stack(trees: list[Any]) -> Any:
    return tree.map(lambda *leaves: torch.stack([tree.as_tensor(leaf) for leaf in leaves]), *trees)


def _to_meta(value: Any) -> Any:
    return tree.map(lambda leaf: leaf.to("meta") if isinstance(leaf, Tensor) else leaf, value)
