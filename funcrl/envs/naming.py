"""Environments from words: a name, fields to change, and wrappers by name, as a command line or a file says them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium

from funcrl.core import checks
from funcrl.core.checks import require
from funcrl.envs.flattening import FlattenObservation, OneHotObservation
from funcrl.envs.host import HostEnv, from_gymnasium
from funcrl.envs.masks import MaskActions, MaskActionsOnHost
from funcrl.envs.normalisation import NormalizeObservation, NormalizeReward
from funcrl.envs.registry import REGISTRY, full_name, make
from funcrl.envs.stepping import Env
from funcrl.envs.wrappers import FrameStack, RepeatAction, ScaleReward, TimeLimit

WRAPPERS: dict[str, type[Any]] = {
    "flatten": FlattenObservation,
    "frame_stack": FrameStack,
    "mask_actions": MaskActions,
    "normalize_observation": NormalizeObservation,
    "normalize_reward": NormalizeReward,
    "one_hot": OneHotObservation,
    "repeat_action": RepeatAction,
    "scale_reward": ScaleReward,
    "time_limit": TimeLimit,
}
"""Of environments on the device."""


def _atari(env: Any, num_frames: int = 4, frame_skip: int = 4, screen_size: int = 84) -> Any:
    """Return a game of Atari as agents see it in the literature.

    Up to 30 steps without an action at first, every fourth frame (the larger one of it and the frame before), grey, 84 x 84, the last four
    together. Its own frame skip must be 1, as in `ALE/Breakout-v5` with `frameskip=1`.

    Source: Mnih et al. 2015, "Human-level control through deep reinforcement learning", Methods; Machado et al. 2018,
    "Revisiting the arcade learning environment", for games that go on when a life is lost.
    """
    seen = gymnasium.wrappers.AtariPreprocessing(
        env, frame_skip=int(frame_skip), screen_size=int(screen_size)
    )
    return gymnasium.wrappers.FrameStackObservation(seen, int(num_frames))


_ON_HOST: dict[str, Any] = {
    "atari": _atari,
    "flatten": lambda env: gymnasium.wrappers.FlattenObservation(env),
    "frame_stack": lambda env, num_frames=4: gymnasium.wrappers.FrameStackObservation(env, int(num_frames)),
    "mask_actions": lambda env: MaskActionsOnHost(env),
    "scale_reward": lambda env, scale=1.0, shift=0.0: gymnasium.wrappers.TransformReward(
        env, lambda reward: float(scale) * (float(reward) + float(shift))
    ),
    "time_limit": lambda env, max_episode_steps=1000: gymnasium.wrappers.TimeLimit(
        env, int(max_episode_steps)
    ),
}
"""Of environments on the host, mostly Gymnasium's own; those that learn something would not be saved with a run."""


def from_words(
    function: str, name: str, params: Mapping[str, Any] | None = None, wrappers: Sequence[str] = ()
) -> Env | HostEnv:
    """Make an environment from words.

    Args:
        function: Who complains.
        name: As `train` takes it.
        params: Fields to change; for one on the host, what `gymnasium.make` takes.
        wrappers: From the innermost to the outermost: `"flatten"`, `"frame_stack=4"`,
            `"scale_reward=scale:0.125,shift:8"`.

    Raises:
        ValueError: When a name, a field or a value cannot be.

    >>> from_words("train", "Taxi-v3", wrappers=["flatten"]).observation_space.shape
    (500,)
    """
    params = dict(params or {})
    if wraps_atari(wrappers):
        params = _for_atari(function, name, params)
    if full_name(name) in REGISTRY:
        env: Any = make(name, **params)
        for word in wrappers:
            kind, fields = _read(function, word, WRAPPERS)
            wrapper = WRAPPERS[kind]
            own = [field.name for field in dataclasses.fields(wrapper) if field.name != "env"]
            given = _named(function, word, fields, own)
            env = wrapper(env, **given)
        return env  # type: ignore[no-any-return]
    read = []
    for word in wrappers:
        kind, fields = _read(function, word, _ON_HOST)
        own = list(_ON_HOST[kind].__code__.co_varnames[1 : _ON_HOST[kind].__code__.co_argcount])
        read.append((_ON_HOST[kind], _named(function, word, fields, own)))

    def made(**more: Any) -> Any:
        env = gymnasium.make(name, **(params | more))
        for wrap, given in read:
            env = wrap(env, **given)
        return env

    made.__name__ = name
    return from_gymnasium(made) if read else from_gymnasium(name, **params)


def wraps_atari(wrappers: Sequence[str]) -> bool:
    """Return whether a game of Atari is asked for, whose names Gymnasium learns when it is made.

    >>> wraps_atari(["atari=4", "time_limit=100"])
    True
    """
    return any(word.partition("=")[0] == "atari" for word in wrappers)


def _for_atari(function: str, name: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return what to make a game of Atari with, for the wrapper that skips frames itself.

    Raises:
        ModuleNotFoundError: Without what the extra `atari` brings.
        ValueError: When it is no game of Atari, or skips frames already.
    """
    import ale_py
    import cv2

    assert cv2  # with which Gymnasium makes frames smaller
    gymnasium.register_envs(ale_py)
    known = [game for game in gymnasium.registry if game.startswith("ALE/")]
    hold = "be a game of the arcade learning environment under --wrap atari, 'ALE/Breakout-v5'"
    require(
        name.removeprefix("ale_py:") in known, function, "env", hold, name, checks.did_you_mean(name, known)
    )
    skip = params.get("frameskip", 1)
    require(skip == 1, function, "frameskip", "be 1, for --wrap atari skips frames", skip, "Leave it out.")
    return {**params, "frameskip": 1}


def _read(function: str, word: str, known: Mapping[str, Any]) -> tuple[str, str]:
    name, _, fields = word.partition("=")
    name = name.strip().replace("-", "_")
    checks.known(function, "--wrap", name, known)
    return name, fields.strip()


def _named(function: str, word: str, text: str, own: list[str]) -> dict[str, float | int]:
    """Return a wrapper's fields from `4`, or from `scale:0.125,shift:8`."""
    given: dict[str, float | int] = {}
    for part in filter(None, text.split(",")):
        name, colon, number = part.rpartition(":")
        name = name.strip().replace("-", "_") if colon else (own[0] if own else "")
        hold = f"name fields of its wrapper ({', '.join(own) or 'it has none'})"
        require(name in own and name not in given, function, "--wrap", hold, word)
        try:
            value = float(number)
        except ValueError:
            wrapper, field = word.partition("=")[0], f"{name}:1.0" if colon else "4"
            require(False, function, "--wrap", "have numbers", word, f"Write {wrapper}={field}.")
        given[name] = int(value) if value.is_integer() and "." not in number and "e" not in number else value
    return given
