"""What a training run compiles, in figures that do not jitter: programs, operations, bytes, kernels.

    python benchmarks/tracking.py                  # this checkout beside baseline.json
    python benchmarks/tracking.py --update         # make it the baseline, and commit that with the reason

Speed cannot be tested on a machine that others use; what makes programs slow mostly can. For each
program of a small run, traced and not compiled: how many tensor operations it has, how many bytes it
writes in place (into donated arguments), returns anew (a donation that was lost turns up here) and
copies from one argument to another. For some programs, compiled: how many kernels, bytes of source and
bytes that one call allocates (a buffer that is copied instead of written in place turns up here), and
the CPU seconds that tracing and writing took; the C++ compiler's follow the source. `tests/test_tracking.py` holds every checkout against the baseline.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule, Node

from funcrl import envs
from funcrl.algos import dqn, ppo, q_learning
from funcrl.core import internals, jit
from funcrl.train import Run

BASELINE = Path(__file__).parent / "baseline.json"
SHARE = 0.1
"""how far a figure that is not exact may be from the baseline, either way: a baseline that is too high
would let the next one grow unseen"""
EXACT = ("written_bytes", "returned_bytes", "copied_bytes")
SECONDS = (4.0, 5.0)
"""CPU seconds may be so many times the baseline, and so many more (imports)"""

Figures = dict[str, dict[str, float]]
"""by program, by figure"""


@dataclass(frozen=True)
class Case:
    """A run to track."""

    make: Callable[[str], Any]
    """from a back end to a run with `iterate` and `restart`"""
    compiled: tuple[str, ...] = ()
    """names of the programs to write in C++ too; each takes seconds"""


def _ppo(backend: str) -> Any:
    config = ppo.Config(num_envs=2, window_length=16, num_epochs=1, num_minibatches=2, hidden=(16,))
    return Run(ppo, envs.make("CartPole-v1"), config, range(2), backend=backend)


def _dqn(backend: str) -> Any:
    config = dqn.Config(buffer_size=10_000, batch_size=8, warmup_steps=8, hidden=(16,))
    return Run(dqn, envs.make("CartPole-v1"), config, range(2), backend=backend, num_cycles=2)


def _q_learning(backend: str) -> Any:
    config = q_learning.Config()
    return Run(q_learning, envs.make("CliffWalking-v1"), config, range(2), backend=backend, num_cycles=100)


CASES = {"ppo": Case(_ppo, ("update",)), "dqn": Case(_dqn, ("_add",)), "q_learning": Case(_q_learning)}


@contextlib.contextmanager
def watched(compiled: Sequence[str] = ()) -> Iterator[Figures]:
    """Collect the figures of every program that `core.jit` makes in this context.

    Args:
        compiled: Names of programs to write in C++, whatever back end they ask for; they run traced.
    """
    found: Figures = {}
    compile_before, write_back_before = jit._compile, jit.write_back
    graphs: list[GraphModule] = []

    @functools.wraps(compile_before)
    def compile_and_note(function: Any, leaves: Any, spec: Any, donate: tuple[int, ...], backend: str) -> Any:
        name = getattr(function, "__name__", type(function).__name__)
        is_compiled = name in compiled
        began = _cpu_seconds()
        with internals.watch_compiler() if is_compiled else contextlib.nullcontext([]) as generated:
            try:
                program = compile_before(
                    function, leaves, spec, donate, "inductor" if is_compiled else backend
                )
                if is_compiled:
                    program.run.finish()
            except internals.Written:
                seconds = _cpu_seconds() - began
                program = compile_before(function, leaves, spec, donate, "aot_eager")
        figures: dict[str, float] = counts(graphs.pop())
        for one in generated:
            sizes = {
                "kernels": one.kernels,
                "source_bytes": one.source_bytes,
                "allocated_bytes": one.allocated_bytes,
            }
            figures = sizes | {"cpu_seconds": round(seconds, 1)}
        number = sum(other.partition(" ")[0] == name for other in found)
        found[f"{name} {number + 1}" if number else name] = figures
        return program

    def write_back_and_note(graph: GraphModule, leaves: Any, donated: tuple[int, ...]) -> None:
        write_back_before(graph, leaves, donated)
        graphs.append(graph)

    jit._compile, jit.write_back = compile_and_note, write_back_and_note
    try:
        yield found
    finally:
        jit._compile, jit.write_back = compile_before, write_back_before


def counts(graph: GraphModule) -> dict[str, float]:
    """Return the figures of a traced program."""
    calls = [node for node in graph.graph.nodes if node.op == "call_function"]
    (end,) = (node for node in graph.graph.nodes if node.op == "output")
    written = [node.args[0] for node in calls if node.target is torch.ops.aten.copy_.default]
    copied = [node for node in calls if node.target is torch.ops.funcrl.copy.default]
    return {
        "operations": len(calls),
        "written_bytes": sum(map(_bytes, written)),
        "returned_bytes": sum(map(_bytes, end.args[0])),
        "copied_bytes": sum(map(_bytes, copied)),
    }


def _bytes(node: Node) -> int:
    value = node.meta["val"] if "val" in node.meta else node.args[0].meta["val"]
    return int(value.numel() * value.element_size())


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def traced(case: Case) -> Figures:
    """Return what a run traces; starting over with other seeds must add nothing."""
    with watched() as found:
        run = case.make("aot_eager")
        run.iterate()
        run.iterate()
        run.restart([seed + 2 for seed in range(2)])
        run.iterate()
    return found


def compiled(case: Case) -> Figures:
    """Return what the compiler writes for some programs of a run."""
    with watched(case.compiled) as found:
        case.make("aot_eager").iterate()
    return {name: figures for name, figures in found.items() if "kernels" in figures}


def measure(cases: Mapping[str, Case] = CASES) -> dict[str, Any]:
    """Return all figures."""
    return {
        "torch": torch.__version__.partition("+")[0],
        "traced": {name: traced(case) for name, case in cases.items()},
        "compiled": {name: compiled(case) for name, case in cases.items() if case.compiled},
    }


def differences(found: Figures, baseline: Figures) -> list[str]:
    """Return a line for everything that is not as the baseline says."""
    lines = []
    for name in sorted(baseline.keys() - found.keys()):
        lines.append(f"{name}: this program is gone")
    for name in sorted(found.keys() - baseline.keys()):
        lines.append(f"{name}: a program that was not there, {found[name]}")
    for name in (name for name in baseline if name in found):
        for figure, expected in baseline[name].items():
            value = found[name].get(figure)
            if value is None or not allowed(figure, value, expected):
                lines.append(f"{name}: {figure} is {value}, was {expected}")
    return lines


def allowed(figure: str, value: float, expected: float) -> bool:
    """Return whether a figure is near enough to the baseline's."""
    if figure == "cpu_seconds":
        times, more = SECONDS
        return value <= times * expected + more
    return value == expected if figure in EXACT else abs(value - expected) <= SHARE * expected


def table(found: dict[str, Any], baseline: dict[str, Any]) -> str:
    """Return all figures, and the baseline's where it has others."""
    lines = ["| run | program | figure | here | baseline |", "|---|---|---|---|---|"]
    for kind in ("traced", "compiled"):
        for name, programs in found[kind].items():
            for program, figures in programs.items():
                before = baseline.get(kind, {}).get(name, {}).get(program, {})
                for figure, value in figures.items():
                    was = before.get(figure, "–")
                    ok = was != "–" and allowed(figure, value, was)
                    lines.append(
                        f"| {name} | {program} | {figure} | {value:,} | {'' if was == value else was}{' !' * (not ok)} |"
                    )
    return "\n".join(lines)


def main(path: Path = BASELINE, cases: Mapping[str, Case] = CASES) -> None:
    """Measure and print; with `--update`, write a baseline.

    Args:
        path: The baseline.
        cases: What to track.
    """
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--update", action="store_true", help=f"write {path.name}")
    update = parser.parse_args().update
    found = measure(cases)
    print(table(found, json.loads(path.read_text()) if path.exists() else {}))
    if update:
        path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
