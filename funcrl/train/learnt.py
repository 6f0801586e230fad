"""Agents that exist already: what people hand in as such, and training that goes on from them."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from funcrl import envs
from funcrl.core import lanes, random, tree
from funcrl.core.checks import require
from funcrl.train.episodes import needs_env_states
from funcrl.train.result import Result


@dataclass(frozen=True)
class Agents:
    """Agents that training can go on from, as a `Result` holds them, lane axis first."""

    states: Any
    """`[S]` of the algorithm"""
    env_states: Any = None
    """`[S, N]` environments that they learnt in, or None"""


@tree.struct
class Learnt:
    """What training begins with that begins with agents which exist, lane axis first."""

    fields: dict[str, Any]
    """`[S, ...]` the fields of the algorithm's `State` that are called `LEARNT`"""
    env_states: Any = ()
    """`[S, 1]` environments that moments and arms are taken from; `()` where nothing outlives an episode"""

    def agent(self, new: Any) -> Any:
        """Return a new agent of one lane with what has been learnt."""
        return tree.replace(new, **self.fields)

    def environments(self, env: envs.Env, new: Any, keys: torch.Tensor) -> Any:
        """Return N environments of one lane that have just begun, with what outlives an episode.

        Args:
            env: The environment.
            new: `[N]` new ones.
            keys: `[N, 2]` int32, of which those were made.
        """
        if self.env_states == ():
            return new
        return envs.restart_all(env, self.env_states, keys)


def learnt_by(
    algorithm: ModuleType, env: envs.AnyEnv, example: Any, num_lanes: int, start: Result | Any
) -> Learnt:
    """Return what agents have learnt, for a training of `num_lanes` lanes.

    Args:
        algorithm: What goes on learning.
        env: In which environment.
        example: A new agent of one lane.
        num_lanes: S.
        start: A `Result`, the states of one, or a run that was opened, of S lanes; or of one lane, which all
            begin with.

    Raises:
        TypeError: When these are no agents of the algorithm.
        ValueError: When there are not as many, or their networks or tables have other shapes.
    """
    opened: Any = start
    if callable(getattr(opened, "start", None)):
        start = opened.start()
    known = isinstance(start, (Agents, Result))
    states, env_states = (start.states, start.env_states) if known else (start, None)
    check_states("train", "start", algorithm, states)
    found = len(tree.leaves(states)[0])
    hold = f"hold one agent for all {num_lanes} seeds, or one for each"
    require(found in (1, num_lanes), "train", "start", hold, f"{found} agents")
    fields = {name: getattr(states, name) for name in algorithm.LEARNT}
    own = {name: getattr(example, name) for name in algorithm.LEARNT}
    given, needed = tree.named_leaves(fields), tree.named_leaves(own)
    shapes = {name: (tuple(x.shape[1:]), x.dtype) for name, x in given.items()}
    wanted = {name: (tuple(x.shape), x.dtype) for name, x in needed.items()}
    other = sorted(name for name in shapes.keys() | wanted if shapes.get(name) != wanted.get(name))
    what = ", ".join(f"{name} {shapes.get(name)} for {wanted.get(name)}" for name in other[:3])
    instead = "Give the settings of their networks, and an environment of the same spaces."
    require(not other, "train", "start", "have learnt in tensors of the same shapes", what, instead)
    kept: Any = ()
    if needs_env_states(env):
        hold = (
            "come with environments that normalise observations, or whose arms were drawn, as this one's do"
        )
        instead = "Write start=result in the place of its states, of a training in such an environment."
        require(env_states is not None, "train", "start", hold, "agents alone", instead)
        check_env_states("train", "start.env_states", states, env_states, lanes.first(env))
        # All environments of a lane hold the same moments; those of the first serve all.
        kept = tree.index(env_states, (slice(None), slice(1)))
    spread = tree.map(lambda x: x.expand(num_lanes, *x.shape[1:]), (fields, kept))
    return Learnt(*spread)


def check_states(function: str, argument: str, algorithm: ModuleType, states: Any) -> None:
    """Check that states are agents of an algorithm, lane axis first.

    Raises:
        TypeError: When they are something else.
        ValueError: When they have no lanes.
    """
    name = algorithm.__name__.rpartition(".")[2]
    if not isinstance(states, algorithm.State):
        kind = type(states)
        found = f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"
        raise TypeError(
            f"{function}: {argument} must be a {name}.State with a lane axis, got {found}. Write result.states."
        )
    if not isinstance(states.config, algorithm.Config):
        other = type(states.config).__module__.rpartition(".")[2]
        raise TypeError(f"{function}: {argument} must be of {name}, got those of {other}. Write {other!r}.")
    lanes = {leaf.shape[:1] for leaf in tree.leaves(states)}
    require(
        len(lanes) == 1 and lanes != {()} and lanes != {(0,)},
        function,
        argument,
        "have a lane axis in front of every tensor",
        f"tensors that begin with {sorted(tuple(shape) for shape in lanes)}",
        "Write tree.stack([state]) for a single state.",
    )


def check_env_states(function: str, argument: str, states: Any, env_states: Any, env: envs.Env) -> None:
    """Check that environments are those of as many lanes, and of this kind.

    Raises:
        ValueError: When they are not.
    """
    num_lanes = tree.leaves(states)[0].shape[0]
    if isinstance(env_states, envs.EnvState):
        wanted = tree.named_leaves(envs.reset(lanes.first(env), random.key(0, "cpu")))
        given = tree.named_leaves(env_states)
        same = {name: tuple(leaf.shape) for name, leaf in wanted.items()} == {
            name: tuple(leaf.shape[2:]) for name, leaf in given.items()
        }
        hold = "be of the environment that is evaluated"
        require(same, function, argument, hold, list(given), "Write result.env_states.")
    found = env_states.episode_length.shape[:1] if isinstance(env_states, envs.EnvState) else type(env_states)
    require(
        found == (num_lanes,),
        function,
        argument,
        f"be environments of {num_lanes} lanes",
        found,
        "Write result.env_states.",
    )
