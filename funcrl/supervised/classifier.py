"""Classification of images by the cross-entropy of a network's logits.

    L(θ) = -E[log softmax(f(x; θ))_y]

Bridle 1990, "Probabilistic interpretation of feedforward classification network outputs".

Networks may have batch normalisation and dropout: what a network keeps beside its parameters is part of the state, and
dropout and augmentation draw from its key by the number of the step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funcrl import nets
from funcrl.core import checks, tree
from funcrl.data import LabelledImages
from funcrl.nets import images
from funcrl.nets.recurrent import CELLS
from funcrl.supervised import agent
from funcrl.supervised.agent import Batch
from funcrl.supervised.settings import Settings

METRICS = ("loss", "accuracy", "grad_norm")

JUDGED = {"loss": "loss", "right": "accuracy"}
"""what `evaluate` returns of each image, and the name of its mean"""

NETWORKS = (
    *("alexnet", "cnn", "densenet", "googlenet", "lenet", "mlp", "nin", "resnet18", "vgg11"),
    *("gru", "lstm", "rnn"),
)
"""by name, those of `nets.images`, two small ones, and cells that read an image row by row"""


@tree.struct
class Config(Settings):
    """Settings of a classifier. Every float may differ between lanes; integers, names and networks belong to the program."""

    label_smoothing: float = 0.0
    """share of the target that goes to all classes alike, in [0, 1] (Szegedy et al. 2016, section 7)"""
    net: str = tree.static(default="lenet")
    """alexnet, cnn, densenet, googlenet, lenet, mlp, nin, resnet18 or vgg11; gru, lstm or rnn, which read row by row"""
    width: int = tree.static(default=0)
    """of the network named above, see there; 0: as in the paper, for cnn 32 channels, for mlp and cells 64 features"""
    network: nn.Module | None = tree.static(default=None)
    """your own, from `[B, C, H, W]` to `[B, classes]`, instead of net and width: a template, its numbers are not used"""

    shift: int = tree.static(default=1)
    """augmentation: pixels by which an image is moved at most, in each direction, zeros coming in"""

    def __post_init__(self) -> None:
        super().__post_init__()
        name = "classifier.Config"
        checks.settings(self, name, unit=("label_smoothing",))
        checks.known(name, "net", self.net, NETWORKS)
        checks.integer(name, "width", self.width, 0)


@tree.struct
class State(agent.State):
    """A classifier."""

    num_classes: int = tree.static()


def init(key: Tensor, config: Config, data: LabelledImages) -> State:
    """Make a classifier that has learnt nothing.

    Args:
        key: `[2]` int32.
        config: Its settings; floats may be numbers or 0-d tensors.
        data: What it will learn from, of which only the images' shape and the number of classes are read.

    Raises:
        ValueError: When there are no labels, or the network cannot take such images, has no parameters, or puts out
            another number than there are classes.
        TypeError: When the network is no module.
    """
    name, num_classes = "classifier.init", data.num_classes
    checks.require(
        num_classes > 0, name, "data", "have labels", data, "Write LabelledImages(images, labels)."
    )
    nets.check_module(name, "config.network", config.network)
    network = config.network
    if network is None:
        network = named(config.net, config.width, data.shape, num_classes)
    state = agent.begin(State, key, config, network, data.shape, METRICS, num_classes=num_classes)
    hold = f"map [B, {', '.join(map(str, data.shape))}] to [B, {num_classes}]"
    output = agent.output(state, hold, (2, *data.shape))
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    checks.require(found == (2, num_classes), name, "config.network", hold, found)
    return state


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
    """Take one gradient step on L.

    Args:
        state: Of which the network is.
        batch: Images of the shape that `init` was given, and their labels in [0, classes). What labels are is not known
            while a program is compiled, so that nobody looks: those out of range end in torch's own error, or on a GPU
            in that of CUDA.

    Raises:
        ValueError: When the batch holds none, or tensors of another shape or type.
    """
    _check("classifier.update", state, batch)
    after, figures, output = agent.descend(state, batch, loss)
    accuracy = (output.argmax(dim=-1) == batch.labels).to(torch.float32).mean()
    figures["accuracy"] = accuracy
    return tree.replace(after, metrics={name: figures[name] for name in METRICS})


def evaluate(state: State, batch: Batch) -> dict[str, Tensor]:
    """Return the `loss` and whether each answer is `right`, `[B]` each, of the network as it is used.

    Args, Raises: see `update`.
    """
    _check("classifier.evaluate", state, batch)
    output = logits(state, batch.images)
    return {
        "loss": F.cross_entropy(output, batch.labels, reduction="none"),
        "right": (output.argmax(dim=-1) == batch.labels).to(torch.float32),
    }


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


def _check(name: str, state: State, batch: Batch) -> None:
    # The number of images is not in the sentence: to torch.compile it may be a symbol, which has no text.
    agent.check_images(name, state, batch)
    labels, size = batch.labels, batch.images.shape[:1]
    found = tuple(labels.shape) if isinstance(labels, Tensor) else labels
    checks.require(found == tuple(size), name, "batch.labels", "be one an image, [B]", found)
    instead = "Write labels.long()."
    checks.require(labels.dtype == torch.int64, name, "batch.labels", "be torch.int64", labels.dtype, instead)
