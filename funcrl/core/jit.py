"""Compiling pure functions of pytrees, with donation, and without a way to fail quietly.

`jit(f)` traces `f` once per structure, shapes and dtypes of its arguments into one flat graph of
tensor operations and compiles that graph with torch's compiler. It is torch.compile's back end
without its front end: Python code runs while tracing and never again, there are no guards to
evaluate and no graph to break. A branch on a tensor's value raises while tracing; so does an
operation that `vmap` could only run lane by lane.

Donation is explicit. With `donate=(0,)` the tensors of argument 0 are overwritten with the first
output, and the returned tree holds those same tensors: a replay buffer is written in place instead
of being copied, and a state keeps its addresses, which is what a CUDA graph needs.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from funcrl.core import internals, native, rewrites, tree
from funcrl.core.checks import require
from funcrl.core.graphs import (
    check_donation,
    inductor,
    lift_constants,
    no_fallback,
    trace,
    write_back,
)
from funcrl.core.memory import without_collection
from funcrl.core.tree import flatten, unflatten

BACKENDS = ("inductor", "aot_eager", "eager")
"""`inductor` compiles, `aot_eager` traces and runs the graph as it is, `eager` calls the function."""

LANES_AT_ONCE = 2
"""For `Jit.bind_in_turns`. Not one: a single lane is another program, which rounds otherwise."""


@dataclass
class Stats:
    """What compiling has cost so far, for tests and for progress messages."""

    num_graphs: int = 0
    """programs traced and compiled"""
    seconds: float = 0.0
    """time spent on it"""


_global_stats = Stats()


def stats() -> Stats:
    """Return a copy of the counts over all programs of this process.

    >>> stats().num_graphs >= 0
    True
    """
    return Stats(_global_stats.num_graphs, _global_stats.seconds)


Signature = tuple[Any, ...]


@dataclass
class _Compiled:
    """One program: flat tensors in, flat tensors out."""

    run: Callable[..., Sequence[Tensor]]
    output_spec: Any
    """structure of the output; None until the first call where nothing is traced"""
    donated: tuple[int, ...]
    """for each leading output leaf, the position of the input leaf that holds it"""


@dataclass(frozen=True)
class _Last:
    """The program of the last call, for the next one is mostly alike."""

    spec: Any
    alike: Callable[..., bool]
    program: _Compiled


class _WhenCompiled:
    """A program that is being compiled; the first call, or `finish`, waits for it."""

    def __init__(
        self, compiled: Callable[[], Callable[[list[Tensor]], Sequence[Tensor]]], constants: list[Tensor]
    ) -> None:
        self._compiled = compiled
        self._constants = constants
        self._run: Callable[[list[Tensor]], Sequence[Tensor]] | None = None

    def finish(self) -> Callable[[list[Tensor]], Sequence[Tensor]]:
        """Wait until it is compiled."""
        if self._run is None:
            began = time.perf_counter()
            self._run = self._compiled()
            _global_stats.seconds += time.perf_counter() - began
        return self._run

    def __call__(self, *leaves: Tensor) -> Sequence[Tensor]:
        return (self._run or self.finish())([*leaves, *self._constants])

    def bind(self, leaves: list[Tensor]) -> Callable[[], Any]:
        """Return a function that runs it on these tensors; it must write all its outputs into them."""
        return native.bind(self.finish(), [*leaves, *self._constants]) or (lambda: self(*leaves))


class Jit:
    """A compiled function; see `jit`."""

    def __init__(self, function: Callable[..., Any], donate: tuple[int, ...], backend: str) -> None:
        self.function = function
        self.donate = donate
        self.backend = backend
        self._programs: dict[Signature, _Compiled] = {}
        self._last: _Last | None = None
        functools.update_wrapper(self, function, updated=())

    @property
    def num_graphs(self) -> int:
        """Number of programs compiled for this function; 1 unless shapes or structures changed."""
        return len(self._programs)

    def __call__(self, *args: Any) -> Any:
        """Run the function, compiling it first where these shapes are new."""
        leaves, spec = flatten(args)
        program = self._program(leaves, spec)
        return _assemble(program, leaves, program.run(*leaves))

    def bind(self, *args: Any) -> Callable[[], Any]:
        """Return a function without arguments that runs on these very tensors each time.

        It reads what they hold when it is called. Donated arguments are overwritten each time.
        """
        leaves, spec = flatten(args)
        program = self._program(leaves, spec)
        if program.output_spec is None or len(program.donated) < program.output_spec.num_leaves:
            return lambda: _assemble(program, leaves, program.run(*leaves))
        result = _assemble(program, leaves, [])
        run = program.run
        call: Callable[[], Any] | None = None

        def replay() -> Any:
            nonlocal call
            if call is None:  # the first call waits for the compiler, not `bind`
                call = run.bind(leaves) if isinstance(run, _WhenCompiled) else lambda: run(*leaves)
            call()
            return result

        return replay

    def bind_in_turns(
        self, at_once: int, mapped: tuple[Any, ...], shared: tuple[Any, ...] = ()
    ) -> Callable[[], None]:
        """Return what `bind` does, for a few lanes after the other, which on a CPU lets each find its numbers in the cache.

        Args:
            at_once: Lanes in a call; must divide the number of lanes.
            mapped: Arguments whose tensors have the lanes in front.
            shared: Arguments behind these, which all lanes read.
        """
        (leaf, *_), _ = flatten(mapped)
        parts = [slice(first, first + at_once) for first in range(0, len(leaf), at_once)]
        calls = [self.bind(*tree.index(mapped, part), *shared) for part in parts]

        def call() -> None:
            for one in calls:
                one()

        return call

    def finish(self) -> None:
        """Wait until all that was called or bound so far is compiled; programs compile side by side."""
        for program in self._programs.values():
            if isinstance(program.run, _WhenCompiled):
                program.run.finish()

    def _program(self, leaves: list[Tensor], spec: Any) -> _Compiled:
        last = self._last
        if last is None or last.spec != spec or not last.alike(*leaves):
            program = self._find(leaves, spec)
            self._last = last = _Last(spec, internals.look_alike(leaves), program)
        return last.program

    def _find(self, leaves: list[Tensor], spec: Any) -> _Compiled:
        try:
            signature = (spec, tuple([(x.shape, x.dtype, x.device, x.stride()) for x in leaves]))
        except AttributeError:
            (leaf, *_) = (leaf for leaf in leaves if not isinstance(leaf, Tensor))
            raise TypeError(
                f"jit: arguments must be trees of tensors, got the leaf {leaf!r}. "
                "Write torch.as_tensor(...), or make it a static field of a struct."
            ) from None
        program = self._programs.get(signature)
        if program is None:
            began = time.perf_counter()
            with without_collection():
                program = _compile(self.function, leaves, spec, self.donate, self.backend)
            self._programs[signature] = program
            _global_stats.num_graphs += 1
            _global_stats.seconds += time.perf_counter() - began
        return program


def jit(function: Callable[..., Any], *, donate: Sequence[int] = (), backend: str = "inductor") -> Jit:
    """Return a compiled version of a pure function of pytrees.

    Args:
        function: Takes and returns pytrees of tensors. Numbers among the arguments' leaves are not
            allowed: make them tensors, or static fields.
        donate: Positions of arguments to overwrite. The function then returns a tuple whose first
            outputs have the structures, shapes and dtypes of these arguments (or that one output
            alone).
        backend: One of `BACKENDS`.

    Returns:
        A callable with `num_graphs`, `bind` and `finish`. What it returns is contiguous.

    Raises:
        ValueError: When the backend is unknown.

    >>> double = jit(lambda x: 2 * x, backend="aot_eager")
    >>> double(torch.ones(2)), double.num_graphs
    (tensor([2., 2.]), 1)
    """
    require(backend in BACKENDS, "jit", "backend", f"be one of {', '.join(BACKENDS)}", backend)
    return Jit(function, tuple(donate), backend)


def capture(calls: Sequence[Callable[[], Any]], state: Any, device: torch.device) -> Callable[[], None]:
    """Return a function that makes a row of bound calls, from a CUDA graph on a GPU.

    A CUDA graph replays the kernels of the whole row without the host. Every tensor that the calls
    read or write must keep its address, as bound and donated arguments do.

    Args:
        calls: What `Jit.bind` returned.
        state: Tree of all tensors that the calls change and that outlive them. Warming up before
            the capture changes them, so they are put back.
        device: Where the calls run.

    >>> counter = torch.zeros(1)
    >>> capture([lambda: counter.add_(1), lambda: counter.add_(1)], counter, counter.device)()
    >>> counter
    tensor([2.])
    """

    def run() -> None:
        for call in calls:
            call()

    if device.type != "cuda":
        return run
    leaves, _ = flatten(state)
    before = [leaf.clone() for leaf in leaves]
    side: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        run()
        run()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    for leaf, value in zip(leaves, before, strict=True):
        leaf.copy_(value)
    return graph.replay


def _assemble(program: _Compiled, leaves: list[Tensor], fresh: Sequence[Tensor]) -> Any:
    donated = [leaves[position] for position in program.donated]
    return unflatten(program.output_spec, [*donated, *fresh])


def _compile(
    function: Callable[..., Any],
    leaves: list[Tensor],
    spec: Any,
    donate: tuple[int, ...],
    backend: str,
) -> _Compiled:
    donated = _donated_positions(leaves, spec, donate)
    if backend == "eager":
        return _run_eagerly(function, spec, donated)
    decompositions = None
    if backend == "inductor":
        on_cpu = all(leaf.device.type == "cpu" for leaf in leaves)
        decompositions = rewrites.for_cpu() if on_cpu else internals.decompositions()
    graph, output_spec = trace(function, leaves, spec, decompositions)
    constants = lift_constants(graph) if backend == "inductor" else []
    write_back(graph, leaves, donated)
    if backend == "inductor":
        return _Compiled(_WhenCompiled(inductor(graph), constants), output_spec, donated)
    return _Compiled(graph, output_spec, donated)


def _donated_positions(leaves: list[Tensor], spec: Any, donate: tuple[int, ...]) -> tuple[int, ...]:
    sizes = [child.num_leaves for child in spec.children()]
    positions: list[int] = []
    for argument in donate:
        begin = sum(sizes[:argument])
        positions += range(begin, begin + sizes[argument])
    addresses = [leaves[p].data_ptr() for p in positions if leaves[p].numel()]
    require(
        len(set(addresses)) == len(addresses),
        "jit",
        "a donated argument",
        "hold each tensor once",
        "a tensor twice",
        "Clone it: tree.map(torch.clone, state).",
    )
    return tuple(positions)


def _run_eagerly(function: Callable[..., Any], spec: Any, donated: tuple[int, ...]) -> _Compiled:
    def run(*flat_leaves: Tensor) -> list[Tensor]:
        with no_fallback():
            outputs, program.output_spec = flatten(function(*unflatten(spec, flat_leaves)))
        check_donation(list(flat_leaves), donated, outputs)
        written = {flat_leaves[position].untyped_storage().data_ptr() for position in donated}
        fresh = [
            x.clone() if x.untyped_storage().data_ptr() in written else x for x in outputs[len(donated) :]
        ]
        sources = [source.clone() for source in outputs[: len(donated)]]
        for position, source in zip(donated, sources, strict=True):
            flat_leaves[position].copy_(source)
        return fresh

    program = _Compiled(run, None, donated)
    return program
