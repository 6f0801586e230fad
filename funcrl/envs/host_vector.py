"""The bridge: host environments of all lanes, stepped together.

The environments of all lanes stand in one row, lane after lane. Whatever autoreset mode the vector
environment beneath has, a `HostVector` shows one thing: what each action truly led to, and what to
act on next.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from torch import Tensor

from funcrl.core import random, tree
from funcrl.core.checks import require
from funcrl.envs import host_checks
from funcrl.envs.host import HostEnv
from funcrl.envs.host_checks import Checked, HostError
from funcrl.envs.host_stops import Stops


@dataclass(frozen=True)
class HostStep:
    """What one step of E environments returned, as tensors on the host."""

    valid: Tensor
    """`[E]` boolean; False where the step only began an episode and the action was ignored"""
    reward: Tensor
    """`[E]` float32"""
    terminated: Tensor
    """`[E]` boolean"""
    truncated: Tensor
    """`[E]` boolean"""
    next_obs: Any
    """`[E, ...]` what the action truly led to"""
    obs: Any
    """`[E, ...]` what to act on next: the first observation of the next episode where one ended"""


class HostVector:
    """E = S · N environments on the host, lane after lane."""

    def __init__(self, env: HostEnv, num_lanes: int, num_envs: int) -> None:
        """Make them.

        Args:
            env: What to run.
            num_lanes: S.
            num_envs: N, environments of one lane.
        """
        if env.num_envs not in (None, num_envs):
            raise ValueError(
                f"{env.name}: num_envs must be that of the algorithm's settings, {num_envs}, got {env.num_envs}. "
                "Leave num_envs out of from_gymnasium."
            )
        self.env = env
        self.num_lanes, self.num_envs = num_lanes, num_envs
        total = num_lanes * num_envs
        with self._blame("__init__"):
            if env.vectorization == "native":
                # One for each lane: their random streams are often shared inside.
                self._vectors: list[Any] = [env.make(num_envs=num_envs) for _ in range(num_lanes)]
            else:
                kind: Any = SyncVectorEnv if env.vectorization == "sync" else AsyncVectorEnv
                places = [f"environment {i % num_envs} of lane {i // num_envs}" for i in range(total)]
                makers = [functools.partial(Checked, env.make, env.name, place) for place in places]
                self._vectors = [kind(makers, autoreset_mode=AutoresetMode.SAME_STEP)]
        _check_vectors(env.name, self._vectors, total // len(self._vectors))
        self._mode = _mode_of(env.name, self._vectors[0])
        self._over = [np.zeros(vector.num_envs, dtype=bool) for vector in self._vectors]
        self._times = [0] * len(self._vectors)
        self._stops = Stops(env.name, env.action_space, num_lanes, num_envs)

    def reset(self, seeds: Sequence[int]) -> Any:
        """Begin an episode in every environment.

        Args:
            seeds: One a lane; each environment's own seed follows from its lane's.

        Returns:
            `[E, ...]` observations.
        """
        require(len(seeds) == self.num_lanes, f"{self.env.name}.reset", "seeds", "be one a lane", len(seeds))
        own = [environment_seeds(seed, self.num_envs) for seed in seeds]
        native = self.env.vectorization == "native"
        flat = [number for numbers in own for number in numbers]
        arguments: list[Any] = [numbers[0] for numbers in own] if native else [flat]
        with self._blame("reset"):
            rows = [vector.reset(seed=seed)[0] for vector, seed in zip(self._vectors, arguments, strict=True)]
            for number, row in enumerate(rows):
                self._check_obs("reset", number, row)
        self._over = [np.zeros(vector.num_envs, dtype=bool) for vector in self._vectors]
        self._times = [0] * len(self._vectors)
        self._stops.reset(seeds)
        self._obs = [as_tensors(row, self._space) for row in rows]
        return self._together(self._obs)

    def step(self, actions: Any, wanted: Sequence[bool] | None = None) -> HostStep:
        """Take one step everywhere.

        Args:
            actions: `[E, ...]`; those of a bounded Box are clipped to its bounds.
            wanted: One a lane; the native vector environments of other lanes stay where they are,
                and their rows are not valid. All by default.

        A lane whose actions or rewards are not finite stops with a warning, see `host_stops`.

        Raises:
            HostError: When an environment raises or returns what it must not, or the process that it
                runs in has died.
        """
        arrays = self._stops.actions(as_arrays(actions, self.env.action_space))
        steps, begin = [], 0
        with self._blame("step"):
            for number, vector in enumerate(self._vectors):
                part = tree.index(arrays, slice(begin, begin + vector.num_envs))
                waits = len(self._vectors) > 1 and wanted is not None and not wanted[number]
                steps.append(self._stay(number) if waits else self._step_one(number, vector, part))
                begin += vector.num_envs
        valid, reward, *others = (self._together(list(column)) for column in zip(*steps, strict=True))
        reward = self._stops.rewards(reward, valid)
        return HostStep(valid, reward, *others)

    def close(self) -> None:
        """End all environments and their processes."""
        for vector in self._vectors:
            vector.close()

    @property
    def _space(self) -> Any:
        return self.env.observation_space

    def _stay(self, number: int) -> tuple[Any, ...]:
        nothing = torch.zeros(self.num_envs, dtype=torch.bool, device="cpu")
        obs = self._obs[number]
        return (
            nothing,
            torch.zeros(self.num_envs, dtype=torch.float32, device="cpu"),
            nothing,
            nothing,
            obs,
            obs,
        )

    def _step_one(self, number: int, vector: Any, actions: Any) -> tuple[Any, ...]:
        obs, reward, terminated, truncated, infos = vector.step(actions)
        self._times[number] += 1
        if self.env.vectorization == "native":
            where, num = (f"{self.env.name}.step", self._place(number)), vector.num_envs
            self._check_obs("step", number, obs)
            reward = host_checks.rewards(*where, reward, num)
            terminated = host_checks.flags(*where, "terminated", terminated, num)
            truncated = host_checks.flags(*where, "truncated", truncated, num)
        valid = ~self._over[number]
        ended = (terminated | truncated) & valid
        after = as_tensors(obs, self._space)
        true = after
        if ended.any() and self._mode == AutoresetMode.SAME_STEP:
            true = tree.map(torch.clone, after)
            for i in ended.nonzero()[0]:
                last = as_tensors(_pick(infos["final_obs"], self._space, i), self._space)
                tree.map(lambda row, value, i=i: row[i].copy_(value), true, last)
        if ended.any() and self._mode == AutoresetMode.DISABLED:
            after = as_tensors(vector.reset(options={"reset_mask": ended})[0], self._space)
        self._over[number] = ended if self._mode == AutoresetMode.NEXT_STEP else np.zeros_like(ended)
        self._obs[number] = after
        figures = (
            torch.from_numpy(valid.copy()),
            torch.from_numpy(np.array(reward, dtype=np.float32)),
            torch.from_numpy(terminated & valid),
            torch.from_numpy(truncated & valid),
        )
        return (*figures, true, after)

    def _place(self, number: int) -> str:
        return f"lane {number} in step {self._times[number]}"

    def _check_obs(self, method: str, number: int, obs: Any) -> None:
        """Check what a native vector environment shows; those of single ones have been checked one by one."""
        if self.env.vectorization == "native":
            place = self._place(number) if method == "step" else f"lane {number}"
            lead = (self._vectors[number].num_envs,)
            host_checks.check_obs(f"{self.env.name}.{method}", place, obs, self._space, lead)

    @staticmethod
    def _together(rows: list[Any]) -> Any:
        return rows[0] if len(rows) == 1 else tree.map(lambda *parts: torch.cat(parts), *rows)

    def _blame(self, method: str) -> _Blame:
        return _Blame(self, method)


class _Blame:
    """Turns whatever a host environment raises into a `HostError` that names it, and ends the others."""

    def __init__(self, vector: HostVector, method: str) -> None:
        self._vector = vector
        self._where = f"{vector.env.name}.{method}"

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None or not isinstance(error, Exception):
            return
        for vector in getattr(self._vector, "_vectors", []):
            if isinstance(vector, AsyncVectorEnv) and not vector.closed:
                _end(vector)
        if isinstance(error, HostError):
            return
        if isinstance(error, (EOFError, BrokenPipeError, ConnectionError)):
            raise HostError(
                f"{self._where}: every worker process must stay alive, but one has died "
                "(killed, out of memory, or crashed in native code)."
            ) from error
        raise HostError(
            f"{self._where}: the host environment raised {type(error).__name__}: {error}"
        ) from error


def _end(vector: AsyncVectorEnv) -> None:
    """End all processes of a vector environment, of which one may have died."""
    try:
        vector.close(terminate=True)
    except (EOFError, OSError):  # it waits for the answer of the one that has died
        for process in vector.processes:
            process.terminate()
            process.join(1)
        vector.closed = True


def environment_seeds(seed: int, num_envs: int) -> list[int]:
    """Return a seed in [0, 2³¹) for each environment of a lane; the first do not depend on how many.

    >>> environment_seeds(0, 3)[:2] == environment_seeds(0, 2)
    True
    """
    words = random.split(random.key(seed, "cpu"), num_envs)[:, 0]
    return [int(word) & 0x7FFFFFFF for word in words]


def _check_vectors(name: str, vectors: list[Any], num_envs: int) -> None:
    """Check that there are as many environments as asked for, and none of them twice."""
    for vector in vectors:
        hold = f"hold {num_envs} environments"
        require(vector.num_envs == num_envs, name, "the vector environment", hold, vector.num_envs)
    singles = [env.unwrapped for vector in vectors for env in getattr(vector, "envs", [vector])]
    distinct = len({id(env) for env in singles})
    instead = "Make a new one in the function that you give to from_gymnasium."
    hold = f"be {len(singles)} different ones"
    require(distinct == len(singles), name, "environments", hold, distinct, instead)


def _mode_of(name: str, vector: Any) -> AutoresetMode:
    mode = vector.metadata.get("autoreset_mode")
    known = isinstance(mode, AutoresetMode)
    hold = "name one of Gymnasium's AutoresetMode"
    require(known, "from_gymnasium", f"{name}'s metadata['autoreset_mode']", hold, mode)
    return mode  # type: ignore[no-any-return]


def as_tensors(value: Any, space: Any) -> Any:
    """Return observations as tensors of their own, in the dtypes of the space."""
    if isinstance(space, (spaces.Tuple, spaces.Dict)):
        return _by_part(as_tensors, value, space)
    dtype = space.dtype if isinstance(space, (spaces.Box, spaces.MultiBinary)) else np.int64
    array = value.numpy(force=True) if isinstance(value, Tensor) else value
    return torch.from_numpy(np.array(array, dtype=dtype))


def as_arrays(actions: Any, space: Any) -> Any:
    """Return actions as Gymnasium's environments take them, those of a bounded Box clipped to its bounds.

    Policies of a Box draw beyond its bounds; Gymnasium's environments differ in what they do there.
    """
    if isinstance(space, (spaces.Tuple, spaces.Dict)):
        return _by_part(as_arrays, actions, space)
    array = actions.cpu().numpy()
    return np.clip(array, space.low, space.high) if isinstance(space, spaces.Box) else array


def _by_part(change: Callable[[Any, Any], Any], value: Any, space: Any) -> Any:
    if isinstance(space, spaces.Tuple):
        return tuple(change(part, own) for part, own in zip(value, space.spaces, strict=True))
    return {name: change(value[name], own) for name, own in space.spaces.items()}


def _pick(final: Any, space: Any, i: int) -> Any:
    """Return the last observation of environment `i` out of what `infos["final_obs"]` holds."""
    if isinstance(space, spaces.Dict) and isinstance(final, dict):
        return {name: _pick(final[name], own, i) for name, own in space.spaces.items()}
    if isinstance(space, spaces.Tuple) and isinstance(final, tuple):
        return tuple(_pick(part, own, i) for part, own in zip(final, space.spaces, strict=True))
    return final[i]
