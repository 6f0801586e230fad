"""Systems that are timed in turns, each in a process of its own on one core.

A process makes its contestant, which compiles, says so, and then answers line by line:

    go SECONDS       takes steps for so long, learning included: how many, in how many seconds
    learn STEPS      goes on until every lane has taken so many: what each lane's policy then earns

Only one system works at a time, and the turns are short: whatever else the machine does falls on all
alike, so the ratios within a round are steadier than the rates. Nothing is shared between systems, not
even a thread pool. Start-up and compilation happen once, before the first turn, and are reported apart.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # JAX: the pool that its CPU programs share, which can hang with more than one thread, and XLA's own.
    "NPROC": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


@dataclass(frozen=True)
class Contestant:
    """One system at work on some lanes, compiled and past its warm-up."""

    lanes: int
    advance: Callable[[], int]
    """takes some steps, learning included, waits for them, and says how many, all lanes together"""
    returns: Callable[[], Sequence[float]] | None = None
    """what each lane's policy earns now, where that is compared"""


def available_cores() -> list[int]:
    """Return the cores that this process may use, or one that means any where nobody can say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [-1]


class Worker:
    """A contestant in a process of its own."""

    def __init__(self, module: str, arguments: Sequence[str], core: int, repo: str, device: str) -> None:
        """Start it and wait until it has compiled.

        Args:
            module: Of this folder; its `make(*arguments)` returns the contestant.
            arguments: Text.
            core: Where it runs.
            repo: The checkout whose funcrl it imports.
            device: A GPU is not taken as a whole by JAX, and not looked for where the CPU is measured.
        """
        here = Path(__file__)
        jax = {"JAX_PLATFORMS": "cpu"} if device == "cpu" else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        began = time.perf_counter()
        self.name = f"{module} {' '.join(arguments)}"
        self._process = subprocess.Popen(
            [sys.executable, str(here), str(core), module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD | jax | {"PYTHONPATH": os.pathsep.join([repo, str(here.parent)])},
        )
        self.hear()
        self.start_seconds = time.perf_counter() - began

    def tell(self, *words: object) -> None:
        """Give it a line."""
        print(*words, file=self._input, flush=True)

    def hear(self) -> dict[str, Any]:
        """Wait for its answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with status {self._process.wait()}; see above.")
        return dict(json.loads(line))

    def close(self) -> None:
        """Let the process end."""
        self._input.close()
        self._process.wait()

    @property
    def _input(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin


def ask(workers: Sequence[Worker], *words: object) -> list[dict[str, Any]]:
    """Give several workers the same line at the same time, and return their answers."""
    for worker in workers:
        worker.tell(*words)
    return [worker.hear() for worker in workers]


def serve(contestant: Contestant, lines: IO[str], answers: IO[str]) -> None:
    """Answer line by line until there are no more."""
    steps, every = 0, contestant.lanes
    answer: dict[str, Any] = {"ready": True}
    while True:
        print(json.dumps(answer), file=answers, flush=True)
        match lines.readline().split():
            case ["go", seconds]:
                answer = turn(contestant, float(seconds))
                steps += answer["steps"]
            case ["learn", enough]:
                while steps < every * int(enough):
                    steps += contestant.advance()
                returns = contestant.returns() if contestant.returns else []
                answer = {"returns": list(returns), "steps_of_a_lane": steps // every}
            case _:
                return


def turn(contestant: Contestant, seconds: float) -> dict[str, Any]:
    """Take steps for at least so long."""
    steps, began, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        steps += contestant.advance()
    return {
        "steps": steps,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
    }


def main(core: int, module: str, *arguments: str) -> None:
    """Make a contestant on one core and let it answer."""
    if core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})  # before anything makes threads, which inherit it
    # What libraries print must not be taken for an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    serve(importlib.import_module(module).make(*arguments), sys.stdin, answers)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
