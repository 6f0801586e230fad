"""What networks learn on scikit-learn's digits, and whether each of them compiles whole.

    python benchmarks/networks.py [lenet resnet18] [--first-seed 100]     # 8 seeds each
    python benchmarks/networks.py --whole                                 # every network, a few steps
    python benchmarks/networks.py --speed [lenet]                         # updates against lanes, one core
    python benchmarks/networks.py --compile [lenet]                       # seconds to compile all of a run
    python benchmarks/networks.py --convolutions                          # of lanes, in two ways, by stride and size

A fifth of the 1797 digits is held back, drawn by one key for all seeds. Settings were chosen on seeds 100 to 107. With
`--whole` each network trains for three steps under `torch.compile(torch.vmap(update), fullgraph=True)`, small, two lanes.
With `--speed` a compiled update of 1, 8 and 32 lanes stands beside the same module trained by torch's own loop, one lane after
the other; CPU milliseconds of 64 images, one thread. With `--compile` an empty compiler cache is filled with the update alone,
and another one with all programs of a run of eight seeds: CPU seconds and wall seconds, the one-time build of the compiler's
header not counted. With `--convolutions` layers of 3 x 3 and a ReLU are compiled forwards and backwards, as products of
patches and as grouped convolutions: CPU milliseconds of all lanes, one thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from funcrl import data, nets, ops
from funcrl.core import jit, random, tree
from funcrl.nets import convolution
from funcrl.supervised import autoencoder, classifier, fit, images_for
from funcrl.supervised.agent import Batch
from funcrl.supervised.fitting import Work

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

SPEED = {"mlp": 64, "lenet": 0, "resnet18": 8}
"""widths, of images of 8 x 8 pixels, LeNet's of 32 x 32"""


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


