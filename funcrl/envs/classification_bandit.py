"""Classification as a contextual bandit: see an image, name its class, be told only whether that was right.

Source: Riquelme, Tucker & Snoek 2018, "Deep Bayesian bandits showdown", arXiv 1802.09127, section 5
(bandits made of labelled data). `DigitsBandit-v0` is made of scikit-learn's 8x8 digits.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from funcrl.core import checks, random, tree
from funcrl.data import LabelledImages, digits

Frame = NDArray[np.uint8]

_DIGITS_SHAPE = (1, 8, 8)
_NUM_DIGITS = 10


@functools.cache
def _spaces(shape: tuple[int, ...], num_classes: int) -> tuple[spaces.Box, spaces.Discrete]:
    return spaces.Box(0.0, 1.0, shape, np.float32), spaces.Discrete(num_classes)


@tree.struct
class Question:
    """State of a `ClassificationBandit`: which image is shown, and what came of it."""

    index: Tensor
    """`[]` int64, number of the image"""
    is_right: Tensor
    """`[]` boolean, whether the class that was named was right; False before one was"""
    over: Tensor
    """`[]` boolean, whether a class has been named"""


@tree.struct
class ClassificationBandit:
    """The environment: an image drawn uniformly, an action for each class, reward 1 for the right one.

    One choice is an episode. The image stays in view when it has been made, so `next_obs` is `obs`.
    """

    render_fps = 4
    """pictures per second of a film"""

    data: LabelledImages | None = tree.static(default=None)
    """images and classes; None for scikit-learn's digits, loaded when first needed"""
    max_episode_steps: int | None = tree.static(default=None)
    """time limit; every episode ends after one step anyway"""

    def __post_init__(self) -> None:
        if not isinstance(self.data, LabelledImages | None):
            raise TypeError(
                f"ClassificationBandit: data must be LabelledImages or None, got {type(self.data).__name__}. "
                "Write envs.LabelledImages(images, labels)."
            )
        if self.data is not None:
            name, hold = "ClassificationBandit", "have labels"
            checks.require(self.data.num_classes > 0, name, "data", hold, self.data)
        checks.time_limit("ClassificationBandit", self.max_episode_steps)

    @property
    def observation_space(self) -> spaces.Box:
        """The image, channels first."""
        return self._spaces()[0]

    @property
    def action_space(self) -> spaces.Discrete:
        """The classes."""
        return self._spaces()[1]

    @property
    def reward_range(self) -> tuple[float, float]:
        """From wrong to right."""
        return 0.0, 1.0

    def initial(self, key: Tensor) -> Question:
        """Return an image, each equally likely."""
        num = len(self._data())
        no = torch.zeros((), dtype=torch.bool, device=key.device)
        # One of 2²⁴ numbers, so no image is favoured by more than M / 2²⁴ of its chance.
        return Question(index=(random.uniform(key) * num).long(), is_right=no, over=no)

    def transition(self, state: Question, action: Tensor, key: Tensor) -> Question:
        """Return the same image, with the verdict; the key is not used."""
        return Question(
            index=state.index, is_right=self._is_right(state, action), over=torch.ones_like(state.over)
        )

    def observation(self, state: Question, key: Tensor) -> Tensor:
        """Return the image, `[C, H, W]` float32 in [0, 1]."""
        return self._data().on(state.index.device)[0][state.index]

    def reward(self, state: Question, action: Tensor, next_state: Question, key: Tensor) -> Tensor:
        """Return 1 for the right class and 0 otherwise, `[]` float32."""
        return next_state.is_right.to(torch.float32)

    def terminal(self, state: Question, key: Tensor) -> Tensor:
        """Return whether a class has been named, `[]` boolean."""
        return state.over

    def regret(self, state: Question, action: Tensor) -> Tensor:
        """Return how much less the action pays than the best one, `[]` float32: 1 for a wrong class."""
        return 1.0 - self._is_right(state, action).to(torch.float32)

    def render(self, state: Question) -> Frame:
        """Draw the image: grey where it has not three channels, of the mean of them.

        Args:
            state: Which image.

        Returns:
            `[H, W, 3]` uint8, every pixel enlarged so that the shorter side has 240 or more.
        """
        image = self._data().on(torch.device("cpu"))[0][int(state.index)]
        if image.shape[0] != 3:
            image = image.mean(dim=0, keepdim=True).expand(3, -1, -1)
        factor = -(-240 // min(image.shape[1:]))
        large = image.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
        return np.asarray((255 * large).round().to(torch.uint8).permute(1, 2, 0))

    def _data(self) -> LabelledImages:
        return digits() if self.data is None else self.data

    def _spaces(self) -> tuple[spaces.Box, spaces.Discrete]:
        if self.data is None:
            return _spaces(_DIGITS_SHAPE, _NUM_DIGITS)
        return _spaces(self.data.shape, self.data.num_classes)

    def _is_right(self, state: Question, action: Tensor) -> Tensor:
        return self._data().on(state.index.device)[1][state.index] == action
