"""What host environments return, checked before arrays and tensors are made of it.

Gymnasium's vector environments take a reward of None for NaN and the word "no" for True, and answer
an array with a sentence of numpy's that names nobody.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.core import masks


class HostError(RuntimeError):
    """A host environment failed: it raised, returned what it must not, or its process died."""


class Checked(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that names itself and its step where it returns what no agent can learn from.

    A reward of NaN or infinity is a number, and passes; see `host_stops`.
    """

    def __init__(self, make: Callable[[], Any], name: str, place: str) -> None:
        """Make the environment.

        Args:
            make: Makes it.
            name: How errors call it.
            place: Which of them it is: `"environment 2 of lane 0"`.
        """
        super().__init__(make())
        self._name, self._place, self._time = name, place, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin an episode."""
        self._time = 0
        result: Any = self.env.reset(seed=seed, options=options)
        where = (f"{self._name}.reset", self._place)
        if not _is_tuple(result, 2):
            refuse(*where, "what it returns", "be (obs, info)", result)
        obs, info = result
        check_obs(*where, obs, self.observation_space)
        _check_mask(*where, obs, self.env)
        return obs, _info(*where, info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a step."""
        self._time += 1
        result: Any = self.env.step(action)
        where = (f"{self._name}.step", f"{self._place} in step {self._time} of its episode")
        if not _is_tuple(result, 5):
            hold = "be (obs, reward, terminated, truncated, info)"
            refuse(*where, "what it returns", hold, result)
        obs, reward, terminated, truncated, info = result
        check_obs(*where, obs, self.observation_space)
        if not _is_number(reward):
            refuse(*where, "reward", "be one number", reward, "Return a float.")
        for what, flag in (("terminated", terminated), ("truncated", truncated)):
            if not _is_flag(flag):
                refuse(*where, what, "be True or False", flag, "Return a bool.")
        if not terminated:
            _check_mask(*where, obs, self.env)
        return obs, float(reward), bool(terminated), bool(truncated), _info(*where, info)


def refuse(function: str, place: str, what: str, hold: str, value: Any, instead: str = "") -> None:
    """Raise a `HostError` in the house's voice.

    >>> refuse("Maze.step", "environment 0 of lane 1", "reward", "be one number", None)
    Traceback (most recent call last):
    funcrl.envs.host_checks.HostError: Maze.step: reward of environment 0 of lane 1 must be one number, got None.
    """
    raise HostError(f"{function}: {what} of {place} must {hold}, got {_shown(value)}. {instead}".rstrip())


def check_obs(
    function: str, place: str, value: Any, space: Any, lead: tuple[int, ...] = (), what: str = "obs"
) -> None:
    """Check that an observation has the structure of its space, and numbers of its shape and kind.

    Args:
        function: Who complains, `"Maze.step"`.
        place: Which environment, in which step.
        value: The observation.
        space: Its space; of another kind than an agent can see, it is not checked.
        lead: `(N,)` for the observations of N environments at once.
        what: How to call it.

    Raises:
        HostError: When it has not.
    """
    if isinstance(space, spaces.Dict):
        names = set(space.spaces)
        if not (hasattr(value, "keys") and names <= set(value.keys())):
            refuse(function, place, what, f"have the keys {', '.join(map(repr, sorted(names)))}", value)
        for name, own in space.spaces.items():
            check_obs(function, place, value[name], own, lead, f"{what}[{name!r}]")
    elif isinstance(space, spaces.Tuple):
        num = len(space.spaces)
        if not _is_tuple(value, num):
            refuse(function, place, what, f"be a tuple of {num}", value)
        for i, own in enumerate(space.spaces):
            check_obs(function, place, value[i], own, lead, f"{what}[{i}]")
    elif isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        shape, array = (*lead, *(space.shape or ())), as_array(value)
        kinds = "buif" if np.dtype(space.dtype).kind == "f" else "bui"
        if array is None or array.dtype.kind not in kinds or array.shape != shape:
            hold = f"hold {'numbers' if 'f' in kinds else 'integers'} of shape {shape}"
            refuse(function, place, what, hold, value, f"Its space is {space}.")


def rewards(function: str, place: str, value: Any, num: int) -> Any:
    """Return the rewards of `num` environments as an array `[num]`.

    Raises:
        HostError: When they are no such numbers.

    >>> rewards("Maze.step", "lane 0", [1, 2], 2).tolist()
    [1, 2]
    """
    array = as_array(value)
    if array is None or array.dtype.kind not in "buif" or array.shape != (num,):
        refuse(function, place, "reward", f"hold {num} numbers", value)
    return array


def flags(function: str, place: str, what: str, value: Any, num: int) -> Any:
    """Return `terminated` or `truncated` of `num` environments as an array `[num]` of booleans.

    Raises:
        HostError: When they are neither booleans nor 0 and 1.

    >>> flags("Maze.step", "lane 0", "terminated", [1, 0], 2).tolist()
    [True, False]
    """
    array = as_array(value)
    known = array is not None and array.dtype.kind in "bui" and bool(((array == 0) | (array == 1)).all())
    if not known or array.shape != (num,):
        refuse(function, place, what, f"hold True or False for each of {num}", value)
    return array.astype(bool)


def as_array(value: Any) -> Any:
    """Return numbers as an array; None where they cannot be one."""
    if isinstance(value, np.ndarray):
        return value
    try:
        return value.numpy(force=True) if isinstance(value, Tensor) else np.asarray(value)
    except (TypeError, ValueError):  # nested lists of different lengths
        return None


def _check_mask(function: str, place: str, obs: Any, env: Any) -> None:
    """Check that an observation which says which actions are valid names one at least, see `core.masks`."""
    if not masks.is_masked(env.observation_space):
        return
    if masks.allow_nothing(torch.from_numpy(as_array(obs[masks.MASK])), env.action_space):
        refuse(function, place, f"obs[{masks.MASK!r}]", "allow an action of every choice", obs[masks.MASK])


def _is_tuple(value: Any, length: int) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == length


def _is_number(value: Any) -> bool:
    if isinstance(value, (float, np.floating, numbers.Real, np.bool_)):
        return True
    return getattr(value, "shape", None) == () and as_array(value).dtype.kind in "buif"


def _is_flag(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return True
    array = as_array(value) if getattr(value, "shape", None) == () or isinstance(value, int) else None
    return array is not None and array.dtype.kind in "bui" and bool(array == 0 or array == 1)


def _info(function: str, place: str, info: Any) -> dict[str, Any]:
    if not isinstance(info, dict):
        refuse(function, place, "info", "be a dict", info, "Return {}.")
    return info  # type: ignore[no-any-return]


def _shown(value: Any) -> str:
    """Return a value as an error shows it: arrays by shape and dtype, all else in a few words."""
    if getattr(value, "shape", None):
        return f"an array of shape {tuple(value.shape)} and {value.dtype}"
    if isinstance(value, tuple) and not all(isinstance(part, numbers.Real) for part in value):
        return f"{len(value)} values"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
