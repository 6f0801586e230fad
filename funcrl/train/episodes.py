"""First episodes: what lanes earn in them, again and again, while what plays is changed in place.

The episodes of a lane run side by side, each in an environment of its own, and only the first one of each
counts: stopping when enough have ended would favour the short ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from funcrl import envs
from funcrl.core import lanes, random, tree
from funcrl.core.batching import vmap
from funcrl.envs.drawing import Frame
from funcrl.envs.host_pictures import HostPictures
from funcrl.envs.host_vector import environment_seeds
from funcrl.envs.stepping import advance_all
from funcrl.train.acting import Policy
from funcrl.train.collect import Collector, Running
from funcrl.train.host_collect import HostCollector

_WINDOW = 100
"""Steps that are taken before seeing whether all episodes are over."""


@dataclasses.dataclass(frozen=True)
class Moment:
    """What an episode looks like between two steps."""

    frame: Frame
    """`[H, W, 3]` uint8"""
    episode_return: float
    """earned until then"""


def needs_env_states(env: Any) -> bool:
    """Return whether episodes of an environment begin with something that its training has left."""
    drawn = getattr(envs.innermost(env), "is_drawn_once", False)
    return bool(drawn) or envs.normalizes_observations(env)


class DeviceEpisodes:
    """Programs with which lanes play the same episodes in environments on the device."""

    def __init__(
        self,
        policy: Policy,
        env: envs.Env,
        states: Any,
        env_states: Any,
        num_episodes: int,
        seed: int,
        limit: int,
        backend: str,
        values: list[Tensor] | None = None,
    ) -> None:
        """Trace and compile.

        Args:
            policy: What chooses the actions.
            env: The environment; one that normalises, `envs.frozen`.
            states: `[S]` of the algorithm; only read.
            env_states: `[S, N]` of the training, of which episodes take the moments as they are then;
                None where nothing outlives an episode.
            num_episodes: Of each lane.
            seed: Of the episodes.
            limit: Steps after which to give up on one.
            backend: See `jit`.
            values: `[S]` each, the numbers in which the lanes' environments differ, where others write
                them; those of `env` by default.
        """
        device, num_lanes = tree.leaves(states)[0].device, tree.leaves(states)[0].shape[0]
        k_reset, k_steps = random.split(random.key(seed, device), 2)
        self._own = lanes.Lanes(lanes.spread("evaluate", "env", env, num_lanes))
        own = [column.to(device) for column in self._own.values]
        self._values = own if values is None else values
        self._keys = random.split(k_reset, num_episodes).expand(num_lanes, num_episodes, 2)
        self._env_states = env_states
        self._policy, self._states = policy, states
        self._running = tree.map(
            lambda x: torch.clone(x, memory_format=torch.contiguous_format), self._begin()
        )
        self._count = torch.zeros(num_lanes, dtype=torch.int32, device=device)
        self._num_episodes, self._limit, self._length = num_episodes, limit, min(limit, _WINDOW)
        key = k_steps.expand(num_lanes, 2).clone()
        given = (self._own, self._values, states, *self._running, key, self._count, self._length, backend)
        self._collect = Collector(policy, *given)
        self.programs = self._collect.programs

    def __call__(self) -> Tensor:
        """Return what each lane's agent, as it is now, earns in its episodes, `[S, num_episodes]`."""
        self._restart()
        return first_returns(self._collect, self._count, self._num_episodes, self._limit)

    def moments(self, lane: int) -> Iterator[Moment]:
        """Play again, and yield what the first episode of a lane looks like from its beginning to its end.

        It is played by the same programs and is the same to the bit. They take a few steps in one call, and
        begin the next episode in the step that ends one: what lies within a call is stepped to in plain
        Python from where it began, which may round differently, but for those few steps only.

        Args:
            lane: Which.
        """
        self._restart()
        env: Any = self._own.one([float(column[lane]) for column in self._values])
        here, window = self._first_of(lane), self._collect.window
        yield Moment(env.render(tree.index(here.inner, 0)), 0.0)
        for begin in range(0, self._limit, self._length):
            keys = self._collect.first_keys(lane).cpu()
            for rows in self._collect.in_parts():
                for row in rows:
                    action = tree.map(lambda x, row=row: x[row, lane, :1].cpu(), window.transition.action)
                    here, _ = advance_all(env, here, action, keys[row : row + 1])
                    over = bool(window.ended[row, lane, 0])
                    if row == rows[-1] and not over:
                        here = self._first_of(lane)
                    earned = float(window.episode_return[row, lane, 0])
                    yield Moment(env.render(tree.index(here.inner, 0)), earned)
                    if over or begin + row + 1 == self._limit:
                        return
            self._count += 1

    def close(self) -> None:
        """Do nothing: no environment lives outside of the tensors."""

    def _first_of(self, lane: int) -> envs.EnvState:
        """Return where the first environment of a lane is, `[1]` on the host."""
        return tree.map(lambda x: x[lane, :1].to("cpu", copy=True), self._running[0])  # type: ignore[no-any-return]

    def _restart(self) -> None:
        tree.map(lambda here, new: here.copy_(new), self._running, self._begin())
        self._count.zero_()

    def _begin(self) -> Running:
        def begin(agent: Any, values: list[Tensor], keys: Tensor, before: Any) -> Running:
            carry, env = self._policy.initial_carries(agent, keys.shape[0]), self._own.one(values)
            if before is None:
                return envs.reset_all(env, keys), carry
            return envs.restart_all(env, before, keys), carry

        in_dims = (0, 0, 0, None if self._env_states is None else 0)
        given = (self._states, self._values, self._keys, self._env_states)
        return vmap(begin, in_dims=in_dims)(*given)


