"""Fitting many seeds at once to labelled images: epochs, shuffled by a key, and how good each lane has become."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl.core import checks, jit, lanes, random, tree
from funcrl.core.batching import vmap
from funcrl.core.checks import require
from funcrl.core.resolve import resolve_config, resolve_seeds
from funcrl.data import LabelledImages, Split
from funcrl.supervised import classifier
from funcrl.supervised.agent import Batch
from funcrl.supervised.resolve import resolve_algorithm, resolve_images

EVALUATED_AT_ONCE = 256
"""images of a lane in one call"""

LARGE_BATCH = 2**16
"""Bytes of a lane's images in a gradient step, from which on a CPU all lanes at once are slower than two after two: LeNet at
32 x 32 pixels takes 9.7 ms a lane where there are 32 at once, 5.7 ms two after two (one core, AVX-512)."""


@dataclass(frozen=True)
class Fit:
    """What came of it, S lanes."""

    states: Any
    """`[S]` the algorithm's states after the last epoch"""
    metrics: dict[str, Tensor]
    """`[S, E]` by name: means over an epoch's batches as they were learnt from; with `test_` before it, over the images
    that were held back, after the epoch"""
    compile_seconds: float
    run_seconds: float
    """after compiling, evaluation included"""
    images_per_second: float
    """learnt from, all lanes together"""


def fit(
    data: LabelledImages | Split,
    *,
    test: LabelledImages | None = None,
    algorithm: str | ModuleType = classifier,
    config: Any = None,
    seeds: Iterable[int] = range(8),
    num_epochs: int = 10,
    device: torch.device | str = "cpu",
    backend: str = "inductor",
    on_epoch: Callable[[int, dict[str, Tensor]], bool | None] | None = None,
) -> Fit:
    """Fit one independent agent a seed, all of them in one program.

    In each epoch a lane sees the images once, in an order drawn from its key; the rows that do not fill a batch are
    left out, others in each epoch. The images lie on the device once, for all lanes.

    Args:
        data: What to learn from; a `Split` has what to judge by too.
        test: What to judge by; nothing by default.
        algorithm: A name in `supervised.ALGORITHMS`, or a module with `Config`, `METRICS`, `init(key, config, data)`, `update(state, batch)`,
            `evaluate(state, batch)`, which returns figures of each image, `[B]` by name, and `JUDGED`, which says as
            what the mean of each of them is reported.
        config: Its settings; the defaults without. A float may be a list or a tensor `[S]`, one value a seed.
        seeds: One a lane.
        num_epochs: At least 1.
        device: Where to compute.
        backend: See `core.jit`.
        on_epoch: Called with the number of the epoch, from 1 on, and its figures, `[S]` by name; ends fitting with this
            epoch where it returns True.

    Raises:
        ValueError: When the two data sets are not of one kind, there are fewer images than a batch has, or the values of
            a setting are not as many as seeds.
        TypeError: When an argument is of another kind.

    >>> from funcrl import data
    >>> train, test = data.digits().split(1500, random.key(0))
    >>> config = classifier.Config(net="mlp", width=8)
    >>> found = fit(train, test=test, config=config, seeds=[0, 1], num_epochs=1, backend="eager")
    >>> found.metrics["test_accuracy"].shape
    torch.Size([2, 1])
    """
    device = checks.device("fit", device)
    module, numbers = resolve_algorithm("fit", algorithm), resolve_seeds("fit", seeds)
    train, test = resolve_images("fit", data, test)
    config = resolve_config("fit", module, config, len(numbers))
    check(train, test, config, num_epochs)
    work = Work(module, config, train, test, numbers, device, backend)
    began = time.perf_counter()
    work.compile()
    compiled = time.perf_counter()
    rows: list[dict[str, Tensor]] = []
    for epoch in range(num_epochs):
        rows.append(work.epoch(epoch))
        if on_epoch is not None and on_epoch(epoch + 1, rows[-1]):
            break
    seconds = time.perf_counter() - compiled
    return Fit(
        states=tree.map(torch.clone, work.states),
        metrics={name: torch.stack([row[name] for row in rows], dim=1) for name in rows[0]},
        compile_seconds=compiled - began,
        run_seconds=seconds,
        images_per_second=len(numbers) * len(rows) * work.num_batches * config.batch_size / seconds,
    )


def check(data: LabelledImages, test: LabelledImages | None, config: Any, num_epochs: int) -> None:
    """Check what `fit` takes, without starting anything.

    Args, Raises: see `fit`.
    """
    checks.integer("fit", "num_epochs", num_epochs, 1)
    hold = f"be at most the number of images, {len(data)}"
    require(config.batch_size <= len(data), "fit", "config.batch_size", hold, config.batch_size, "Lower it.")
    if test is not None:
        kind, other = (data.shape, data.num_classes), (test.shape, test.num_classes)
        hold = f"have images and classes like those that are learnt from, {kind}"
        require(kind == other, "fit", "test", hold, other, "Write data.split(count, key), or num_classes=.")


