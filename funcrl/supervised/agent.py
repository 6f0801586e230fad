"""What those share that learn from batches of images: a state, augmentation, a gradient step.

An algorithm's own file says what its network puts out and what its loss is, and nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funcrl import nets, optim
from funcrl.core import checks, random, tree
from funcrl.optim import descending


@tree.struct
class Batch:
    """Rows to learn from."""

    images: Tensor
    """`[B, C, H, W]` float32 in [0, 1]"""
    labels: Any = ()
    """`[B]` int64 in [0, classes); may be left out where nothing looks at them"""


@tree.struct
class State:
    """A network that is trained."""

    params: nets.Params
    buffers: nets.Buffers
    """what the network keeps beside its parameters: running means and variances"""
    optimizer: tuple[Any, ...]
    step: Tensor
    """`[]` int32, number of gradient steps so far"""
    key: Tensor
    """`[2]` int32, from which updates draw by their number"""
    config: Any
    """the algorithm's settings; their floats are 0-d tensors here"""
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""
    shape: tuple[int, int, int] = tree.static()
    """`(C, H, W)` of an image"""
    network: nets.Pure = tree.static()
    rates: descending.Rates = tree.static()
    """which numbers learn at another rate, or not at all"""


S = TypeVar("S", bound=State)

Loss = Callable[[nets.Params, S, Batch, Tensor], tuple[Tensor, tuple[Any, nets.Buffers]]]
"""from parameters, the state, an augmented batch and a key to L(θ), and beside it what is to be known and what the network
keeps after"""


def begin(
    kind: type[S],
    key: Tensor,
    config: Any,
    network: nn.Module,
    shape: tuple[int, int, int],
    metrics: Iterable[str],
    **fixed: Any,
) -> S:
    """Make a state that has learnt nothing.

    Args:
        kind: Of state.
        key: `[2]` int32.
        config: Settings; floats may be numbers or 0-d tensors.
        network: What is trained.
        shape: `(C, H, W)` of the images that it will be given.
        metrics: Names of its figures.
        **fixed: What this kind of state holds beyond others.

    Raises:
        ValueError: When the network has no parameters, or a pattern of `frozen` describes nothing, or all.
    """
    name = f"{_name(config)}.init"
    config = tree.map(lambda x: torch.as_tensor(x, dtype=torch.float32, device=key.device), config)
    pure = nets.pure(network)
    k_params, k_steps = random.split(key, 2)
    params, buffers = nets.begin(pure, k_params)
    found = f"a {type(network).__name__} without"
    checks.require(len(params) > 0, name, "config.network", "have parameters", found)
    rates = descending.rates(name, config, {**params, **buffers}, nets.without_gradient({"": pure}))
    return kind(
        params=params,
        buffers=buffers,
        optimizer=descending.begin(_optimizer(config), params, rates),
        step=torch.zeros((), dtype=torch.int32, device=key.device),
        key=k_steps,
        config=config,
        metrics=dict.fromkeys(metrics, torch.full((), torch.nan, dtype=torch.float32, device=key.device)),
        shape=shape,
        network=pure,
        rates=rates,
        **fixed,
    )


def descend(state: S, batch: Batch, loss: Loss[S]) -> tuple[S, dict[str, Tensor], Any]:
    """Take one gradient step.

    Args:
        state: As it was.
        batch: What to learn from, before augmentation.
        loss: What is to be made small.

    Returns:
        The state, but for its figures; those that all have, `loss` and `grad_norm`; and what the loss said beside.
    """
    config = state.config
    k_augment, k_loss = random.split(random.fold_in(state.key, state.step), 2)
    batch = tree.replace(batch, images=augmented(batch.images, k_augment, config.shift, config.flip))
    step = descending.step(
        lambda params: loss(params, state, batch, k_loss),
        state.params,
        _optimizer(config),
        state.optimizer,
        state.rates,
    )
    beside, buffers = step.beside
    after = tree.replace(
        state,
        params=step.params,
        buffers=descending.having_seen(state.buffers, buffers, state.rates),
        optimizer=step.optimizer,
        step=state.step + 1,
    )
    return after, {"loss": step.value, "grad_norm": step.grad_norm}, beside


def augmented(x: Tensor, key: Tensor, shift: int, flip: bool) -> Tensor:
    """Return images `[B, C, H, W]`, each moved and mirrored by chance.

    Args:
        x: The images.
        key: `[2]` int32.
        shift: Pixels by which they are moved at most, in each direction; zeros come in.
        flip: Whether one of two is mirrored, left and right.
    """
    if not (flip or shift):
        return x
    k_flip, k_shift = random.split(key, 2)
    count, _, height, width = x.shape
    if flip:
        mirrored = random.bernoulli(k_flip, 0.5, (count, 1, 1, 1))
        x = torch.where(mirrored, x.flip(-1), x)
    if shift:
        padded = F.pad(x, (shift, shift, shift, shift))
        down, right = random.randint(k_shift, (2, count, 1), 0, 2 * shift + 1)
        rows = (down + torch.arange(height, device=x.device))[:, None, :, None]
        columns = (right + torch.arange(width, device=x.device))[:, None, None, :]
        x = padded.take_along_dim(rows, dim=2).take_along_dim(columns, dim=3)
    return x


def output(state: State, hold: str, *inputs: Any) -> Any:
    """Return what a network that has just been made puts out as it is used.

    Args:
        state: Of which it is the network.
        hold: What it has to do, in the words of an error.
        *inputs: What it is given; a shape stands for zeros.

    Raises:
        ValueError: When it cannot take them.
    """
    numbers, device = {**state.params, **state.buffers}, state.step.device

    def given() -> tuple[Any, ...]:
        zeros = functools.partial(torch.zeros, dtype=torch.float32, device=device)
        return tuple(zeros(x) if isinstance(x, tuple) else x for x in inputs)

    where = f"{_name(state.config)}.init", "config.network"
    own = state.config.network is not None
    return nets.output_on_zeros(*where, hold, state.network, numbers, given, check_mapped=own)


def check_images(function: str, state: State, batch: Batch) -> None:
    """Check that a batch holds images like those that a state was made for, as far as shape and type say it.

    Raises:
        ValueError: When it does not.
    """
    images = batch.images
    found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
    fine = isinstance(images, Tensor) and images.ndim == 4 and len(images) > 0
    hold = f"be [B, {', '.join(map(str, state.shape))}] with at least one image"
    checks.require(fine and tuple(images.shape[1:]) == state.shape, function, "batch.images", hold, found)
    instead = "Write images.float(), / 255 for bytes."
    is_float = images.dtype == torch.float32
    checks.require(is_float, function, "batch.images", "be torch.float32", images.dtype, instead)


def _optimizer(config: Any) -> optim.Optimizer:
    clipped = optim.clip_by_global_norm(config.max_grad_norm)
    return optim.chain(clipped, optim.adam(config.learning_rate))


def _name(config: Any) -> str:
    return checks.name_of(config).partition(".")[0]