class HostEpisodes:
    """The same for environments on the host, which are begun anew from the same seeds each time."""

    def __init__(
        self,
        policy: Policy,
        env: envs.HostEnv,
        states: Any,
        num_episodes: int,
        seed: int,
        limit: int,
        backend: str,
    ) -> None:
        """Make the environments, and compile what acts in them.

        Args: see `DeviceEpisodes`.
        """
        device, num_lanes = tree.leaves(states)[0].device, tree.leaves(states)[0].shape[0]
        world = envs.HostVector(dataclasses.replace(env, num_envs=None), num_lanes, num_episodes)
        key = random.key(seed, device).expand(num_lanes, 2).clone()
        self._count = torch.zeros(num_lanes, dtype=torch.int32, device=device)
        self._seeds = [seed] * num_lanes
        self._num_episodes, self._limit, self._length = num_episodes, limit, min(limit, _WINDOW)
        self.collector = HostCollector(policy, world, states, key, self._count, self._length, backend)
        self.programs = self.collector.programs

    def __call__(self) -> Tensor:
        """Return what each lane's agent, as it is now, earns in its episodes, `[S, num_episodes]`."""
        self.collector.reset(self._seeds)
        self._count.zero_()
        return first_returns(self.collector, self._count, self._num_episodes, self._limit)

    def moments(self, lane: int) -> Iterator[Moment]:
        """Play the first episode of a lane again, in an environment that draws itself, and yield what it looks like.

        What acts is the same program, and the environment has the same seed: where nothing else decides
        what it does, the episode is the same to the bit.

        Args:
            lane: Which.
        """
        if self.collector.window is None:  # nothing has been played yet, for which the program is bound
            self.collector.reset(self._seeds)
        self._count.zero_()
        self.collector.forget()
        drawn = HostPictures(self.collector.env.env)
        try:
            obs = drawn.reset(environment_seeds(self._seeds[lane], 1)[0])
            earned = torch.zeros((), dtype=torch.float32, device="cpu")
            yield Moment(drawn.frame(), 0.0)
            for step in range(self._limit):
                self._count.fill_(step // self._length)
                action = self.collector.choose(lane, obs, step % self._length)
                obs, reward, over = drawn.step(action)
                earned += reward
                yield Moment(drawn.frame(), float(earned))
                if over:
                    return
        finally:
            drawn.close()

    def close(self) -> None:
        """End the environments; `moments` can still be played, if episodes have been before."""
        self.collector.close()


def first_returns(collect: Collector | HostCollector, count: Tensor, num_episodes: int, limit: int) -> Tensor:
    """Return what the first episode of each environment earned, `[S, num_episodes]`."""
    num_lanes, device = count.shape[0], count.device
    returns = torch.zeros(num_lanes, num_episodes, dtype=torch.float32, device=device)
    over = torch.zeros_like(returns, dtype=torch.bool)
    for step in range(0, limit, _WINDOW):
        window = collect()
        count += 1
        for row in range(min(_WINDOW, limit - step)):
            returns = torch.where(over, returns, window.episode_return[row])
            over = over | window.ended[row]
        if bool(over.all()):
            break
    return returns