class Work:
    """Programs over tensors that stay where they are: shuffling, a gradient step, and judging a batch."""

    def __init__(
        self,
        algorithm: ModuleType,
        config: Any,
        data: LabelledImages,
        test: LabelledImages | None,
        seeds: Sequence[int],
        device: torch.device,
        backend: str,
    ) -> None:
        self._algorithm, self._backend, self._size = algorithm, backend, config.batch_size
        self.num_batches = len(data) // config.batch_size
        keys = torch.stack([random.key(seed, "cpu") for seed in seeds]).to(device)
        k_agent, self._k_order = vmap(lambda key: random.split(key, 2), out_dims=1)(keys)
        own = lanes.Lanes(config)
        values = [column.to(device) for column in own.values]
        begin = lambda key, values: algorithm.init(key, own.one(values), data)
        states = vmap(begin)(k_agent, values)
        self.states = tree.map(lambda x: torch.clone(x, memory_format=torch.contiguous_format), states)
        self._images, self._labels = data.on(device)
        self._test = None if test is None else test.on(device)
        self._order = torch.zeros((len(seeds), len(data)), dtype=torch.int64, device=device)
        self._epoch = torch.zeros((), dtype=torch.int32, device=device)
        self._first = torch.zeros((), dtype=torch.int64, device=device)
        zero = torch.zeros(len(seeds), dtype=torch.float32, device=device)
        self._sums = {name: zero.clone() for name in algorithm.METRICS}
        judged = () if test is None else algorithm.JUDGED
        self._judged = {name: zero.clone() for name in judged}

    def compile(self) -> None:
        """Trace and compile everything, side by side."""
        algorithm, size = self._algorithm, self._size

        def order(_: Tensor, key: Tensor, epoch: Tensor) -> Tensor:
            return random.permutation(random.fold_in(key, epoch), len(self._labels))

        def step(written: Any, order: Tensor, images: Tensor, labels: Tensor, first: Tensor) -> Any:
            state, sums = written
            rows = order[first + torch.arange(size, device=order.device)]
            state = algorithm.update(state, Batch(images[rows], labels[rows]))
            return state, {name: total + state.metrics[name] for name, total in sums.items()}

        def judge(totals: Any, state: Any, images: Tensor, labels: Tensor, first: Tensor) -> Any:
            rows = first + torch.arange(EVALUATED_AT_ONCE, device=labels.device)
            inside = rows < len(labels)
            rows = torch.where(inside, rows, 0)
            found = algorithm.evaluate(state, Batch(images[rows], labels[rows]))
            return {name: totals[name] + (found[name] * inside).sum() for name in totals}

        shared = (None, None, None)

        def make(function: Callable[..., Any], dims: tuple[int | None, ...]) -> jit.Jit:
            return jit.jit(vmap(function, in_dims=dims), donate=(0,), backend=self._backend)

        shuffle, learn = make(order, (0, 0, None)), make(step, (0, 0, *shared))
        self._shuffle = shuffle.bind(self._order, self._k_order, self._epoch)
        given = (self._images, self._labels, self._first)
        num_lanes, own = len(self._order), ((self.states, self._sums), self._order)
        image_bytes = self._images[0].numel() * self._images.element_size()
        large = self._size * image_bytes >= LARGE_BATCH and self._images.device.type == "cpu"
        if large and num_lanes % jit.LANES_AT_ONCE == 0:
            self.learn = learn.bind_in_turns(jit.LANES_AT_ONCE, own, given)
        else:
            self.learn = learn.bind(*own, *given)
        programs = [shuffle, learn]
        if self._test is not None:
            judging = make(judge, (0, 0, *shared))
            self._judge = judging.bind(self._judged, self.states, *self._test, self._first)
            programs.append(judging)
        for program in programs:
            program.finish()

    def epoch(self, number: int) -> dict[str, Tensor]:
        """Learn from all images once, and return the figures."""
        for total in (*self._sums.values(), *self._judged.values()):
            total.zero_()
        self._epoch.fill_(number)
        self._shuffle()
        for batch in range(self.num_batches):
            self._first.fill_(batch * self._size)
            self.learn()
        found = {name: total / self.num_batches for name, total in self._sums.items()}
        if self._test is None:
            return found
        count = len(self._test[1])
        for first in range(0, count, EVALUATED_AT_ONCE):
            self._first.fill_(first)
            self._judge()
        names = self._algorithm.JUDGED
        return found | {f"test_{names[name]}": total / count for name, total in self._judged.items()}
