"""Lanes whose experience has stopped being numbers, among host environments that others go on with.

An agent that has diverged would hand its environments actions that are no numbers, at which a simulator raises, and one
that is paid NaN is lost. Such a lane stops: its environments go through the motions, with actions that do no harm, and
what it is paid is NaN from there on, so that at the end it is named as not finite.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor


class Stops:
    """Which lanes of a row of E = S · N environments have stopped."""

    def __init__(self, name: str, space: Any, num_lanes: int, num_envs: int) -> None:
        """Begin with none.

        Args:
            name: How errors call the environment.
            space: Of its actions.
            num_lanes: S.
            num_envs: N.
        """
        self._name, self._space = name, space
        self._shape = (num_lanes, num_envs)
        self.reset(range(num_lanes))

    def reset(self, seeds: Sequence[int]) -> None:
        """Begin again.

        Args:
            seeds: One a lane, by which it is called.
        """
        self._seeds = list(seeds)
        self._steps = torch.zeros(self._shape, dtype=torch.int64, device="cpu")
        self._stopped = torch.zeros(self._shape[0], dtype=torch.bool, device="cpu")

    def actions(self, arrays: Any) -> Any:
        """Return actions `[E, ...]` that environments can be given."""
        self._stop("action", _finite(arrays, self._space, self._shape))
        if not self._stopped.any():
            return arrays
        return _replaced(arrays, self._space, self._of_each().numpy())

    def rewards(self, reward: Tensor, valid: Tensor) -> Tensor:
        """Return rewards `[E]` of a step, NaN in lanes that have stopped.

        Args:
            reward: `[E]`.
            valid: `[E]` boolean, where there was a step.
        """
        self._steps += valid.reshape(self._shape)
        self._stop("reward", (reward.isfinite() | ~valid).reshape(self._shape))
        return torch.where(self._of_each(), torch.nan, reward) if self._stopped.any() else reward

    def _of_each(self) -> Tensor:
        return self._stopped.repeat_interleave(self._shape[1])

    def _stop(self, what: str, fine: Tensor) -> None:
        """Stop lanes of which something is not finite, `[S, N]`, and say so."""
        for lane in (~fine.all(dim=1) & ~self._stopped).nonzero().flatten().tolist():
            number = int((~fine[lane]).nonzero()[0])
            step = int(self._steps[lane, number]) + (what == "action")
            warnings.warn(
                f"{self._name}.step: {what} of environment {number} of seed {self._seeds[lane]} in its step {step} "
                "must be finite. The seed stops there; others go on.",
                RuntimeWarning,
                stacklevel=2,
            )
            self._stopped[lane] = True


def _finite(arrays: Any, space: Any, shape: tuple[int, int]) -> Tensor:
    """Return whose actions are finite, `[S, N]`."""
    if isinstance(space, spaces.Tuple):
        return torch.stack(
            [_finite(array, own, shape) for array, own in zip(arrays, space.spaces, strict=True)]
        ).all(0)
    if isinstance(space, spaces.Dict):
        return torch.stack([_finite(arrays[name], own, shape) for name, own in space.spaces.items()]).all(0)
    if not isinstance(space, spaces.Box):
        return torch.ones(shape, dtype=torch.bool, device="cpu")
    return torch.from_numpy(np.isfinite(arrays).reshape(*shape, -1).all(axis=-1))


def _replaced(arrays: Any, space: Any, stopped: Any) -> Any:
    """Return actions with others for stopped environments: zero, or what is nearest to it in the space."""
    if isinstance(space, spaces.Tuple):
        return tuple(_replaced(array, own, stopped) for array, own in zip(arrays, space.spaces, strict=True))
    if isinstance(space, spaces.Dict):
        return {name: _replaced(arrays[name], own, stopped) for name, own in space.spaces.items()}
    if isinstance(space, spaces.Box):
        harmless = np.clip(0, space.low, space.high)
    else:
        harmless = np.asarray(getattr(space, "start", 0))
    return np.where(stopped.reshape(-1, *[1] * (arrays.ndim - 1)), harmless, arrays).astype(arrays.dtype)
