"""What a person sees while training runs, and at its end."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import TextIO

from torch import Tensor

from funcrl import ops
from funcrl.core import random
from funcrl.train import Plan, Progress, Result


def short(number: float) -> str:
    """Return a large number as people read it.

    >>> short(61_706)
    '61.7k'
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line, to the error stream by default; a reader that has gone away stops nothing."""
    stream = sys.stderr if stream is None else stream
    with contextlib.suppress(BrokenPipeError):
        print(text, file=stream, flush=True)


class ProgressBar:
    """A callback that draws a bar on a terminal and prints a line now and then elsewhere."""

    def __init__(self, label: str, plan: Plan, stream: TextIO | None = None, done: int = 0) -> None:
        """Say that compiling begins.

        Args:
            label: What is being trained.
            plan: How much of it.
            stream: Where to write; the error stream by default.
            done: Environment steps of all seeds that were done before.
        """
        self.label = label
        self.stream = stream = sys.stderr if stream is None else stream
        self.total = plan.num_steps * len(plan.seeds)
        self.done = done
        self._is_first = True
        self._num_seeds = 0
        self.bar = None
        self.began = time.monotonic()
        self._after_compiling = (done, self.began)
        self._last_line = self.began
        work = f"{plan.lanes_per_group} lanes"
        if plan.processes > 1:
            work += f" in {plan.processes} processes, {plan.lanes_per_process} in each,"
        say(
            f"{label}: compiling for {work} on {plan.device} (the first time a minute or so, more with convolutions; then seconds)",
            stream,
        )

    def __call__(self, progress: Progress) -> None:
        """Move on by one iteration."""
        new = progress.step // progress.iteration * len(progress.seeds)
        first, self._is_first = self._is_first, False
        if progress.iteration > 1 and not first:  # seeds that were lost have nothing more to do
            left = progress.num_iterations - progress.iteration + 1
            self.total -= (
                (self._num_seeds - len(progress.seeds)) * left * (progress.step // progress.iteration)
            )
        self._num_seeds = len(progress.seeds)
        self.done += new
        now = time.monotonic()
        if first:
            say(f"{self.label}: compiled in {now - self.began:.0f} s", self.stream)
            self._after_compiling = (self.done, now)
            self._open_bar()
            self._last_line = now
        if self.bar is not None:
            self.bar.update(new if not first else 0)
            if self.bar.n == self.bar.last_print_n or progress.iteration == progress.num_iterations:
                self.bar.set_postfix_str(f"mean return {self._mean(progress.report.returns)}", refresh=False)
        elif now - self._last_line > 10 or (self.done >= self.total and not first):
            self._last_line = now
            self._print_line(progress, now)

    def _open_bar(self) -> None:
        if self.stream.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                desc=self.label,
                total=self.total,
                initial=self.done,
                unit=" steps",
                unit_scale=True,
                file=self.stream,
                dynamic_ncols=True,
                mininterval=0.2,
            )

    def _print_line(self, progress: Progress, now: float) -> None:
        steps, since = self._after_compiling
        rate = (self.done - steps) / max(now - since, 1e-9)
        left = (self.total - self.done) / rate if rate else float("nan")
        say(
            f"{self.label}: {self.done / self.total:4.0%}, {short(self.done)} of {short(self.total)} steps, "
            f"{short(rate)} steps/s, mean return {self._mean(progress.report.returns)}, {left:.0f} s left",
            self.stream,
        )

    @staticmethod
    def _mean(returns: Tensor) -> str:
        known = returns[returns.isfinite()]
        return f"{float(known.mean()):.4g}" if len(known) else "–"

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


def summary(label: str, plan: Plan, result: Result) -> str:
    """Return the table at the end: what the seeds reached, and how sure that is.

    Args:
        label: What was trained.
        plan: What was meant to be done.
        result: What was done.

    Returns:
        Several lines.
    """
    steps = int(result.steps[-1])
    is_bandit = "cumulative_regret" in result.metrics
    finals = result.metrics["cumulative_regret"][:, -1] if is_bandit else result.final_returns()
    statistic, its_name = (ops.mean, "mean") if is_bandit else (ops.iqm, "interquartile mean")
    what = "cumulative regret" if is_bandit else "mean return of the last 100 training episodes"
    lines = [f"{label}: {len(result.seeds)} seeds × {steps:,} steps, {what}", ""]
    if steps < plan.num_steps or len(result.seeds) + len(result.lost_seeds) < len(plan.seeds):
        lines.insert(1, f"  stopped early: {len(plan.seeds)} seeds × {plan.num_steps:,} steps were planned")
    lines += reached(result.seeds, finals, statistic, its_name, lower_is_better=is_bandit)
    if not finals.isfinite().all():
        silent = [seed for seed, final in zip(result.seeds, finals.tolist(), strict=True) if final != final]
        lines.append(f"  no episode ended    {listed_seeds(silent)}")
    lines += [
        f"  not finite          {listed_seeds(result.nonfinite_seeds)}",
        *([f"  lost                {listed_seeds(list(result.lost_seeds))}"] if result.lost_seeds else []),
        "",
    ]
    if result.timed_steps:  # what ranks have done is not timed as a whole
        lines += [
            f"  {short(result.steps_per_second)} steps/s over all seeds, learning included; "
            f"{result.compile_seconds:.0f} s compiling, {result.run_seconds:.0f} s training",
            *_bound(plan, result),
        ]
    return "\n".join(lines)


def reached(
    seeds: tuple[int, ...],
    finals: Tensor,
    statistic: Callable[..., Tensor] = ops.iqm,
    its_name: str = "interquartile mean",
    *,
    lower_is_better: bool = False,
    form: str = ".2f",
) -> list[str]:
    """Return what the seeds reached, and how sure that is, in three lines; none where no number is finite.

    Args:
        seeds: One a lane.
        finals: `[S]`.
        statistic: Over the finite ones.
        its_name: What it is called.
        lower_is_better: Whether the best seed is the one with the lowest number.
        form: How to write the numbers.
    """
    known = finals[finals.isfinite()]
    if not len(known):
        return []
    low, high = ops.bootstrap_interval(random.key(0, known.device), known, statistic=statistic)
    best, worst = (known.min(), known.max()) if lower_is_better else (known.max(), known.min())

    def text(number: Tensor) -> str:
        return format(float(number), form)

    return [
        f"  {its_name:<20}{text(statistic(known)):>9}   95 % interval [{text(low)}, {text(high)}]",
        f"  best                {text(best):>9}   {_holders(seeds, finals, best)}",
        f"  worst               {text(worst):>9}   {_holders(seeds, finals, worst)}",
    ]


def _bound(plan: Plan, result: Result) -> list[str]:
    """Say what a run with environments on the host waits for."""
    waited = result.environment_seconds
    if not waited:
        return []
    share = waited / max(result.run_seconds, 1e-9)
    rest = f"{1 - share:.0%} acting and learning"
    # Where they step while the agent learns, nobody waits for all of their time.
    whole = not getattr(plan.config, "overlap", False)
    alone = f" ({short(result.timed_steps / waited)} steps/s by themselves)" if whole else ""
    return [f"  of that {share:.0%} waiting for the environments{alone}, {rest}"]


def _holders(seeds: tuple[int, ...], finals: Tensor, value: Tensor) -> str:
    """Say which seeds reached a value."""
    holders = [seed for seed, final in zip(seeds, finals, strict=True) if final == value]
    if len(holders) == len(seeds) > 1:
        return "all seeds"
    return f"seed {holders[0]}" + (f" and {len(holders) - 1} more" if len(holders) > 1 else "")


def listed_seeds(seeds: list[int]) -> str:
    """Return how many seeds, and which."""
    if not seeds:
        return "     none"
    shown = ", ".join(map(str, seeds[:20]))
    more = f" and {len(seeds) - 20} more" if len(seeds) > 20 else ""
    return f"{len(seeds):>9}   seed{'s' if len(seeds) > 1 else ''} {shown}{more}"
