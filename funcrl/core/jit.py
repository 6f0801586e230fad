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

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import optree
import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from funcrl.core import tree
from funcrl.core.checks import require

BACKENDS = ("inductor", "aot_eager", "eager")
"""`inductor` compiles, `aot_eager` traces and runs the graph as it is, `eager` calls the function."""

_INDUCTOR_OPTIONS: dict[str, Any] = {
    # The 20 rounds of Threefry fuse into one huge loop body that code generation walks dozens of
    # times; storing intermediate results earlier compiles several times faster and runs as fast.
    "realize_opcount_threshold": 8,
    # tanh from exp instead of the vector library's: about 1.3 times faster here for whole updates.
    "cpp.use_decompose_tanh": True,
}


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


@dataclass(frozen=True)
class _Compiled:
    """One program: flat tensors in, flat tensors out."""

    run: Callable[..., Sequence[Tensor]]
    output_spec: Any
    donated: tuple[int, ...]
    """for each leading output leaf, the position of the input leaf that holds it"""


class Jit:
    """A compiled function; see `jit`."""

    def __init__(self, function: Callable[..., Any], donate: tuple[int, ...], backend: str) -> None:
        self.function = function
        self.donate = donate
        self.backend = backend
        self._programs: dict[Signature, _Compiled] = {}
        functools.update_wrapper(self, function, updated=())

    @property
    def num_graphs(self) -> int:
        """Number of programs compiled for this function; 1 unless shapes or structures changed."""
        return len(self._programs)

    def __call__(self, *args: Any) -> Any:
        """Run the function, compiling it first where these shapes are new."""
        leaves, spec = _flatten(args)
        program = self._program(leaves, spec)
        return _assemble(program, leaves)

    def bind(self, *args: Any) -> Callable[[], Any]:
        """Return a function without arguments that runs on these very tensors each time.

        It reads what they hold when it is called. Donated arguments are overwritten each time.
        """
        leaves, spec = _flatten(args)
        program = self._program(leaves, spec)
        if len(program.donated) == program.output_spec.num_leaves:
            result = _assemble_only_donated(program, leaves)
            run = program.run

            def replay() -> Any:
                run(*leaves)
                return result

            return replay
        return lambda: _assemble(program, leaves)

    def _program(self, leaves: list[Tensor], spec: Any) -> _Compiled:
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
        A callable with `num_graphs` and `bind`.

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
    leaves, _ = _flatten(state)
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


def _flatten(args: Any) -> tuple[list[Tensor], Any]:
    return optree.tree_flatten(args, namespace=tree.OPTREE_NAMESPACE)


def _unflatten(spec: Any, leaves: Sequence[Tensor]) -> Any:
    return optree.tree_unflatten(spec, leaves)


def _assemble(program: _Compiled, leaves: list[Tensor]) -> Any:
    fresh = program.run(*leaves)
    donated = [leaves[position] for position in program.donated]
    return _unflatten(program.output_spec, [*donated, *fresh])


def _assemble_only_donated(program: _Compiled, leaves: list[Tensor]) -> Any:
    return _unflatten(program.output_spec, [leaves[position] for position in program.donated])


def _compile(
    function: Callable[..., Any],
    leaves: list[Tensor],
    spec: Any,
    donate: tuple[int, ...],
    backend: str,
) -> _Compiled:
    donated = _donated_positions(leaves, spec, donate)
    if backend == "eager":
        return _run_eagerly(function, leaves, spec, donated)
    graph, output_spec = trace(function, leaves, spec)
    _write_back(graph, leaves, donated)
    run = _inductor(graph, leaves) if backend == "inductor" else graph
    return _Compiled(run, output_spec, donated)


