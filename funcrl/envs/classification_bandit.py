"""Classification as a contextual bandit: see an image, name its class, be told only whether that was right.

Source: Riquelme, Tucker & Snoek 2018, "Deep Bayesian bandits showdown", arXiv 1802.09127, section 5
(bandits made of labelled data). `DigitsBandit-v0` is made of scikit-learn's 8x8 digits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from funcrl.core import checks, random, tree

Frame = NDArray[np.uint8]
T = TypeVar("T")

_DIGITS_SHAPE = (1, 8, 8)
_NUM_DIGITS = 10


class LabelledImages:
    """Images and their classes, the data of a `ClassificationBandit`; equal to itself only.

    >>> data = LabelledImages(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 1]))
    >>> data.shape, data.num_classes, len(data)
    ((1, 8, 8), 2, 3)
    """

    def __init__(self, images: Any, labels: Any, num_classes: int | None = None) -> None:
        """Check and copy.

        Args:
            images: `[M, C, H, W]` in [0, 1], tensor or array.
            labels: `[M]` integers from 0 on.
            num_classes: A; one more than the largest label by default.

        Raises:
            ValueError: When shapes do not fit, a number is out of range, or there is no image.
            TypeError: When the labels are not integers.
        """
        name = "LabelledImages"
        images = torch.as_tensor(images, dtype=torch.float32, device="cpu").detach().clone()
        labels = torch.as_tensor(labels, device="cpu").detach().clone()
        hold = "be [M, C, H, W] with at least one image and one pixel"
        shape = tuple(images.shape)
        instead = "Grey images need an axis: images[:, None]." if images.ndim == 3 else ""
        checks.require(images.ndim == 4 and images.numel() > 0, name, "images", hold, shape, instead)
        inside = bool(((images >= 0) & (images <= 1)).all())
        span = (float(images.min()), float(images.max()))
        instead = "Divide by the largest value, images / 255 for bytes."
        checks.require(inside, name, "images", "lie in [0, 1]", span, instead)
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise TypeError(f"{name}: labels must be integers, got {labels.dtype}. Write labels.long().")
        checks.require(labels.shape == (len(images),), name, "labels", "be one an image", tuple(labels.shape))
        largest = int(labels.max())
        if num_classes is None:
            num_classes = largest + 1
        checks.integer(name, "num_classes", num_classes, 1)
        span = (int(labels.min()), largest)
        inside = span[0] >= 0 and largest < num_classes
        checks.require(inside, name, "labels", f"lie in [0, {num_classes - 1}]", span)
        self.num_classes = int(num_classes)
        self.shape: tuple[int, int, int] = shape[1:]
        self._copies = {torch.device("cpu"): (images, labels.to(torch.int64))}

    def __len__(self) -> int:
        return len(self._copies[torch.device("cpu")][1])

    def __repr__(self) -> str:
        return f"LabelledImages({len(self)} of {self.shape}, {self.num_classes} classes)"

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the images `[M, C, H, W]` and the labels `[M]` int64 on a device, copied there once.

        A program that is traced meanwhile takes the copy as a constant, shared by all lanes.
        """
        if device not in self._copies:
            images, labels = self._copies[torch.device("cpu")]
            self._copies[device] = _untraced(lambda: (images.to(device), labels.to(device)))
        return self._copies[device]


def _untraced(function: Callable[[], T]) -> T:
    """Return `function()`, run where no tracer sees it.

    Tracing is a state of the thread. A copy that were traced would be made anew in every step, and
    what was kept of it would not be a tensor that another program can use.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


@functools.cache
def digits() -> LabelledImages:
    """Return scikit-learn's digits: 1797 handwritten digits of 8x8 pixels, 16 shades of grey.

    Source: Alpaydin & Kaynak 1998, "Optical recognition of handwritten digits", UCI (its test set).

    Raises:
        ModuleNotFoundError: When scikit-learn is missing.

    >>> digits().shape
    (1, 8, 8)
    """
    return _untraced(_load_digits)


def _load_digits() -> LabelledImages:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "envs.digits: scikit-learn is missing. Write: pip install 'funcrl[digits]'", name="sklearn"
        ) from error
    data = load_digits()
    return LabelledImages(np.float32(data.images[:, None]) / 16, data.target, _NUM_DIGITS)


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
