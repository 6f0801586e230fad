"""Classification of images by the cross-entropy of a network's logits.

    L(θ) = -E[log softmax(f(x; θ))_y]

Networks may have batch normalisation and dropout: what a network keeps beside its parameters is part of the state, and
dropout and augmentation draw from its key by the number of the step.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funcrl import nets, optim
from funcrl.core import checks, random, tree
from funcrl.data import LabelledImages
from funcrl.nets import images
from funcrl.nets.recurrent import CELLS

METRICS = ("loss", "accuracy", "grad_norm")

NETWORKS = (
    *("alexnet", "cnn", "densenet", "googlenet", "lenet", "mlp", "nin", "resnet18", "vgg11"),
    *("gru", "lstm", "rnn"),
)
"""by name, those of `nets.images`, two small ones, and cells that read an image row by row"""


@tree.struct
class Config:
    """Settings of a classifier. Every float may differ between lanes; integers, names and networks belong to the program."""

    learning_rate: float = 1e-3
    """step size of Adam"""
    max_grad_norm: float = math.inf
    """largest global norm of the gradient; inf: no clipping"""
    label_smoothing: float = 0.0
    """share of the target that goes to all classes alike, in [0, 1] (Szegedy et al. 2016, section 7)"""
    net: str = tree.static(default="lenet")
    """alexnet, cnn, densenet, googlenet, lenet, mlp, nin, resnet18 or vgg11; gru, lstm or rnn, which read row by row"""
    width: int = tree.static(default=0)
    """of the network named above, see there; 0: as in the paper, for cnn 32 channels, for mlp and cells 64 features"""
    network: nn.Module | None = tree.static(default=None)
    """your own, from `[B, C, H, W]` to `[B, classes]`, instead of net and width: a template, its numbers are not used"""
    frozen: tuple[str, ...] = tree.static(default=())
    """patterns of parameters that are not trained, "features.*"; what a network keeps beside them under these names stays
    as it is too"""
    batch_size: int = tree.static(default=64)
    """B: images in a gradient step"""
    shift: int = tree.static(default=0)
    """augmentation: pixels by which an image is moved at most, in each direction, zeros coming in"""
    flip: bool = tree.static(default=False)
    """augmentation: whether every other image is mirrored, left and right"""

    def __post_init__(self) -> None:
        name = "classifier.Config"
        checks.settings(
            self,
            name,
            unit=("label_smoothing",),
            not_negative=("learning_rate",),
            positive=("max_grad_norm",),
            counts=("batch_size",),
            flags=("flip",),
        )
        checks.known(name, "net", self.net, NETWORKS)
        checks.integer(name, "width", self.width, 0)
        checks.integer(name, "shift", self.shift, 0)


@tree.struct
class Batch:
    """Rows to learn from."""

    images: Tensor
    """`[B, C, H, W]` in [0, 1]"""
    labels: Tensor
    """`[B]` int64"""


@tree.struct
class State:
    """A classifier."""

    params: nets.Params
    buffers: nets.Buffers
    """what the network keeps beside its parameters: running means and variances"""
    optimizer: tuple[Any, ...]
    step: Tensor
    """`[]` int32, number of gradient steps so far"""
    key: Tensor
    """`[2]` int32, from which updates draw by their number"""
    config: Config
    metrics: dict[str, Tensor]
    """0-d figures of the last update; NaN before the first"""
    network: nets.Pure = tree.static()
    num_classes: int = tree.static()


def init(key: Tensor, config: Config, data: LabelledImages) -> State:
    """Make a classifier that has learnt nothing.

    Args:
        key: `[2]` int32.
        config: Its settings; floats may be numbers or 0-d tensors.
        data: What it will learn from, of which only the images' shape and the number of classes are read.

    Raises:
        ValueError: When the network cannot take such images, or puts out another number than there are classes.
    """
    config = tree.map(lambda x: torch.as_tensor(x, dtype=torch.float32, device=key.device), config)
    network = nets.pure(config.network or named(config.net, config.width, data.shape, data.num_classes))
    k_params, k_steps = random.split(key, 2)
    params, buffers = nets.begin(network, k_params)
    _check(network, params, buffers, data)
    return State(
        params=params,
        buffers=buffers,
        optimizer=_optimizer(config).init(_partition(params, buffers, config)[0]),
        step=torch.zeros((), dtype=torch.int32, device=key.device),
        key=k_steps,
        config=config,
        metrics=dict.fromkeys(METRICS, torch.full((), torch.nan, dtype=torch.float32, device=key.device)),
        network=network,
        num_classes=data.num_classes,
    )


def logits(state: State, x: Tensor) -> Tensor:
    """Return f(x; θ) of images `[B, C, H, W]` as the network is used, not trained, `[B, classes]`."""
    output, _ = nets.run(state.network, state.params, state.buffers, x, train=False)
    return output  # type: ignore[no-any-return]


def loss(
    params: nets.Params, state: State, batch: Batch, key: Tensor
) -> tuple[Tensor, tuple[Tensor, nets.Buffers]]:
    """L(θ), and beside it the logits `[B, classes]` and what the network keeps after."""
    output, buffers = nets.run(state.network, params, state.buffers, batch.images, train=True, key=key)
    smoothing = state.config.label_smoothing
    log_probs = F.log_softmax(output, dim=-1)
    right = log_probs.gather(-1, batch.labels.unsqueeze(-1)).squeeze(-1)
    of_each = (1 - smoothing) * right + smoothing * log_probs.mean(dim=-1)
    return -of_each.mean(), (output, buffers)


def update(state: State, batch: Batch) -> State:
    """Take one gradient step on L."""
    _check_batch(state, batch)
    config = state.config
    k_augment, k_drop = random.split(random.fold_in(state.key, state.step), 2)
    batch = tree.replace(batch, images=augmented(batch.images, k_augment, config.shift, config.flip))
    free, kept = _partition(state.params, state.buffers, config)
    function = torch.func.grad_and_value(
        lambda free: loss(state.params | free, state, batch, k_drop), has_aux=True
    )
    grads, (value, (output, buffers)) = function(free)
    updates, optimizer = _optimizer(config).update(grads, state.optimizer, free)
    return tree.replace(
        state,
        params=state.params | optim.apply(free, updates),
        buffers={name: kept.get(name, buffer) for name, buffer in buffers.items()},
        optimizer=optimizer,
        step=state.step + 1,
        metrics={
            "loss": value,
            "accuracy": (output.argmax(dim=-1) == batch.labels).to(torch.float32).mean(),
            "grad_norm": optim.global_norm(grads),
        },
    )


def evaluate(state: State, batch: Batch) -> dict[str, Tensor]:
    """Return the `loss` and whether each answer is `right`, `[B]` each, of the network as it is used."""
    output = logits(state, batch.images)
    return {
        "loss": F.cross_entropy(output, batch.labels, reduction="none"),
        "right": (output.argmax(dim=-1) == batch.labels).to(torch.float32),
    }


def augmented(x: Tensor, key: Tensor, shift: int, flip: bool) -> Tensor:
    """Return images `[B, C, H, W]`, each moved and mirrored by chance.

    Args:
        x: The images.
        key: `[2]` int32.
        shift: Pixels by which they are moved at most, in each direction; zeros come in.
        flip: Whether one of two is mirrored, left and right.
    """
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


def named(net: str, width: int, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Return the network of a name for images of one shape."""
    if net in CELLS:
        return nets.reader(shape, num_classes, cell=net, width=width or 64)
    if net == "mlp":
        return nets.mlp(shape, (width or 64,), num_classes, activation="relu")
    if net == "cnn":
        return nets.cnn(shape, (width or 32,) * 2, (64,), num_classes)
    how = {"width": width} if width else {}
    if net == "resnet18":
        how |= {"small": min(shape[1:]) < 64}
    return getattr(images, net)(shape, num_classes, **how)  # type: ignore[no-any-return]


