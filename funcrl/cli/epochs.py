"""What a person sees while epochs go by, and at their end."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from torch import Tensor

from funcrl import ops
from funcrl.cli.progress import listed_seeds, reached, say, short
from funcrl.io.plots import in_words
from funcrl.supervised.fitting import Fit
from funcrl.supervised.judging import Judged, judged
from funcrl.train.result import finite_lanes


class EpochProgress:
    """Called after each epoch: draws a bar on a terminal, and prints a line elsewhere, at most one a second."""

    def __init__(
        self,
        label: str,
        seeds: tuple[int, ...],
        num_epochs: int,
        num_images: int,
        device: str = "cpu",
        stream: TextIO | None = None,
    ) -> None:
        """Remember what there is to do; nothing is said before `begin`.

        Args:
            label: What is being trained.
            seeds: One a lane.
            num_epochs: How many are to come.
            num_images: That each seed sees in an epoch.
            device: Where it computes.
            stream: Where to write; the error stream by default.
        """
        self.epoch = 0
        """how many are done"""
        self._label, self._seeds, self._num_epochs = label, seeds, num_epochs
        self._num_images, self._device = num_images, device
        self._stream = sys.stderr if stream is None else stream
        self._bar = None
        self._began = self._first = self._last = time.monotonic()

    def begin(self) -> None:
        """Say that compiling begins."""
        self._began = time.monotonic()
        lanes = f"{len(self._seeds)} lanes on {self._device}"
        say(
            f"{self._label}: compiling for {lanes} (the first time a minute, minutes for large networks; then seconds)",
            self._stream,
        )

    def __call__(self, epoch: int, figures: dict[str, Tensor]) -> None:
        """Move on by one epoch."""
        self.epoch, now = epoch, time.monotonic()
        what = self._reached(figures)
        if epoch == 1:
            say(
                f"{self._label}: compiled, and learnt for an epoch, in {now - self._began:.0f} s",
                self._stream,
            )
            self._first = now
            self._open_bar()
        if self._bar is not None:
            self._bar.set_postfix_str(what, refresh=False)
            self._bar.update(1)
        elif epoch in (1, self._num_epochs) or now - self._last > 1:
            self._last = now
            say(f"{self._label}: epoch {epoch} of {self._num_epochs}, {what}{self._rate(now)}", self._stream)

    def _rate(self, now: float) -> str:
        done = self.epoch - 1  # since the first one, in which it was compiled
        if not done:
            return ""
        seconds = max(now - self._first, 1e-9) / done
        left = (self._num_epochs - self.epoch) * seconds
        rate = short(self._num_images * len(self._seeds) / seconds)
        return f", {rate} images/s, {left:.0f} s left"

    @staticmethod
    def _reached(figures: dict[str, Tensor]) -> str:
        """Return the interquartile mean over seeds of the figure that counts, and the worst of them."""
        figure = judged(figures)
        values = figures[figure.name].cpu()
        known = values[values.isfinite()]
        if not len(known):
            return f"{in_words(figure.name)} –"
        worst = known.min() if figure.higher_is_better else known.max()
        middle, end = (format(float(x), _form(figure)) for x in (ops.iqm(known), worst))
        return f"{in_words(figure.name)} {middle} (worst seed {end})"

    def _open_bar(self) -> None:
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self._label,
                total=self._num_epochs,
                unit=" epochs",
                file=self._stream,
                dynamic_ncols=True,
            )

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def _form(figure: Judged) -> str:
    """Return how to write a figure: a share with four places, a loss with four digits."""
    return ".4f" if figure.higher_is_better else ".4g"


def summary(label: str, seeds: tuple[int, ...], found: Fit, num_epochs: int) -> str:
    """Return the table at the end: what the seeds reached, and how sure that is.

    Args:
        label: What was trained.
        seeds: One a lane.
        found: What came of it.
        num_epochs: How many were planned.

    Returns:
        Several lines.
    """
    figure = judged(found.metrics)
    finals = found.metrics[figure.name][:, -1].cpu()
    done = found.metrics[figure.name].shape[1]
    bad = [seed for seed, fine in zip(seeds, finite_lanes(found.states), strict=True) if not fine]
    lines = [f"{label}: {len(seeds)} seeds × {done} epochs, {in_words(figure.name)}", ""]
    if done < num_epochs:
        lines.insert(1, f"  stopped early: {num_epochs} epochs were planned")
    lines += reached(seeds, finals, lower_is_better=not figure.higher_is_better, form=_form(figure))
    lines += [
        f"  not finite          {listed_seeds(bad)}",
        "",
        f"  {short(found.images_per_second)} images/s over all seeds, judging included; "
        f"{found.compile_seconds:.0f} s compiling, {found.run_seconds:.0f} s training",
    ]
    return "\n".join(lines)
