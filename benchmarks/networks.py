"""What networks learn on scikit-learn's digits, and whether each of them compiles whole.

    python benchmarks/networks.py [lenet resnet18] [--first-seed 100]     # 8 seeds each
    python benchmarks/networks.py --whole                                 # every network, a few steps

A fifth of the 1797 digits is held back, drawn by one key for all seeds. Settings were chosen on seeds 100 to 107. With
`--whole` each network trains for three steps under `torch.compile(torch.vmap(update), fullgraph=True)`, small, two lanes.
"""

from __future__ import annotations

import argparse
import json
import time
from types import ModuleType
from typing import Any

import torch

from funcrl import data, nets, ops
from funcrl.core import random, tree
from funcrl.supervised import autoencoder, classifier, fit, images_for
from funcrl.supervised.agent import Batch

ROWS: dict[str, tuple[ModuleType, dict[str, Any], int]] = {
    "lenet": (classifier, {"net": "lenet"}, 40),
    "resnet18": (classifier, {"net": "resnet18", "width": 8, "learning_rate": 3e-3}, 20),
    "gru": (classifier, {"net": "gru", "width": 64, "learning_rate": 3e-3, "shift": 0}, 40),
    "autoencoder": (autoencoder, {"net": "mlp", "width": 256, "latent_size": 16, "learning_rate": 3e-3}, 60),
}
"""by name: what learns, settings, epochs"""

SMALLEST = {"alexnet": 64, "vgg11": 32, "nin": 67, "googlenet": 32, "densenet": 32, "resnet18": 8}
"""sides of images; 12 for others"""
WIDTHS = {"lenet": 2, "alexnet": 4, "vgg11": 4, "nin": 6, "googlenet": 16, "densenet": 4, "resnet18": 4}


def learn(name: str, seeds: range) -> dict[str, Any]:
    """Train a row, and return its figures."""
    algorithm, settings, epochs = ROWS[name]
    config = algorithm.Config(**settings)
    images = images_for(algorithm, config, "digits")
    train, test = images.train, images.test
    assert test is not None
    found = fit(train, test=test, algorithm=algorithm, config=config, seeds=seeds, num_epochs=epochs)
    judged = "test_accuracy" if "test_accuracy" in found.metrics else "test_error"
    last = found.metrics[judged][:, -1]
    low, high = ops.bootstrap_interval(random.key(0), last)
    worst = last.min() if judged == "test_accuracy" else last.max()
    return {
        "row": name,
        "settings": settings,
        "epochs": epochs,
        "seeds": list(seeds),
        "images": [len(train), len(test), *train.shape],
        judged: {
            "iqm": round(float(ops.iqm(last)), 4),
            "interval_95": [round(float(low), 4), round(float(high), 4)],
            "worst": round(float(worst), 4),
            "each": [round(x, 4) for x in last.tolist()],
        },
        "compile_seconds": round(found.compile_seconds, 1),
        "run_seconds": round(found.run_seconds, 1),
    }


def whole(name: str, algorithm: ModuleType = classifier) -> dict[str, Any]:
    """Train a network for three steps in one graph, and return how long tracing took and the losses of both lanes."""
    side = SMALLEST.get(name, 12)
    images = data.LabelledImages(random.uniform(random.key(4), (8, 1, side, side)), torch.arange(8) % 3)
    config = algorithm.Config(net=name, width=WIDTHS.get(name, 4), batch_size=4)
    if name == "densenet":  # 121 layers take minutes to trace
        short = nets.images.densenet(images.shape, 3, width=4, layers=(2, 2, 2))
        config = algorithm.Config(network=short, batch_size=4)
    keys = torch.stack([random.key(seed) for seed in range(2)])
    states = torch.vmap(lambda key: algorithm.init(key, config, images))(keys)
    states = tree.map(lambda x: torch.clone(x, memory_format=torch.contiguous_format), states)
    pixels, labels = images.on(torch.device("cpu"))
    batch = Batch(pixels[:4].expand(2, *pixels[:4].shape).clone(), labels[:4].expand(2, 4).clone())
    torch._dynamo.reset()
    update = torch.compile(torch.vmap(algorithm.update), fullgraph=True, backend="aot_eager")
    began, losses = time.process_time(), []
    for _ in range(3):
        states = update(states, batch)
        losses.append(states.metrics["loss"].tolist())
    assert torch.tensor(losses).isfinite().all(), (name, losses)
    return {
        "row": name,
        "image": side,
        "losses": losses,
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def main() -> None:
    """Print a line of JSON a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true", help="compile every network whole instead")
    given = parser.parse_args()
    if given.whole:
        for name in given.rows or classifier.NETWORKS:
            print(json.dumps(whole(name)), flush=True)
        for name in () if given.rows else autoencoder.NETWORKS:
            found = whole(name, autoencoder)
            print(json.dumps(found | {"row": f"autoencoder, {name}"}), flush=True)
        return
    for name in given.rows or ROWS:
        print(json.dumps(learn(name, range(given.first_seed, given.first_seed + 8))), flush=True)


if __name__ == "__main__":
    main()
