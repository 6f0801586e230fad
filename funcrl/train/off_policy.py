"""The off-policy loop: collect a window, add it to the replay buffer, learn from what the buffer holds.

One cycle is a fixed row of calls of compiled programs over buffers that never move: drawing and
stepping (see `collect`), adding, and, once warm, a number of times the one program that samples a
batch and takes a gradient step. An iteration, what lies between two reports, is several cycles.
With an environment on the host, acting is a program and the stepping happens in between, or with `overlap` while
the agent learns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from gymnasium.spaces import Box
from torch import Tensor

from funcrl import envs, nets
from funcrl.buffers import Replay, check_storage, frames, prioritised, uniform
from funcrl.buffers import memory as space
from funcrl.core import ReplayBatch, Transition, jit, lanes, random, tree
from funcrl.core.batching import vmap
from funcrl.core.checks import require
from funcrl.ops.schedules import known_length, linear
from funcrl.train import empty_masks
from funcrl.train.collect import Window
from funcrl.train.host_collect import HostCollector
from funcrl.train.stages import Binding, Call, Stage

STEPS_PER_ITERATION = 1000
"""Environment steps of a lane in one iteration, about: what lies between two reports."""

LARGE_AGENT = 2**20
"""Bytes of one agent, from which on a CPU a gradient step of all lanes at once is slower than of two after two: what a step of
sixteen lanes writes is long out of the cache when it is read."""

CYCLE = "num_envs · window_length"
"""What a cycle is made of, in environment steps."""


@tree.struct
class Memory:
    """What one lane of the loop remembers beside agent and environments."""

    buffer: Any
    """the replay buffer"""
    cycle: Tensor
    """`[]` int32, windows collected so far"""


def check(function: str, env: envs.AnyEnv, config: Any, num_steps: int | None = None) -> None:
    """Check that something is learnt before a run ends, and that what is to overlap can.

    Args:
        function: Who complains.
        env: Any environment.
        config: The settings.
        num_steps: Environment steps of each lane; None where that is not known yet.
    """
    seen = (env if isinstance(env, envs.HostEnv) else lanes.Lanes(env).first).observation_space
    stacked = isinstance(seen, Box) and len(seen.shape) >= 2
    hold = "be False where observations are no stacks of frames"
    require(
        stacked or not config.share_frames,
        function,
        "share_frames",
        hold,
        seen,
        "Write --wrap frame_stack=4.",
    )
    hold = "be False for an environment on the device, whose steps are not waited for"
    beside = config.overlap and not isinstance(env, envs.HostEnv)
    require(not beside, function, "overlap", hold, config.overlap, "Leave it out.")
    if num_steps is None:
        return
    first = steps_before_learning(config)
    hold = f"leave something to learn in of a run's {num_steps} steps"
    instead = "Lower it, or raise num_steps."
    require(first <= num_steps, function, "warmup_steps (or n_step)", hold, first, instead)


def steps_per_cycle(config: Any) -> int:
    """Return the environment steps of a lane in one window."""
    return int(config.num_envs * config.window_length)


def cycles_per_iteration(config: Any, num_steps: int) -> int:
    """Return how many windows an iteration has, in a run of so many steps of each lane."""
    cycles = num_steps // steps_per_cycle(config)
    return int(max(1, cycles // max(1, num_steps // STEPS_PER_ITERATION)))


def steps_before_learning(config: Any) -> int:
    """Return how many environment steps a lane must have taken before it can learn."""
    return max(int(config.warmup_steps), int(config.n_step * config.num_envs))


def memory_bytes(env: envs.AnyEnv, config: Any) -> int:
    """Return how many bytes the replay buffer of one lane takes.

    Args:
        env: The environment; a float field may hold one value a lane.
        config: The settings, likewise.
    """
    spaces: Any = env if isinstance(env, envs.HostEnv) else lanes.Lanes(env).first
    return space.lane_bytes(_buffer(config), _example(spaces, config.num_envs, torch.device("cpu")))


def memory(agent: Any, spaces: Any) -> Memory:
    """Return what one lane remembers at the beginning: an empty buffer."""
    device = agent.step.device
    example = _example(spaces, agent.config.num_envs, device)
    count = torch.zeros((), dtype=torch.int32, device=device)
    return Memory(buffer=_buffer(agent.config)(example), cycle=count)


def stages(binding: Binding) -> list[Stage]:
    """Compile an iteration: (collect · add · learn × updates, once warm) × cycles."""
    carry, config, num_cycles = binding.carry, binding.config, binding.num_cycles
    collector = binding.collect(carry.memory.cycle)
    add = binding.compile(vmap(_add, in_dims=(0, 1)))
    written = (carry.memory, carry.agent.env_steps, carry.earned, carry.episodes)
    add_row = binding.row([add.bind(written, collector.window)], None if config.overlap else collector)
    learn = _learning(binding, config.window_length if config.overlap else 1)
    first = max(1, -(-steps_before_learning(config) // steps_per_cycle(config)))

    def alternating(cycle: int) -> list[Stage]:
        """Collect and add, then learn."""

        def learn_once_warm(count: int) -> None:
            rounds_before = count * num_cycles + cycle + 1 - first
            if rounds_before >= 0:
                learn(rounds_before, 0)

        return [add_row, *checks(cycle), learn_once_warm]

    def overlapping(cycle: int) -> list[Stage]:
        """Learn from what was added before while the environments take their steps, then add these."""

        def collect_and_learn(count: int) -> None:
            assert isinstance(collector, HostCollector)
            rounds_before = count * num_cycles + cycle - first
            collector(functools.partial(learn, rounds_before) if rounds_before >= 0 else None)

        return [collect_and_learn, add_row, *checks(cycle)]

    def checks(cycle: int) -> list[Stage]:
        fits = _fits(carry.memory.buffer, collector)
        return [
            *empty_masks.check_window(binding, cycle),
            *[fits] * bool(config.storage or config.share_frames),
        ]

    row = [binding.row([binding.begin])]
    for cycle in range(num_cycles):
        row += overlapping(cycle) if config.overlap else alternating(cycle)
    return [*row, binding.row([binding.end])]


def _fits(buffer: Any, collector: Any) -> Stage:
    """Return what looks whether the buffer holds what the last window has shown."""
    (replay, store), _ = _apart(buffer)

    def fits(count: int) -> None:
        window = collector.window.transition
        if isinstance(store, frames.Frames):
            frames.check("train", store, replay, tree.map(lambda x: x.transpose(0, 1), window))
        else:
            check_storage("train", replay, window)

    return fits


def _learning(binding: Binding, num_shares: int) -> Callable[[int, int], None]:
    """Return what does a share of a round of updates; it is given the number of rounds before, and of the share.

    Where only each d-th update has a certain part, shares differ in which of theirs do: there is a row for each kind.
    """
    carry, updates = binding.carry, binding.config.updates_per_window
    (step, _), *others = _parts(binding.algorithm, binding.config)
    replay, priorities = _apart(carry.memory.buffer)
    learn = binding.compile(vmap(_learner(binding.of_part(step), keep_batch=bool(others))))
    batch = _example_batch(binding) if others else ()
    every_time = _in_groups(binding, learn, (carry.agent, priorities, batch), replay, carry.learn_key)
    sometimes = [
        (_in_groups(binding, binding.compile(vmap(part)), carry.agent, batch), every)
        for part, every in others
    ]
    period = math.lcm(*[every for _, every in others])

    def numbers(rounds: int, share: int) -> tuple[int, int]:
        begin, end = (rounds * updates + updates * part // num_shares for part in (share, share + 1))
        return begin % period, end - begin

    def row(first: int, count: int) -> Stage:
        calls: list[Call] = []
        for number in range(first, first + count):
            calls += [every_time, *[part for part, every in sometimes if number % every == 0]]
        return binding.row(calls)

    def learn_share(rounds: int, share: int) -> None:
        first, count = numbers(rounds, share)
        if count:
            rows[first, count](rounds)

    kinds = {numbers(rounds, share) for rounds in range(period) for share in range(num_shares)}
    rows = {kind: row(*kind) for kind in sorted(kinds) if kind[1]}
    return learn_share


def _in_groups(binding: Binding, program: jit.Jit, *given: Any) -> Call:
    """Return a call of a program for all lanes: for a few of them after the other where agents are too large for the cache."""
    count = len(binding.seeds)
    sizes = [x.numel() * x.element_size() for x in tree.leaves(binding.carry.agent)]
    large = sum(sizes) >= count * LARGE_AGENT and binding.device.type == "cpu"
    if not large or count % jit.LANES_AT_ONCE:
        return program.bind(*given)
    return program.bind_in_turns(jit.LANES_AT_ONCE, given)


def _parts(algorithm: ModuleType, config: Any) -> tuple[tuple[Callable[[Any, Any], Any], int], ...]:
    """Return what an update consists of, and of how many updates each is a part, the whole where that is all."""
    split = algorithm.parts(config) if hasattr(algorithm, "parts") else ()
    return split if any(every > 1 for _, every in split) else ((algorithm.update, 1),)


def _example_batch(binding: Binding) -> ReplayBatch:
    """Return a batch of all lanes, with values of no meaning."""
    replay, config = _apart(binding.carry.memory.buffer)[0], binding.config

    def draw(read: Read, key: Tensor) -> ReplayBatch:
        return _seen(read, uniform.sample(read[0], key, config.batch_size, 1.0, config.n_step))

    return vmap(draw)(replay, binding.carry.learn_key)


def _add(
    written: tuple[Memory, Tensor, Tensor, Tensor], window: Window
) -> tuple[Memory, Tensor, Tensor, Tensor]:
    """Put one lane's window into its memory, and count."""
    before, env_steps, earned, episodes = written
    # What an agent told of its actions, or remembered, is of no use to those that learn from them later.
    rows = tree.replace(window.transition, extras={})
    after = Memory(buffer=_added(before.buffer, rows), cycle=before.cycle + 1)
    now_earned, now_ended = window.ended_returns()
    return after, env_steps + window.episode_return.numel(), earned + now_earned, episodes + now_ended


