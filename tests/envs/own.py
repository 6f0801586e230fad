"""What the tests of funcrl's own environments share, which have no other implementation to follow."""

import numpy as np
import torch

from funcrl import envs
from funcrl.core import random, tree
from funcrl.core.jit import jit


def rollout(env, actions, seed=0):
    """Return the states before each step and the time steps, `[T, N]`, for actions `[T, N, ...]`."""
    k_reset, k_steps = random.split(random.key(seed), 2)
    num_envs = actions.shape[1]
    states = torch.vmap(lambda key: envs.reset(env, key))(random.split(k_reset, num_envs))
    step = torch.vmap(lambda state, action, key: envs.step(env, state, action, key))
    before, rows = [], []
    for now, key in zip(actions, random.split(k_steps, len(actions)), strict=True):
        before.append(states)
        states, row = step(states, now, random.split(key, num_envs))
        rows.append(row)
    return tree.stack(before), tree.stack(rows)


def assert_compiled_equals_eager(env, actions):
    """Every step of a walk, traced into one program, gives what it gives eagerly."""
    step = torch.vmap(lambda state, action, key: envs.step(env, state, action, key))
    compiled = jit(step, backend="aot_eager")
    num_envs = actions.shape[1]
    reset = torch.vmap(lambda key: envs.reset(env, key))
    states = tree.map(lambda x: x.contiguous(), reset(random.split(random.key(0), num_envs)))
    for now, key in zip(actions, random.split(random.key(1), len(actions)), strict=True):
        keys = random.split(key, num_envs)
        expected, found = step(states, now, keys), compiled(states, now, keys)
        for path, leaf in tree.named_leaves(expected).items():
            assert torch.allclose(tree.named_leaves(found)[path].double(), leaf.double(), atol=1e-5), path
        states = tree.map(lambda x: x.contiguous(), expected[0])
    assert compiled.num_graphs == 1


def assert_every_number_can_differ_between_lanes(env, actions, others):
    """Fields of many lanes do what as many environments do, and every field matters.

    Args:
        env: Its numbers are changed one by one.
        actions: `[T, N, ...]`, to walk with.
        others: Another value for every field that is a number.
    """
    names = [path.removeprefix(".") for path in tree.named_leaves(env)]
    assert set(others) == set(names)
    # Lane 0 is as usual, and each of the following lanes has another value of one number.
    columns = {name: torch.full((1 + len(names),), getattr(env, name)) for name in names}
    for lane, name in enumerate(names, 1):
        columns[name][lane] = others[name]
    lanes = tree.replace(env, **columns)
    in_dims = tree.map(lambda x: 0 if isinstance(x, torch.Tensor) else None, lanes)
    together = torch.vmap(rollout, in_dims=(in_dims, None))(lanes, actions)
    usual = rollout(env, actions)
    alone = [usual, *(rollout(tree.replace(env, **{name: others[name]}), actions) for name in names)]
    for lane, (name, expected) in enumerate(zip(["none", *names], alone, strict=True)):
        found = tree.named_leaves(tree.index(together, lane))
        for path, leaf in tree.named_leaves(expected).items():
            assert found[path].dtype == leaf.dtype, (name, path)
            assert torch.allclose(found[path].double(), leaf.double(), atol=1e-4), (name, path)
        pairs = zip(*(tree.leaves((states.obs, rows)) for states, rows in (usual, expected)), strict=True)
        assert lane == 0 or any(not torch.equal(x, y) for x, y in pairs), f"{name} has no effect"


def assert_pictures(env, states):
    """One picture a state, the same each time, and different states look different."""
    frames = [env.render(state) for state in states]
    for frame, state in zip(frames, states, strict=True):
        assert frame.dtype == np.uint8
        assert frame.shape == (*frames[0].shape[:2], 3)
        assert np.array_equal(frame, env.render(state))
    for i, frame in enumerate(frames):
        for other in frames[:i]:
            assert (frame != other).any(axis=2).mean() > 0.0005
