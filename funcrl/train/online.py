"""The online loop: act, step, and learn from that step at once.

What bandits and tabular learning do. Acting, stepping and learning are one compiled program for all
lanes, a few steps a call; the random numbers of many steps are drawn before by another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl import envs
from funcrl.core import lanes, random, tree
from funcrl.core.batching import vmap
from funcrl.core.checks import require
from funcrl.core.hoist import hoist
from funcrl.envs.stepping import regret
from funcrl.train import acting, empty_masks
from funcrl.train.acting import Policy
from funcrl.train.carry import Carry
from funcrl.train.collect import Running, Window, act_and_step
from funcrl.train.empty_masks import EmptyMask
from funcrl.train.resolve import num_envs
from funcrl.train.stages import Binding, Call, Stage

STEPS_PER_ITERATION = 100
"""Steps of a lane in one iteration, about: what lies between two reports."""

MAX_UNROLL = 10
"""Steps in one compiled call, at most."""

MAX_OPERATIONS = 1500
"""Tensor operations in one compiled call, at most, unless a single step has more: a program of an
agent with a network would compile for minutes where one of a table takes seconds."""

MAX_DRAWN = 16_384
"""Random numbers of one kind that are drawn at once, at most, unless a single step needs more: what is
computed on the way to them then stays in the cache and in memory that the process keeps."""

CYCLE = "num_envs steps"
"""What a cycle is made of, in environment steps."""


@tree.struct
class Regret:
    """What one lane has lost by not taking the best actions; 0 where the environment does not know it."""

    now: Tensor
    """`[]` float32, in this iteration"""
    before: Tensor
    """`[]` float64, in all iterations before"""


@tree.struct
class Memory:
    """What one lane of the loop remembers beside agent and environments."""

    regret: Regret
    empty_mask: EmptyMask | tuple[()]
    """`()` where observations hold no masks"""


def check(function: str, env: envs.AnyEnv, config: Any, num_steps: int | None = None) -> None:
    """Refuse environments on the host, whose steps no compiled program can take.

    Args:
        function: Who complains.
        env: The environment.
        config: Any settings.
        num_steps: Any number.
    """
    instead = f"funcrl has these on the device: {', '.join(envs.REGISTRY)}."
    on_device = not isinstance(env, envs.HostEnv)
    require(on_device, function, "env", "live on the device for this algorithm", env, instead)


def steps_per_cycle(config: Any) -> int:
    """Return the environment steps of a lane from one update to the next: one of each environment."""
    return num_envs(config)


def cycles_per_iteration(config: Any, num_steps: int) -> int:
    """Return how many updates an iteration has, in a run of so many steps of each lane."""
    return max(1, min(STEPS_PER_ITERATION, num_steps) // num_envs(config))


def memory_bytes(env: envs.AnyEnv, config: Any) -> int:
    """Return 0: no experience is kept."""
    return 0


def memory(agent: Any, spaces: Any) -> Memory:
    """Return what one lane remembers at the beginning: that nothing has been lost."""
    zero = torch.zeros((), dtype=torch.float32, device=tree.leaves(agent)[0].device)
    return Memory(Regret(zero, zero.to(torch.float64)), empty_masks.none_yet(spaces, zero.device))


def act_and_learn(
    algorithm: ModuleType, env: envs.Env, agent: Any, running: Running, key: Tensor
) -> tuple[Any, Running, Window, Any]:
    """Act once in the N environments of one lane, and learn from it.

    Args:
        algorithm: What acts and learns.
        env: The environment.
        agent: Its state; an algorithm without the setting `num_envs` has one environment, and sees
            it without the axis N.
        running: `[N]` environments, and what the agent remembers of their episodes.
        key: `[2]` int32.

    Returns:
        The agent after, the environments and what is remembered after, `[N]` rows of a window, and the batch that was
        learnt from: their transitions, without the axis N for such an algorithm.
    """
    if hasattr(agent.config, "num_envs"):
        *after, row = act_and_step(acting.learning(algorithm), env, agent, *running, key)
        batch = row.transition
    else:

        def alone(agent: Any, obs: Any, key: Tensor, carry: Any) -> Any:
            return tree.map(lambda x: x.unsqueeze(0), algorithm.act(agent, tree.index(obs, 0), key))

        *after, row = act_and_step(Policy(alone), env, agent, *running, key)
        batch = tree.index(row.transition, 0)
    return algorithm.update(agent, batch), tuple(after), row, batch


def stages(binding: Binding) -> list[Stage]:
    """Compile an iteration: (act · step · learn) × cycles, a few of them a call."""
    carry, length = binding.carry, binding.num_cycles
    early, late, fitting = _taken_apart(binding)
    unroll = _largest_divisor(length, fitting)
    example = early(carry.collect_key)
    drawn = _steps_drawn_at_once(length, unroll, max(x.numel() for x in example))
    block = max(unroll, drawn)

    def draw(noise: list[Tensor], key: Tensor, count: Tensor, begin: Tensor) -> list[Tensor]:
        split = lambda k, i: random.split(random.fold_in(k, i), length)
        keys = vmap(split, out_dims=1)(key, count)
        return vmap(early)(keys[begin + torch.arange(drawn, device=key.device)])

    def steps(running: tuple[Any, ...], values: list[Tensor], noise: list[Tensor]) -> Any:
        for i in range(unroll):
            running = late((*running, values), tree.index(noise, i))
        return running

    # Zeros: what runs eagerly runs once with them, and what is in fresh memory may be the place of nothing.
    noise = [x.new_zeros((block, *x.shape)) for x in example]
    draw_some, step_some = binding.compile(draw), binding.compile(steps)

    def part(offset: int, size: int) -> list[Tensor]:
        return tree.index(noise, slice(offset, offset + size))

    running = _running(carry)
    calls: list[Call] = []
    for at in range(0, length, block):
        for offset in range(0, block, drawn):
            place = torch.full((), at + offset, dtype=torch.int64, device=binding.device)
            calls.append(draw_some.bind(part(offset, drawn), carry.collect_key, carry.iteration, place))
        for offset in range(0, block, unroll):
            calls.append(step_some.bind(running, carry.env_values, part(offset, unroll)))
    row = binding.row([binding.begin, *calls, *_regret_calls(binding), binding.end])
    return [row, *empty_masks.check(binding, binding.carry.memory.empty_mask)]


def _running(carry: Carry) -> tuple[Any, ...]:
    """Return what a step of all lanes changes."""
    return carry.agent, (carry.envs, carry.remembered), carry.memory, carry.earned, carry.episodes


def _taken_apart(
    binding: Binding,
) -> tuple[Callable[[Tensor], list[Tensor]], Callable[[Any, list[Tensor]], Any], int]:
    """Return how one step of all lanes draws, what it does then, and how many fit into one program."""
    carry, own, algorithm = binding.carry, lanes.Lanes(binding.env), binding.algorithm

    def step(running: Any, key: Tensor) -> Any:
        def lane(running: Any, key: Tensor) -> Any:
            before, values = running[:-1], running[-1]
            return _act_learn_and_count(algorithm, own.one(values), before, key)

        return vmap(lane)(running, key)

    # Eager is for debugging: there the user's own functions are called at every step.
    if binding.backend == "eager":
        return lambda key: [key], lambda running, noise: step(running, noise[0]), MAX_UNROLL
    early, late = hoist(step, (*_running(carry), carry.env_values), carry.collect_key)
    return early, late, min(MAX_UNROLL, MAX_OPERATIONS // max(1, late.num_operations))


def _act_learn_and_count(
    algorithm: ModuleType,
    env: envs.Env,
    running: tuple[Any, Running, Memory, Tensor, Tensor],
    key: Tensor,
) -> tuple[Any, Running, Memory, Tensor, Tensor]:
    """Act, step and learn once in one lane, and add up what is reported."""
    agent, episodes_now, memory, earned, episodes = running
    before, known, lost = episodes_now[0].inner, regret(env), memory.regret
    agent, episodes_now, row, _ = act_and_learn(algorithm, env, agent, episodes_now, key)
    if known is not None:
        lost_now = vmap(known)(before, row.transition.action).sum()
        lost = tree.replace(lost, now=lost.now + lost_now)
    memory = Memory(lost, empty_masks.looked_for(memory.empty_mask, row.transition.obs, env.action_space))
    now_earned, now_ended = row.ended_returns()
    return agent, episodes_now, memory, earned + now_earned, episodes + now_ended


def _regret_calls(binding: Binding) -> list[Call]:
    """Return what reports regret, and makes it that of before, where the environment knows it."""
    if regret(lanes.Lanes(binding.env).first) is None:
        return []
    lost: Regret = binding.carry.memory.regret
    each, total = binding.figure("regret"), binding.figure("cumulative_regret")
    steps = binding.num_cycles * steps_per_cycle(binding.config)

    def report() -> None:
        each.copy_(lost.now / steps)
        lost.before.add_(lost.now)
        total.copy_(lost.before)
        lost.now.zero_()

    return [report]


def _steps_drawn_at_once(length: int, unroll: int, numbers: int) -> int:
    """Return for how many steps to draw random numbers at once: a multiple or a divisor of `unroll`.

    Args:
        length: Steps in an iteration.
        unroll: Steps in one compiled call; divides `length`.
        numbers: How many of the largest kind of random number one step of all lanes needs.
    """
    fitting = MAX_DRAWN // numbers
    if fitting >= unroll:
        return unroll * _largest_divisor(length // unroll, fitting // unroll)
    return _largest_divisor(unroll, fitting)


def _largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of a number that is at most `limit`; 1 if none is."""
    return max(n for n in range(1, number + 1) if number % n == 0 and (n <= limit or n == 1))


def regret_lower_bound(env: envs.AnyEnv, states: Any) -> float | None:
    """Return the mean over lanes of the constant c with which regret must grow at least, c ln t.

    Args:
        env: The environment of a training; a float field may hold one value a lane.
        states: `result.env_states` of that training, `[S, N]`.

    Returns:
        The constant; None where the environment does not know it, or there is no such bound.
    """
    num_lanes = states.episode_length.shape[0]
    own = lanes.Lanes(lanes.spread("regret_lower_bound", "env", env, num_lanes))
    if not hasattr(own.first, "lower_bound"):
        return None
    values = [column.to(states.episode_length.device) for column in own.values]
    lane = lambda values, states: own.one(values).lower_bound(tree.index(states.inner, 0))
    bound = float(vmap(lane)(values, states).mean())
    return bound if math.isfinite(bound) else None
