"""Autoencoders: images through a narrow middle and back, by the squared error of what comes out.

    L(θ) = E[mean (g(f(x)) - x)²]

or variational, where the middle is a normal distribution and not a point:

    L(θ) = E[mean (g(μ + σ ε) - x)² + β KL(N(μ, σ²) ‖ N(0, I))],  (μ, log σ) = f(x),  ε ~ N(0, I)

Sources: Hinton & Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks"; Kingma & Welling 2014,
arXiv 1312.6114, equations 3 and 10. The mean over D pixels with β = 2 s² / D is their bound for a decoder N(g(z), s²),
but for a factor and a constant.

What the encoder has learnt is found by name: `nets.from_state_dict(state.params, params, prefix="encoder.")`.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from funcrl import nets, ops
from funcrl.core import checks, random, tree
from funcrl.data import LabelledImages
from funcrl.nets.autoencoders import AUTOENCODERS, Autoencoder
from funcrl.supervised import agent
from funcrl.supervised.agent import Batch, State
from funcrl.supervised.settings import Settings

METRICS = ("loss", "error", "kl", "grad_norm")

JUDGED = {"loss": "loss", "error": "error", "kl": "kl"}
"""what `evaluate` returns of each image, and the name of its mean"""

NETWORKS = AUTOENCODERS


@tree.struct
class Config(Settings):
    """Settings of an autoencoder. Every float may differ between lanes; integers, names and networks belong to the program."""

    kl_weight: float = 3e-4
    """β: weight of the divergence, summed over the latent numbers, beside the mean over pixels; where variational"""
    variational: bool = tree.static(default=False)
    """whether the encoder puts out a normal distribution, from which is drawn while one trains"""
    latent_size: int = tree.static(default=16)
    """numbers in the middle"""
    net: str = tree.static(default="mlp")
    """cnn or mlp"""
    width: int = tree.static(default=0)
    """of the network named above, see `nets.autoencoder`; 0: 32 channels for cnn, 256 features for mlp"""
    network: nn.Module | None = tree.static(default=None)
    """your own instead of net, width and latent_size: a module with children `encoder`, from `[B, C, H, W]` to
    `[B, latent]` (variational: `[B, 2 · latent]`, μ and then log σ), and `decoder` back; a template, its numbers are not
    used, and its own forward neither"""

    def __post_init__(self) -> None:
        super().__post_init__()
        name = "autoencoder.Config"
        counts, flags = ("latent_size",), ("variational",)
        checks.settings(self, name, not_negative=("kl_weight",), counts=counts, flags=flags)
        checks.known(name, "net", self.net, NETWORKS)
        checks.integer(name, "width", self.width, 0)


def init(key: Tensor, config: Config, data: LabelledImages) -> State:
    """Make an autoencoder that has learnt nothing.

    Args:
        key: `[2]` int32.
        config: Its settings; floats may be numbers or 0-d tensors.
        data: What it will learn from, of which only the images' shape is read.

    Raises:
        ValueError: When the network cannot take such images, has no parameters, or does not put out such.
        TypeError: When the network is no module.
    """
    nets.check_module("autoencoder.init", "config.network", config.network)
    if config.network is None:
        width = config.width or {"cnn": 32, "mlp": 256}[config.net]
        code = config.latent_size * (2 if config.variational else 1)
        network = nets.autoencoder(
            data.shape, config.latent_size, net=config.net, width=width, code_size=code
        )
    else:
        network = _halves(config.network)
    state = agent.begin(State, key, config, network, data.shape, METRICS)
    _check(state, data.shape)
    return state


def encode(state: State, images: Tensor) -> Tensor:
    """Return f(x) of images `[B, C, H, W]`, `[B, latent]`; μ where variational."""
    return _moments(state, _used(state, "encoder", images))[0]


def decode(state: State, latent: Tensor) -> Tensor:
    """Return g(z) of latent numbers `[B, latent]`, images `[B, C, H, W]`."""
    return _used(state, "decoder", latent)


def reconstruct(state: State, images: Tensor) -> Tensor:
    """Return g(f(x)) of images `[B, C, H, W]`, of the same shape."""
    return decode(state, encode(state, images))


def loss(
    params: nets.Params, state: State, batch: Batch, key: Tensor
) -> tuple[Tensor, tuple[dict[str, Tensor], nets.Buffers]]:
    """L(θ), and beside it the `error` and the `kl` of which it is made, and what the network keeps after."""
    k_drop, k_noise = random.split(key, 2)
    how: dict[str, Any] = {"train": True, "key": k_drop}
    code, buffers = nets.run(state.network, params, state.buffers, "encoder", batch.images, **how)
    latent, log_std = _moments(state, code)
    if state.config.variational:
        latent = latent + torch.exp(log_std) * random.normal(k_noise, latent.shape)
    output, buffers = nets.run(state.network, params, buffers, "decoder", latent, **how)
    figures = _figures(state, batch.images, output, code)
    means = {name: figure.mean() for name, figure in figures.items()}
    return means.pop("loss"), (means, buffers)


def update(state: State, batch: Batch) -> State:
    """Take one gradient step on L; the batch's labels are not looked at.

    Raises:
        ValueError: When the batch holds no image, or images of another shape or type than `init` was given.
    """
    agent.check_images("autoencoder.update", state, batch)
    after, figures, beside = agent.descend(state, batch, loss)
    figures |= beside
    return tree.replace(after, metrics={name: figures[name] for name in METRICS})


def evaluate(state: State, batch: Batch) -> dict[str, Tensor]:
    """Return the `loss`, the squared `error` and the `kl`, `[B]` each, of the network as it is used: z = μ.

    Raises: see `update`.
    """
    agent.check_images("autoencoder.evaluate", state, batch)
    code = _used(state, "encoder", batch.images)
    return _figures(state, batch.images, decode(state, _moments(state, code)[0]), code)


def _used(state: State, part: str, x: Tensor) -> Tensor:
    output, _ = nets.run(state.network, state.params, state.buffers, part, x, train=False)
    return output  # type: ignore[no-any-return]


def _moments(state: State, code: Tensor) -> tuple[Tensor, Tensor]:
    """Return μ and log σ of what the encoder put out; the code itself, and log 1, where it is not variational."""
    if not state.config.variational:
        return code, torch.zeros_like(code)
    mean, log_std = code.chunk(2, dim=-1)
    return mean, log_std


def _figures(state: State, images: Tensor, output: Tensor, code: Tensor) -> dict[str, Tensor]:
    error = (output - images).square().flatten(1).mean(dim=1)
    if not state.config.variational:
        return {"loss": error, "error": error, "kl": torch.zeros_like(error)}
    mean, log_std = _moments(state, code)
    zero = torch.zeros_like(mean)
    kl = ops.normal_kl(mean, log_std, zero, zero)
    return {"loss": error + state.config.kl_weight * kl, "error": error, "kl": kl}


def _halves(network: nn.Module) -> Autoencoder:
    children = dict(network.named_children())
    hold = "be a module with children encoder and decoder"
    fine = {"encoder", "decoder"} <= children.keys()
    checks.require(fine, "autoencoder.init", "config.network", hold, sorted(children))
    return _of_halves(children["encoder"], children["decoder"])


@functools.cache
def _of_halves(encoder: nn.Module, decoder: nn.Module) -> Autoencoder:
    return Autoencoder(encoder, decoder)


def _check(state: State, shape: tuple[int, ...]) -> None:
    name, image = "autoencoder.init", ", ".join(map(str, shape))
    hold = f"have an encoder from [B, {image}] to [B, latent]"
    if state.config.variational:
        hold = f"have an encoder from [B, {image}] to [B, 2 · latent]"
    code = agent.output(state, hold, "encoder", (2, *shape))
    found = tuple(code.shape) if isinstance(code, Tensor) else type(code).__name__
    fine = isinstance(code, Tensor) and code.ndim == 2 and len(code) == 2
    fine = fine and not (state.config.variational and code.shape[1] % 2)
    checks.require(fine, name, "config.network", hold, found)
    latent = _moments(state, code)[0]
    hold = f"have a decoder from [B, {latent.shape[1]}] to [B, {image}]"
    output = agent.output(state, hold, "decoder", tuple(latent.shape))
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    checks.require(found == (2, *shape), name, "config.network", hold, found)