def _added(buffer: Any, window: Transition) -> Any:
    """Return a buffer of one of the kinds with a window more."""
    if isinstance(buffer, frames.Shared):
        store, places = frames.put(buffer.store, window)
        return frames.Shared(_added(buffer.buffer, places), store)
    return (prioritised.add if isinstance(buffer, prioritised.Prioritised) else uniform.add)(buffer, window)


def _seen(read: Read, batch: ReplayBatch) -> ReplayBatch:
    """Return a batch with what was seen, where the buffer keeps places of frames."""
    return frames.look(read[1], batch) if isinstance(read[1], frames.Frames) else batch


def _learner(
    update: Callable[[Any, Any], Any], keep_batch: bool
) -> Callable[[tuple[Any, Any, Any], Read, Tensor], tuple[Any, Any, Any]]:
    """Return what samples, takes a step of learning, and ranks what was learnt from anew, in one lane.

    Args:
        update: The step.
        keep_batch: Whether others learn from the same batch after; `()` is left otherwise.
    """

    def _learn(written: tuple[Any, Any, Any], read: Read, key: Tensor) -> tuple[Any, Any, Any]:
        agent, priorities, _ = written
        config, key = agent.config, random.fold_in(key, agent.step)
        if config.replay == "uniform":
            batch = _seen(read, uniform.sample(read[0], key, config.batch_size, config.gamma, config.n_step))
            return update(agent, batch), priorities, batch if keep_batch else ()
        levels, largest = priorities
        buffer = prioritised.Prioritised(read[0], levels, largest, config.n_step)
        # β rises to 1: Schaul et al. 2016, section 3.4.
        over = known_length(config.importance_steps)
        exponent = linear(config.importance_exponent, 1.0, over, agent.env_steps)
        batch, index = prioritised.sample(buffer, key, config.batch_size, config.gamma, exponent)
        batch = _seen(read, batch)
        agent = update(agent, batch)
        buffer = prioritised.update(buffer, index, agent.td_error, config.priority_exponent)
        return agent, _apart(buffer)[1], batch if keep_batch else ()

    return _learn


