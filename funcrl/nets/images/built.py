"""How the networks of this folder come about: on the meta device, with shapes found by running them there."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

import torch
from torch import nn

from funcrl.core import checks
from funcrl.core.checks import require
from funcrl.core.untraced import untraced

LARGEST = 512
"""side of an image at which one gives up to look for the smallest that a network takes"""


def shaped(make: Callable[[], nn.Module], *shapes: Sequence[int]) -> nn.Module:
    """Return a network whose lazy layers (`nn.LazyLinear` and such) know their sizes, found by running it on the meta device.

    Args:
        make: Makes it; called on the meta device, so that nothing is drawn. A function, for a copy of a module with lazy
            layers gives what it finds to the module that it was copied from.
        *shapes: Of each input, without the batch's axis.

    Returns:
        A template in float32.

    >>> shaped(lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), (2, 4))[1].weight.shape
    torch.Size([3, 8])
    """
    with torch.device("meta"):
        network = make()
    with torch.no_grad():
        network.eval()(*[torch.empty((2, *shape), dtype=torch.float32, device="meta") for shape in shapes])
    return network.to(torch.float32).train()


def in_proportion(width: int, published: int) -> Callable[[int], int]:
    """Return what turns a published number of channels into that of a network whose first layer has another width.

    >>> in_proportion(16, 64)(256)
    64
    """
    return lambda channels: max(1, channels * width // published)


def check_sizes(name: str, **sizes: int) -> None:
    """Check that numbers of classes, channels and such are at least 1.

    Raises:
        ValueError: When one is not.
    """
    for argument, size in sizes.items():
        checks.integer(f"nets.images.{name}", argument, size, 1)


def built(name: str, make: Callable[[], nn.Module], input_shape: Sequence[int]) -> nn.Module:
    """Return a network for images of one size.

    Args:
        name: Of the function that a person called: `"lenet"`.
        make: Makes it, with lazy layers where the size of the images matters.
        input_shape: `(C, H, W)`.

    Raises:
        ValueError: When the images are too small; the smallest square that it takes is named.
    """
    shape = tuple(input_shape)
    function = f"nets.images.{name}"
    require(len(shape) == 3, function, "input_shape", "be (channels, height, width)", shape)
    for size in shape:
        checks.integer(function, "input_shape", size, 1)
    # A network may be made while `init` is vmapped or traced; its template is no part of that.
    return untraced(lambda: _built(function, make, shape))


def _built(function: str, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> nn.Module:
    def takes(side: int) -> bool:
        return _shaped_or_none(make, (shape[0], side, side)) is not None

    network = _shaped_or_none(make, shape)
    if network is None and takes(LARGEST):
        least = bisect.bisect_left(range(LARGEST), True, lo=1, key=takes)
        hold = f"be at least {least} x {least} pixels"
        instead = f"Write images.resized({least}, {least}), or --resize {least},{least} on the command line."
        require(False, function, "input_shape", hold, shape, instead)
    return shaped(make, shape) if network is None else network


def _shaped_or_none(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> nn.Module | None:
    try:
        return shaped(make, shape)
    except (RuntimeError, ValueError):
        return None
