"""Networks with a narrow middle: an encoder from an image to a few numbers, and a decoder back.

Encoders are `nets.mlp` and `nets.cnn`, so that what they have learnt serves wherever these do, in agents too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from funcrl.core import checks
from funcrl.core.untraced import untraced
from funcrl.nets.convolution import cnn
from funcrl.nets.mlp import Linear, mlp

AUTOENCODERS = ("cnn", "mlp")

LEAST = 8
"""side of the smallest image for which there are convolutions: two of stride 2 leave 2 x 2 of it"""


class Autoencoder(nn.Module):
    """Two networks under one roof, called by name, so that parameters are `encoder.*` and `decoder.*`."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, part: str, x: Tensor) -> Tensor:
        """Return what a part, `"encoder"` or `"decoder"`, makes of its input."""
        return getattr(self, part)(x)  # type: ignore[no-any-return]


def autoencoder(
    input_shape: Sequence[int] = (1, 28, 28),
    latent_size: int = 16,
    *,
    net: str = "cnn",
    width: int = 32,
    code_size: int | None = None,
) -> nn.Module:
    """Return the template of an encoder and a decoder, whose images lie in (0, 1).

    With convolutions: two of 3 x 3 and stride 2, and a linear layer; back, a linear layer and two transposed convolutions.
    Dense: one hidden layer each.

    Args:
        input_shape: `(C, H, W)` of one image.
        latent_size: Numbers that the decoder reads.
        net: `cnn` or `mlp`.
        width: Channels of the first convolution, the second has twice as many; features of the hidden layer.
        code_size: Numbers that the encoder puts out; `latent_size` by default.

    Raises:
        ValueError: When the images are too small for convolutions, a name is unknown, or a number is below 1.

    >>> [name for name, _ in autoencoder(net="mlp").named_parameters()][:2]
    ['encoder.layers.0.weight', 'encoder.layers.0.bias']
    """
    name, shape = "nets.autoencoder", tuple(input_shape)
    code_size = latent_size if code_size is None else code_size
    checks.require(len(shape) == 3, name, "input_shape", "be (channels, height, width)", shape)
    for argument, size in (("latent_size", latent_size), ("code_size", code_size), ("width", width)):
        checks.integer(name, argument, size, 1)
    checks.known(name, "net", net, AUTOENCODERS)
    if net == "cnn":
        hold = f"be at least {LEAST} x {LEAST} pixels for a cnn"
        instead = 'Write net="mlp", or enlarge the images.'
        checks.require(min(shape[1:]) >= LEAST, name, "input_shape", hold, shape, instead)
    return _cached(shape, latent_size, net, width, code_size)


@functools.cache
def _cached(shape: tuple[int, int, int], latent: int, net: str, width: int, code: int) -> nn.Module:
    make = _dense if net == "mlp" else _convolutional
    # May be made while `init` is vmapped or traced; the template is no part of that.
    return untraced(lambda: Autoencoder(*make(shape, latent, width, code)))


def _dense(shape: tuple[int, int, int], latent: int, width: int, code: int) -> tuple[nn.Module, nn.Module]:
    outward = mlp((latent,), (width,), math.prod(shape), activation="relu")
    decoder = nn.Sequential(outward, nn.Sigmoid(), nn.Unflatten(-1, shape))
    return mlp(shape, (width,), code, activation="relu"), decoder


def _convolutional(
    shape: tuple[int, int, int], latent: int, width: int, code: int
) -> tuple[nn.Module, nn.Module]:
    # Each size is half of the one before, rounded up, as the encoder's; what rounding added is left out on the way back.
    whole, channels = (shape[1], shape[2]), (2 * width, width, shape[0])
    half = _halved(whole)
    quarter = _halved(half)

    def doubled(before: int, after: int, size: tuple[int, int]) -> nn.Module:
        even = (1 - size[0] % 2, 1 - size[1] % 2)
        return nn.ConvTranspose2d(before, after, 3, 2, padding=1, output_padding=even, device="meta")

    decoder = nn.Sequential(
        Linear(latent, channels[0] * math.prod(quarter), math.sqrt(2.0)),
        nn.ReLU(),
        nn.Unflatten(-1, (channels[0], *quarter)),
        doubled(channels[0], channels[1], half),
        nn.ReLU(),
        doubled(channels[1], channels[2], whole),
        nn.Sigmoid(),
    )
    return cnn(shape, (width, 2 * width), (), code), decoder


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // 2), -(-size[1] // 2)