def speed(name: str, lanes: tuple[int, ...] = (1, 8, 32)) -> dict[str, Any]:
    """Return the milliseconds of an update of all lanes, compiled, and of one lane in torch's own loop."""
    torch.set_num_threads(1)
    config = classifier.Config(net=name, width=SPEED[name], shift=0)
    images = images_for(classifier, config, "digits").train
    pixels, labels = images.on(torch.device("cpu"))
    milliseconds = {}
    for count in lanes:
        keys = torch.stack([random.key(seed) for seed in range(count)])
        states = torch.vmap(lambda key: classifier.init(key, config, images))(keys)
        states = tree.map(lambda x: torch.clone(x, memory_format=torch.contiguous_format), states)
        rows = [slice(5 * lane, 5 * lane + 64) for lane in range(count)]
        batch = Batch(torch.stack([pixels[row] for row in rows]), torch.stack([labels[row] for row in rows]))
        update = jit.jit(torch.vmap(classifier.update), donate=(0,)).bind(states, batch)
        milliseconds[count] = least(update, max(2, 64 // count))

    module = classifier.named(name, SPEED[name], images.shape, images.num_classes).to_empty(device="cpu")
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    optimizer = torch.optim.Adam(module.parameters())

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(pixels[:64]), labels[:64]).backward()
        optimizer.step()

    eager = least(step, 30)
    return {
        "row": name,
        "width": SPEED[name],
        "image": list(images.shape),
        "milliseconds, all lanes": {count: round(x, 2) for count, x in milliseconds.items()},
        "milliseconds, one lane of torch's own loop": round(eager, 2),
        "times as fast": {count: round(eager * count / x, 2) for count, x in milliseconds.items()},
    }


LAYERS = (
    (32, 10, 4, (16,)),
    (128, 10, 4, (16,)),
    (128, 10, 10, (16,)),
    (128, 10, 4, (32, 32)),
    (16, 8, 3, (32, 32)),
    (128, 8, 3, (32, 32)),
    (32, 32, 4, (32, 32)),
    (32, 84, 4, (16,)),
)
"""Images of a lane, their side and channels, and the channels of each convolution; the first four are games of MinAtar."""


def convolve(images: int, side: int, inputs: int, channels: tuple[int, ...], stride: int) -> dict[str, Any]:
    """Return the milliseconds that the gradient of convolutions takes, by the way and the number of lanes."""
    torch.set_num_threads(1)

    def loss(layers: list[tuple[torch.Tensor, torch.Tensor]], x: torch.Tensor) -> torch.Tensor:
        for weight, bias in layers:
            x = torch.relu(convolution.convolution(x, weight, bias, stride))
        return x.square().mean()

    found: dict[str, Any] = {"images": [images, side, side, inputs], "channels": channels, "stride": stride}
    chosen = convolution.LARGEST_ROWS
    for lanes in (1, 4, 16):
        *k_weights, k_images = random.split(random.key(0), len(channels) + 1)
        shapes = [(after, before, 3, 3) for before, after in itertools.pairwise((inputs, *channels))]
        layers = [
            (0.1 * random.normal(key, (lanes, *shape)), torch.zeros(lanes, shape[0]))
            for key, shape in zip(k_weights, shapes, strict=True)
        ]
        x = random.normal(k_images, (lanes, images, side, side, inputs))
        for way, limit in {"products": 2**62, "grouped": 0, "as chosen": chosen}.items():
            convolution.LARGEST_ROWS = limit
            gradient = jit.jit(torch.vmap(torch.func.grad(loss))).bind(layers, x)
            gradient()
            found[f"{lanes} lanes, {way}"] = round(least(gradient, max(1, 500 // (lanes * images))), 2)
    convolution.LARGEST_ROWS = chosen
    return found


def least(call: Callable[[], Any], count: int) -> float:
    """Return the CPU milliseconds of a call, the least of five means."""
    means = []
    for _ in range(6):
        began = time.process_time()
        for _ in range(count):
            call()
        means.append((time.process_time() - began) / count * 1e3)
    return min(means[1:])


def cold(name: str) -> dict[str, Any]:
    """Compile the update alone, and all programs of a run, each in a process of its own whose compiler cache is empty."""
    found: dict[str, Any] = {}
    for option in ("--compile-update-here", "--compile-here"):
        with tempfile.TemporaryDirectory() as cache:
            done = subprocess.run(
                [sys.executable, __file__, option, name],
                check=True,
                capture_output=True,
                text=True,
                env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache},
            )
        found |= json.loads(done.stdout.splitlines()[-1])
    return found


def setting(name: str) -> tuple[ModuleType, Any, data.LabelledImages]:
    """Return what is compiled under a name: the algorithm, its settings and its images."""
    algorithm = autoencoder if name == "autoencoder" else classifier
    if name in ROWS:
        config, images = algorithm.Config(**ROWS[name][1]), None
    else:
        config = algorithm.Config(net=name, width=WIDTHS.get(name, 0))
        side = SMALLEST.get(name)
        images = side and data.digits().resized(side, side)
    return algorithm, config, images or images_for(algorithm, config, "digits").train


def compile_update_here(name: str) -> dict[str, Any]:
    """Compile the update of two lanes in this process."""
    algorithm, config, images = setting(name)
    keys = torch.stack([random.key(seed) for seed in range(2)])
    states = torch.vmap(lambda key: algorithm.init(key, config, images))(keys)
    states = tree.map(lambda x: torch.clone(x, memory_format=torch.contiguous_format), states)
    pixels, labels = (x[: config.batch_size] for x in images.on(torch.device("cpu")))
    batch = Batch(torch.stack([pixels, pixels]), torch.stack([labels, labels]))
    update = jit.jit(torch.vmap(algorithm.update), donate=(0,))

    def compile_it() -> None:
        update.bind(states, batch)
        update.finish()

    return {"row": name, "image": list(images.shape), "update": seconds_of(compile_it)}


def compile_here(name: str) -> dict[str, Any]:
    """Compile all programs of a run of eight seeds in this process."""
    algorithm, config, train = setting(name)
    work = Work(algorithm, config, train, train, range(8), torch.device("cpu"), "inductor")
    return {"row": name, "image": list(train.shape), "run": seconds_of(work.compile)}


def seconds_of(compile_all: Callable[[], None]) -> dict[str, float]:
    """Return the seconds that compiling took, without the one-time build of the compiler's header."""
    jit.jit(lambda x: x + 1)(torch.ones(4))
    seconds, began = cpu_seconds(), time.perf_counter()
    compile_all()
    return {
        "cpu_seconds": round(cpu_seconds() - seconds, 1),
        "wall_seconds": round(time.perf_counter() - began, 1),
    }


def cpu_seconds() -> float:
    """Return what this process and its children have taken of processors."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def main() -> None:
    """Print a line of JSON a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true", help="compile every network whole instead")
    parser.add_argument("--speed", action="store_true", help="time updates instead")
    parser.add_argument("--compile", action="store_true", help="time compiling instead")
    parser.add_argument("--convolutions", action="store_true", help="time convolutions instead")
    parser.add_argument("--compile-here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--compile-update-here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    for asked, measure, names in (
        (given.speed, speed, tuple(SPEED)),
        (given.compile, cold, (*classifier.NETWORKS, "autoencoder")),
        (given.compile_here, compile_here, ()),
        (given.compile_update_here, compile_update_here, ()),
    ):
        if asked:
            for name in given.rows or names:
                print(json.dumps(measure(name)), flush=True)
            return
    if given.convolutions:
        for stride, layers in itertools.product((1, 2), LAYERS):
            print(json.dumps(convolve(*layers, stride)), flush=True)
        return
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