def _buffer(config: Any) -> Callable[[Transition], Any]:
    """Return what makes an empty buffer of settings from an example of one step."""
    rows = config.buffer_size // config.num_envs
    kind = getattr(torch, config.storage) if config.storage else None

    def plain(example: Transition, storage: dict[str, torch.dtype]) -> Any:
        if config.replay == "prioritised":
            return prioritised.init(example, rows, storage, config.n_step)
        return uniform.init(example, rows, storage)

    def shared(example: Transition) -> Any:
        places = frames.example_of(example.obs)
        buffer = plain(tree.replace(example, obs=places, next_obs=places), {})
        return frames.Shared(buffer, frames.init(example.obs, rows, kind))

    if config.share_frames:
        return shared
    return lambda example: plain(example, {} if kind is None else {"obs": kind})


Read = tuple[Replay, Any]
"""What learning only reads: the ring, and the frames where it keeps places of them, `()` elsewhere."""


def _apart(buffer: Any) -> tuple[Read, tuple[Any, ...]]:
    """Return the part of a buffer that learning only reads, and the part that it writes."""
    if isinstance(buffer, frames.Shared):
        (replay, _), written = _apart(buffer.buffer)
        return (replay, buffer.store), written
    if isinstance(buffer, prioritised.Prioritised):
        return (buffer.replay, ()), (buffer.priorities, buffer.largest)
    return (buffer, ()), ()


def _example(spaces: Any, num_envs: int, device: torch.device) -> Transition:
    """Return one step of a lane's N environments as the buffer will see it, with values of no meaning."""
    rows = functools.partial(nets.inputs.example, leading=(num_envs,), device=device)
    obs = rows(spaces.observation_space)
    no = torch.zeros(num_envs, dtype=torch.bool, device=device)
    return Transition(
        obs=obs,
        action=rows(spaces.action_space),
        reward=torch.zeros(num_envs, dtype=torch.float32, device=device),
        terminated=no,
        truncated=no,
        next_obs=obs,
        extras={},
    )
