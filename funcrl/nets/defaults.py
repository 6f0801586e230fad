"""What parameters of torch's layers begin with, where their module says nothing else: what `torch.nn` gives them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from funcrl.core import random
from funcrl.core.checks import require
from funcrl.core.untraced import untraced
from funcrl.nets import initialisers

Normalisation = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
"""layers whose gain begins at 1 and offset at 0"""


def of(layer: nn.Module, name: str, template: Tensor, path: str) -> initialisers.Initialiser:
    """Return how a parameter is drawn.

    Args:
        layer: The module that it is one of.
        name: What it is called there.
        template: Shape and dtype; in a module of no kind that is known here, also the value.
        path: What it is called in the whole network.

    Raises:
        ValueError: When it is no real number, or nobody can know what it begins with.
    """
    real = template.is_floating_point()
    instead = "Write self.register_buffer for numbers that are not learnt."
    require(real, "nets.init", f"the parameter {path}", "be real", template.dtype, instead)
    known = _known(layer, name)
    return _as_it_is(template, name, path) if known is None else known


def _known(layer: nn.Module, name: str) -> initialisers.Initialiser | None:
    if isinstance(layer, nn.MultiheadAttention):
        return initialisers.constant(0.0) if name == "in_proj_bias" else _of_attention(name)
    if isinstance(layer, (nn.RNNBase, nn.RNNCellBase)):
        return initialisers.uniform(1.0 / math.sqrt(layer.hidden_size))
    if isinstance(layer, nn.PReLU) and name == "weight":
        return initialisers.constant(layer.init)
    if name not in ("weight", "bias"):
        return None
    if isinstance(layer, nn.modules.linear.NonDynamicallyQuantizableLinear) and name == "bias":
        return initialisers.constant(0.0)  # what attention ends with
    if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
        return initialisers.uniform(1.0 / math.sqrt(math.prod(layer.weight.shape[1:])))
    if isinstance(layer, nn.Bilinear):
        return initialisers.uniform(1.0 / math.sqrt(layer.in1_features))
    if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
        return _embedding(layer.padding_idx)
    if isinstance(layer, Normalisation):
        return initialisers.constant(1.0 if name == "weight" else 0.0)
    return None


def _of_attention(name: str) -> initialisers.Initialiser | None:
    return initialisers.xavier_uniform() if name.endswith("proj_weight") else None


def _embedding(padding: int | None) -> initialisers.Initialiser:
    def draw(key: Tensor, shape: tuple[int, ...]) -> Tensor:
        rows = random.normal(key, shape)
        if padding is None:
            return rows
        number = torch.arange(shape[0], dtype=torch.int32, device=key.device)
        return torch.where((number == padding % shape[0]).unsqueeze(-1), 0.0, rows)

    return draw  # type: ignore[return-value]


def _as_it_is(template: Tensor, name: str, path: str) -> initialisers.Initialiser:
    """Return what fills with the one value that a parameter has; several would be the same in all lanes, whatever the key."""
    instead = f'Write self.initialisers = {{"{name}": nets.initialisers.normal(0.02)}} in its module.'
    require(
        not template.is_meta and untraced(lambda: _is_one_value(template)),
        "nets.init",
        f"the parameter {path}",
        "have an initialiser, or begin with one value everywhere",
        "no value" if template.is_meta else "several values",
        instead,
    )
    return initialisers.constant(untraced(lambda: float(template.flatten()[0])) if template.numel() else 0.0)


def _is_one_value(template: Tensor) -> bool:
    numbers = template.detach().flatten()
    return bool((numbers == numbers[:1]).all())
