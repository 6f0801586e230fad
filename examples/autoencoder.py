"""Handwritten digits through a narrow middle and back: how much of an image do 16 numbers hold?

python examples/autoencoder.py [--seeds 8] [--epochs 60] [--net mlp] [--out autoencoder.png]

scikit-learn has the digits: pip install 'funcrl[cli,digits]'

Of 1,797 digits 1,500 are learnt from, without their labels; the others say how good it is, beside the best that as many
numbers can do linearly: principal components. The picture shows held-back digits and what one seed makes of them.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from funcrl import data, ops
from funcrl.core import random, tree
from funcrl.io import picture
from funcrl.supervised import Fit, autoencoder, fit

SHOWN = 12
"""digits in the picture"""


def principal_components(images: Tensor, held_back: Tensor, count: int) -> Tensor:
    """Return images as the first components of others give them back."""
    mean, x = images.flatten(1).mean(0), held_back.flatten(1)
    basis = torch.linalg.svd(images.flatten(1) - mean, full_matrices=False)[2][:count]
    return ((x - mean) @ basis.T @ basis + mean).reshape(held_back.shape)


def draw(found: Fit, lane: int, originals: Tensor, title: str, path: str) -> None:
    """Draw digits above what one lane makes of them."""
    back = autoencoder.reconstruct(tree.index(found.states, lane), originals)
    with picture(path, (0.72 * SHOWN, 1.9), rows=2, columns=SHOWN) as places:
        for row, images in zip(places, (originals, back), strict=True):
            for axes, image in zip(row, images, strict=True):
                axes.imshow(image[0], cmap="gray_r", vmin=0.0, vmax=1.0)
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
        for row, what in zip(places, ("held back", "given back"), strict=True):
            row[0].set_ylabel(what, fontsize=9)
        places[0, 0].figure.suptitle(title, fontsize=9)


def main() -> None:
    """Train and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=8, help="lanes")
    parser.add_argument("--epochs", type=int, default=60, help="times that every image is seen")
    parser.add_argument("--net", default="mlp", help="mlp or cnn")
    parser.add_argument("--backend", default="inductor", help="eager starts at once and is slow")
    parser.add_argument("--out", default="autoencoder.png", help="picture to write")
    given = parser.parse_args()

    train, test = data.digits().split(1500, random.key(0))
    images, held_back = (part.on(torch.device("cpu"))[0] for part in (train, test))
    config = autoencoder.Config(net=given.net, latent_size=16, learning_rate=3e-3)
    how = {"seeds": range(given.seeds), "num_epochs": given.epochs, "backend": given.backend}
    found = fit(train, test=test, algorithm=autoencoder, config=config, **how)

    size = config.latent_size
    guesses = {
        "the mean image": images.mean(0),
        f"{size} principal components": principal_components(images, held_back, size),
    }
    print(f"mean squared error of a pixel, of {len(test)} digits that were held back")
    for name, guess in guesses.items():
        print(f"{name}: {float((guess - held_back).square().mean()):.4f}")
    last = found.metrics["test_error"][:, -1]
    print(f"{size} numbers of an autoencoder, seed by seed: {', '.join(f'{x:.4f}' for x in last.tolist())}")
    low, high = ops.bootstrap_interval(random.key(0), last)
    interval = f"95 % interval [{float(low):.4f}, {float(high):.4f}]"
    print(f"interquartile mean {float(ops.iqm(last)):.4f}, {interval}")
    print(f"compiling took {found.compile_seconds:.0f} s, {given.epochs} epochs {found.run_seconds:.1f} s")

    lane = int(last.argsort()[len(last) // 2])
    title = f"64 pixels through {size} numbers: seed {lane}, the median of {len(last)}, squared error {float(last[lane]):.4f}"
    draw(found, lane, held_back[:SHOWN], title, given.out)
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
