"""The online loop: act, step, and learn from that step at once.

What bandits and tabular learning do. Acting, stepping and learning are one compiled program for all
lanes, a few steps a call; the random numbers of many steps are drawn before by another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl import envs
from funcrl.core import checks, jit, lanes, random, tree
from funcrl.core.checks import require
from funcrl.core.hoist import hoist
from funcrl.envs.stepping import regret
from funcrl.train.collect import Window, act_and_step
from funcrl.train.run import Run, num_envs

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


@tree.struct
class Totals:
    """What has been added up over the steps of an iteration, or of a whole run, in one lane."""

    returns: Tensor
    """`[]` float32, sum of the returns of the episodes that ended in this iteration"""
    episodes: Tensor
    """`[]` float32, how many ended in it"""
    regret: Tensor
    """`[]` float32, of this iteration; 0 where the environment does not know it"""
    cumulative_regret: Tensor
    """`[]` float64, of all iterations"""


def act_and_learn(
    algorithm: ModuleType, env: envs.Env, agent: Any, states: envs.EnvState, key: Tensor
) -> tuple[Any, envs.EnvState, Window, Any]:
    """Act once in the N environments of one lane, and learn from it.

    Args:
        algorithm: What acts and learns.
        env: The environment.
        agent: Its state; an algorithm without the setting `num_envs` has one environment, and sees
            it without the axis N.
        states: `[N]` environments.
        key: `[2]` int32.

    Returns:
        The agent after, the environments after, `[N]` rows of a window, and the batch that was
        learnt from: their transitions, without the axis N for such an algorithm.
    """
    if hasattr(agent.config, "num_envs"):
        states, row = act_and_step(algorithm.act, env, agent, states, key)
        batch = row.transition
    else:

        def policy(agent: Any, obs: Any, key: Tensor) -> Any:
            return tree.map(lambda x: x.unsqueeze(0), algorithm.act(agent, tree.index(obs, 0), key))

        states, row = act_and_step(policy, env, agent, states, key)
        batch = tree.index(row.transition, 0)
    return algorithm.update(agent, batch), states, row, batch


class OnlineRun(Run):
    """Training of an algorithm that learns from every step as it comes, as `q_learning` does.

    >>> from funcrl.algos import q_learning
    >>> run = OnlineRun(q_learning, envs.make("CliffWalking-v1"), None, [0, 1], backend="eager", length=5)
    >>> run.iterate().returns.shape
    torch.Size([2])
    """

    def __init__(
        self,
        algorithm: str | ModuleType,
        env: str | envs.AnyEnv,
        config: Any,
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        backend: str = "inductor",
        length: int = STEPS_PER_ITERATION,
    ) -> None:
        """Make the lanes, see `Run`.

        Args:
            algorithm: Name or module, without `prepare`.
            env: The environment of every lane, on the device.
            config: Its settings; without `num_envs` each lane has one environment.
            seeds: One lane each.
            device: Where everything lives.
            backend: See `jit`.
            length: T, steps of each environment in one iteration.
        """
        checks.integer("OnlineRun", "length", length, 1)
        super().__init__(algorithm, env, config, seeds, device, backend)
        refuse_host("OnlineRun", self.env)
        self.length = length
        self.steps_per_iteration = length * num_envs(self.config)
        self._regret_known = regret(lanes.Lanes(self.env).first) is not None

    def _memory(self, agent: Any, spaces: Any, key: Tensor) -> Totals:
        zero = torch.zeros((), dtype=torch.float32, device=key.device)
        return Totals(zero, zero, zero, zero.to(torch.float64))

    def _metrics(self) -> dict[str, Tensor]:
        figures = dict(self._carry.agent.metrics)
        if self._regret_known:
            totals = self._carry.memory
            figures["regret"] = totals.regret / self.steps_per_iteration
            figures["cumulative_regret"] = totals.cumulative_regret.to(torch.float32)
        return figures

    def _lane(
        self, env: envs.Env, agent: Any, states: envs.EnvState, totals: Totals, key: Tensor
    ) -> tuple[Any, envs.EnvState, Totals]:
        """Act, step and learn once in one lane, and add up what is reported."""
        before = states.inner
        agent, states, row, _ = act_and_learn(self.algorithm, env, agent, states, key)
        totals = tree.replace(
            totals,
            returns=totals.returns + torch.where(row.ended, row.episode_return, 0.0).sum(),
            episodes=totals.episodes + row.ended.sum(),
        )
        lost = regret(env)
        if lost is not None:
            lost_now = torch.vmap(lost)(before, row.transition.action).sum()
            totals = tree.replace(totals, regret=totals.regret + lost_now)
        return agent, states, totals

    def _taken_apart(
        self,
    ) -> tuple[Callable[[Tensor], list[Tensor]], Callable[[Any, list[Tensor]], Any], int]:
        """Return how one step of all lanes draws, what it does then, and how many fit into one program."""
        carry, own = self._carry, lanes.Lanes(self.env)

        def step(running: Any, key: Tensor) -> Any:
            def lane(running: Any, key: Tensor) -> Any:
                agent, states, totals, values = running
                return self._lane(own.one(values), agent, states, totals, key)

            return torch.vmap(lane)(running, key)

        # Eager is for debugging: there the user's own functions are called at every step.
        if self.backend == "eager":
            return lambda key: [key], lambda running, noise: step(running, noise[0]), MAX_UNROLL
        running = (carry.agent, carry.envs, carry.memory, carry.env_values)
        early, late = hoist(step, running, carry.collect_key)
        return early, late, min(MAX_UNROLL, MAX_OPERATIONS // max(1, late.num_operations))

    def _compile(self) -> Callable[[], None]:
        carry, backend = self._carry, self.backend
        early, late, fitting = self._taken_apart()
        unroll = _largest_divisor(self.length, fitting)
        example = early(carry.collect_key)
        drawn = _steps_drawn_at_once(self.length, unroll, max(x.numel() for x in example))
        block = max(unroll, drawn)

        def draw(noise: list[Tensor], key: Tensor, count: Tensor, begin: Tensor) -> list[Tensor]:
            split = lambda k, i: random.split(random.fold_in(k, i), self.length)
            keys = torch.vmap(split, out_dims=1)(key, count)
            return torch.vmap(early)(keys[begin + torch.arange(drawn, device=key.device)])

        def steps(running: tuple[Any, ...], values: list[Tensor], noise: list[Tensor]) -> Any:
            for i in range(unroll):
                running = late((*running, values), tree.index(noise, i))
            return running

        def finish() -> None:
            totals = carry.memory
            mean = totals.returns / totals.episodes
            carry.last_return.copy_(torch.where(totals.episodes > 0, mean, carry.last_return))
            self._episodes.copy_(totals.episodes)
            totals.cumulative_regret.add_(totals.regret)
            carry.iteration.add_(1)

        def begin() -> None:
            for total in (carry.memory.returns, carry.memory.episodes, carry.memory.regret):
                total.zero_()

        noise = [torch.empty((block, *x.shape), dtype=x.dtype, device=x.device) for x in example]
        draw_some = jit.jit(draw, donate=(0,), backend=backend)
        step_some = jit.jit(steps, donate=(0,), backend=backend)
        self._programs = [draw_some, step_some]

        def part(offset: int, size: int) -> list[Tensor]:
            return tree.index(noise, slice(offset, offset + size))

        changing = (carry.agent, carry.envs, carry.memory)
        calls: list[Callable[[], Any]] = [begin]
        for at in range(0, self.length, block):
            for offset in range(0, block, drawn):
                place = torch.full((), at + offset, dtype=torch.int64, device=self.device)
                calls.append(draw_some.bind(part(offset, drawn), carry.collect_key, carry.iteration, place))
            for offset in range(0, block, unroll):
                calls.append(step_some.bind(changing, carry.env_values, part(offset, unroll)))
        return jit.capture([*calls, finish], carry, self.device)


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


def refuse_host(function: str, env: envs.AnyEnv) -> None:
    """Raise where an environment runs on the host, whose steps no compiled program can take."""
    instead = f"funcrl has these on the device: {', '.join(envs.REGISTRY)}."
    require(
        not isinstance(env, envs.HostEnv),
        function,
        "env",
        "live on the device for this algorithm",
        env,
        instead,
    )


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
    bound = float(torch.vmap(lane)(values, states).mean())
    return bound if math.isfinite(bound) else None