def trace(function: Callable[..., Any], leaves: Sequence[Tensor], spec: Any) -> tuple[GraphModule, Any]:
    """Trace `function(*args)` into a flat graph, args being `leaves` arranged by `spec`.

    Returns:
        The graph, from leaves to a list of output leaves, and the structure of the output.
    """
    output_spec: Any = None

    def flat(*flat_leaves: Tensor) -> list[Tensor]:
        nonlocal output_spec
        outputs, output_spec = _flatten(function(*_unflatten(spec, flat_leaves)))
        return [torch.as_tensor(output) for output in outputs]

    with _no_fallback():
        graph = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(*leaves)
    return graph, output_spec


@contextlib.contextmanager
def _no_fallback() -> Iterator[None]:
    """Turn torch's warning that vmap falls back to a loop over lanes into an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="There is a performance drop because")
        yield


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


def _check_donation(leaves: list[Tensor], donated: tuple[int, ...], outputs: Sequence[Tensor]) -> None:
    require(
        len(donated) <= len(outputs), "jit", "the first outputs", "match the donated arguments", len(outputs)
    )
    for position, output in zip(donated, outputs, strict=False):
        given, found = leaves[position], output
        require(
            given.shape == found.shape and given.dtype == found.dtype,
            "jit",
            "an output that overwrites a donated argument",
            f"be {tuple(given.shape)} {given.dtype}",
            f"{tuple(found.shape)} {found.dtype}",
        )


def _write_back(graph: GraphModule, leaves: list[Tensor], donated: tuple[int, ...]) -> None:
    """Make the graph copy its first outputs into the donated inputs, and return only the others."""
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    (end,) = (node for node in graph.graph.nodes if node.op == "output")
    outputs: list[Node] = list(end.args[0])
    _check_donation(leaves, donated, [node.meta["val"] for node in outputs])
    storages = {_storage(node) for node in inputs}
    with graph.graph.inserting_before(end):
        sources = []
        for position, source in zip(donated, outputs, strict=False):
            # An output that is (a view of) some input must be read before any input is written.
            aliases = source is not inputs[position] and _storage(source) in storages
            clone = torch.ops.aten.clone.default
            sources.append(graph.graph.call_function(clone, (source,)) if aliases else source)
        for position, source in zip(donated, sources, strict=True):
            if source is not inputs[position]:
                graph.graph.call_function(torch.ops.aten.copy_.default, (inputs[position], source))
    end.args = (outputs[len(donated) :],)
    graph.recompile()


def _storage(node: Node) -> int:
    return node.meta["val"].untyped_storage()._cdata  # type: ignore[no-any-return]


def _run_eagerly(
    function: Callable[..., Any], leaves: list[Tensor], spec: Any, donated: tuple[int, ...]
) -> _Compiled:
    def call(*flat_leaves: Tensor) -> tuple[list[Tensor], Any]:
        with _no_fallback():
            return _flatten(function(*_unflatten(spec, flat_leaves)))

    def run(*flat_leaves: Tensor) -> list[Tensor]:
        outputs, _ = call(*flat_leaves)
        _check_donation(list(flat_leaves), donated, outputs)
        sources = [source.clone() for source in outputs[: len(donated)]]
        for position, source in zip(donated, sources, strict=True):
            flat_leaves[position].copy_(source)
        return outputs[len(donated) :]

    return _Compiled(run, call(*leaves)[1], donated)


def _inductor(graph: GraphModule, leaves: list[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """Compile a flat graph. The only function that touches torch's private compiler interface."""
    from torch._guards import TracingContext, tracing
    from torch._inductor.compile_fx import compile_fx
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    # Without a tracing context that has a ShapeEnv, torch would not use its on-disk cache.
    context = TracingContext(FakeTensorMode(shape_env=ShapeEnv()))
    with torch.no_grad(), tracing(context):
        compiled: Any = compile_fx(graph, leaves, config_patches=dict(_INDUCTOR_OPTIONS))

    def run(*flat_leaves: Tensor) -> Sequence[Tensor]:
        with torch.no_grad():
            outputs: Sequence[Tensor] = compiled(*flat_leaves)
            return outputs

    return run
