"""Pictures of what agents do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from funcrl import envs
from funcrl.core import checks, lanes, random, tree
from funcrl.core.checks import require
from funcrl.envs.drawing import Frame, check_frame, metadata
from funcrl.envs.host_pictures import HostPictures
from funcrl.train.episodes import DeviceEpisodes, HostEpisodes, Moment
from funcrl.train.evaluation import make_episodes
from funcrl.train.learnt import check_states
from funcrl.train.resolve import resolve_algorithm, resolve_env


@dataclass(frozen=True)
class Film:
    """An episode that is played while it is looked at, once."""

    moments: Iterator[Moment]
    """from the first state to the one that ended the episode"""
    fps: float
    """pictures a second that the environment wants to be shown"""

    @property
    def frames(self) -> Iterator[Frame]:
        """The pictures alone, `[H, W, 3]` each, of the moments that are still to come."""
        return (moment.frame for moment in self.moments)


def film(
    algorithm: str | ModuleType,
    env: str | envs.AnyEnv,
    states: Any,
    *,
    lane: int = 0,
    num_episodes: int = 20,
    seed: int = 0,
    max_steps: int | None = None,
    greedy: bool = True,
    env_states: Any = None,
    backend: str = "aot_eager",
) -> Film:
    """Return pictures of the first of the episodes with which `evaluate` judges a lane's agent.

    It is played among the same episodes, by the same programs, so with the same arguments it earns
    what `evaluate` says, to the bit: products of other shapes round differently, and there are
    environments where that shows.

    Args:
        algorithm: Name or module.
        env: Name or environment, which must draw itself: with `render(state)`, or on the host in
            Gymnasium's mode `"rgb_array"`.
        states: See `evaluate`; the agents of all lanes.
        lane: Whose episode, from 0 on.
        num_episodes: See `evaluate`.
        seed: See `evaluate`.
        max_steps: See `evaluate`.
        greedy: See `evaluate`.
        env_states: See `evaluate`.
        backend: See `train`.

    Returns:
        The film; `funcrl.io.write_video` writes its frames into a file.

    Raises:
        ValueError: When the environment does not draw itself, there is no such lane, or see `evaluate`.
        ModuleNotFoundError: Without Pillow, which `pip install "funcrl[render]"` brings.

    >>> from funcrl.algos import ppo
    >>> from funcrl.core import tree
    >>> env = envs.make("CartPole-v1", max_episode_steps=3)
    >>> states = tree.stack([ppo.init(random.key(0), ppo.Config(), env)])
    >>> [moment.episode_return for moment in film("ppo", env, states, backend="eager").moments]
    [0.0, 1.0, 2.0, 3.0]
    """
    world = resolve_env("film", env)
    fps = check_draws("film", world)
    algorithm = resolve_algorithm("film", algorithm)
    check_states("film", "states", algorithm, states)
    checks.integer("film", "lane", lane, 0)
    num_lanes = tree.leaves(states)[0].shape[0]
    require(lane < num_lanes, "film", "lane", f"be below {num_lanes}, the number of lanes", lane)
    episodes = make_episodes(
        "film",
        algorithm,
        world,
        states,
        num_episodes=num_episodes,
        seed=seed,
        max_steps=max_steps,
        greedy=greedy,
        env_states=env_states,
        backend=backend,
    )
    return Film(_once(episodes, lane), fps)


def check_draws(function: str, env: envs.AnyEnv) -> float:
    """Return how many pictures a second an environment wants to be shown, after it has drawn one.

    Args:
        function: Who complains.
        env: On the device or on the host.

    Raises:
        ValueError: When it does not draw itself.
        ModuleNotFoundError: Without Pillow.

    >>> check_draws("film", envs.make("CartPole-v1"))
    50.0
    """
    what, hold = "the environment", "draw itself"
    if isinstance(env, envs.HostEnv):
        try:
            with contextlib.closing(HostPictures(env)) as pictures:
                pictures.reset(0)
                pictures.frame()
                return pictures.fps
        except envs.HostError as error:
            raise ValueError(f"{function}: {what} must {hold}, got: {error}") from error
    one: Any = lanes.first(env)
    instead = "Its class wants a method render(state), see funcrl.envs.Env."
    require(hasattr(one, "render"), function, what, hold, type(envs.innermost(one)).__name__, instead)
    check_frame(f"{type(one).__name__}.render", one.render(envs.reset(one, random.key(0, "cpu")).inner))
    return float(metadata(one)["render_fps"])


def _once(episodes: DeviceEpisodes | HostEpisodes, lane: int) -> Iterator[Moment]:
    with contextlib.closing(episodes):
        yield from episodes.moments(lane)