def _partition(
    params: nets.Params, buffers: nets.Buffers, config: Config
) -> tuple[nets.Params, dict[str, Tensor]]:
    """Return the parameters that are trained, and by name all parameters and buffers that stay as they are."""
    kept = optim.matching("classifier", {**params, **buffers}, config.frozen)
    free = {name: value for name, value in params.items() if name not in kept}
    hold = "leave something to train"
    checks.require(len(free) > 0, "classifier", "config.frozen", hold, config.frozen)
    return free, {name: value for name, value in {**params, **buffers}.items() if name in kept}


def _optimizer(config: Config) -> optim.Optimizer:
    clipped = optim.clip_by_global_norm(config.max_grad_norm)
    return optim.chain(clipped, optim.adam(config.learning_rate))


def _check(network: nets.Pure, params: nets.Params, buffers: nets.Buffers, data: LabelledImages) -> None:
    name, hold = "classifier.init", f"map [B, {', '.join(map(str, data.shape))}] to [B, {data.num_classes}]"
    x = torch.zeros((2, *data.shape), dtype=torch.float32, device=nets.device_of(params))
    try:
        output, _ = nets.run(network, params, buffers, x, train=False)
    except Exception as error:  # whatever a user's forward raises
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name}: config.network must {hold}, got an error: {reason}.") from error
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    checks.require(found == (2, data.num_classes), name, "config.network", hold, found)


def _check_batch(state: State, batch: Batch) -> None:
    # No number in the sentence: to torch.compile it may be a symbol, which has no text.
    name, size = "classifier.update", batch.images.shape[:1]
    checks.require(batch.images.ndim == 4, name, "batch.images", "be [B, C, H, W]", tuple(batch.images.shape))
    checks.require(
        batch.labels.shape == size, name, "batch.labels", "be one an image, [B]", tuple(batch.labels.shape)
    )
    kind = batch.labels.dtype
    checks.require(kind == torch.int64, name, "batch.labels", "be torch.int64", kind, "Write labels.long().")
