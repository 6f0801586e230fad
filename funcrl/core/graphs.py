"""Flat graphs of tensor operations: tracing them, donating their inputs, compiling them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.overrides import TorchFunctionMode

from funcrl.core import background, internals, native, operators, store, tree
from funcrl.core.checks import require
from funcrl.core.memory import keep_freed_memory, without_collection
from funcrl.core.outlines import outline, storage_of
from funcrl.core.recording import Beyond, record
from funcrl.core.tree import flatten, unflatten

_CHANGE_NOTHING = frozenset(
    [
        "_reshape_alias",
        "_to_copy",
        "_unsafe_view",
        "alias",
        "cat",
        "clone",
        "contiguous",
        "copy",
        "detach",
        "expand",
        "lift_fresh_copy",
        "movedim",
        "permute",
        "repeat",
        "reshape",
        "select",
        "slice",
        "squeeze",
        "stack",
        "t",
        "to",
        "transpose",
        "unsqueeze",
        "view",
    ]
)
"""Operations of which at least some uses hand on what they are given."""


def _copy(x: Tensor) -> Tensor:
    """Copy a tensor, in a way that no compiler pass takes for nothing.

    Inductor drops `clone` where it sees no use for it; when two donated tensors change places there
    is one, and without it both end up with the same content.
    """
    return x.clone(memory_format=torch.contiguous_format)


operators.add("copy(Tensor x) -> Tensor", _copy, lambda x: x.new_empty(x.shape))


def copy(x: Tensor) -> Tensor:
    """Return a copy that stays one, however many equal ones a compiled program makes; not under vmap."""
    return torch.ops.funcrl.copy(x)  # type: ignore[no-any-return]


def trace(
    function: Callable[..., Any],
    leaves: Sequence[Tensor],
    spec: Any,
    decompositions: dict[Any, Any] | None = None,
) -> tuple[GraphModule, Any]:
    """Trace `function(*args)` into a flat graph, args being `leaves` arranged by `spec`.

    Args:
        function: A pure function of pytrees.
        leaves: Tensors that give shapes, dtypes and devices.
        spec: How they are arranged.
        decompositions: How to write operations in terms of simpler ones; as they are by default.

    Returns:
        The graph, from leaves to a list of output leaves, and the structure of the output.
    """
    output_spec: Any = None

    def flat(*flat_leaves: Tensor) -> list[Tensor]:
        nonlocal output_spec
        outputs, output_spec = flatten(function(*unflatten(spec, flat_leaves)))
        # One layout for all outputs: a state that is fed back must not look like a new kind of input.
        return [tree.as_tensor(output).contiguous() for output in outputs]

    # Functionalised: an in-place operation on a copy is a write that no later node refers to, and
    # whoever takes the graph apart would lose it.
    pure = torch.func.functionalize(flat)
    graph = None
    with no_fallback(), _TensorsOnly():
        with contextlib.suppress(Beyond):
            graph = record(pure, leaves, decompositions)
        if graph is None:
            graph = internals.made_by_torch(pure, leaves, decompositions)
    inputs = {node for node in graph.graph.nodes if node.op == "placeholder"}
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target is torch.ops.aten.copy_.default:
            require(
                node.args[0] not in inputs,
                "jit",
                "the function",
                "not change its arguments in place",
                getattr(function, "__name__", function),
                "Work on a copy: x = x.clone().",
            )
    return graph, output_spec


class _TensorsOnly(TorchFunctionMode):
    """Refuses to make NumPy's arrays of tensors without numbers: they would have whatever stands in memory.

    NumPy makes one of a tensor that an array is multiplied by, too.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _READ_BY_NUMPY:
            require(
                False,
                "jit",
                "the function",
                "compute with tensors alone",
                "a NumPy array",
                "Write torch.as_tensor(array) for what is an array, and read tensors as arrays outside.",
            )
        return function(*args, **(kwargs or {}))


_READ_BY_NUMPY = (torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.__dlpack__)


@contextlib.contextmanager
def no_fallback() -> Iterator[None]:
    """Turn torch's warning that vmap falls back to a loop over lanes into an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="There is a performance drop because")
        yield


def check_donation(leaves: list[Tensor], donated: tuple[int, ...], outputs: Sequence[Tensor]) -> None:
    """Check that each of the first outputs can overwrite the donated input that it belongs to.

    Raises:
        ValueError: When there are too few outputs, or a shape or dtype differs.
    """
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


def write_back(graph: GraphModule, leaves: list[Tensor], donated: tuple[int, ...]) -> None:
    """Make the graph copy its first outputs into the donated inputs, and return only the others."""
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    (end,) = (node for node in graph.graph.nodes if node.op == "output")
    outputs: list[Node] = list(end.args[0])
    check_donation(leaves, donated, [node.meta["val"] for node in outputs])
    storages = {_storage(node) for node in inputs}

    def may_alias(node: Node) -> bool:
        return _storage(node) in storages or _unchanged(node) in inputs

    def copied(node: Node) -> Node:
        return graph.graph.call_function(torch.ops.funcrl.copy.default, (node,))

    with graph.graph.inserting_before(end):
        sources = []
        for position, source in zip(donated, outputs, strict=False):
            # An output that is some input, or a view or a copy of it, must be read before any input is written.
            aliases = source is not inputs[position] and may_alias(source)
            sources.append(copied(source) if aliases else source)
        fresh = [copied(node) if may_alias(node) else node for node in outputs[len(donated) :]]
        for position, source in zip(donated, sources, strict=True):
            if source is not inputs[position]:
                graph.graph.call_function(torch.ops.aten.copy_.default, (inputs[position], source))
    end.args = (fresh if donated else outputs,)
    graph.recompile()


def _unchanged(node: Node) -> Node:
    """Return what a node's values are taken from without a change, by operations that a compiler drops.

    It takes a copy of an input, or the concatenation of one tensor, for the input itself.
    """
    while node.op == "call_function" and _name(node) in _CHANGE_NOTHING and len(node.all_input_nodes) == 1:
        (node,) = node.all_input_nodes
    return node


def _name(node: Node) -> str:
    return str(node.target).removeprefix("aten.").partition(".")[0]


def _storage(node: Node) -> int:
    return storage_of(node.meta["val"])


def inductor(graph: GraphModule) -> Callable[[], internals.Program]:
    """Begin to compile a flat graph, or load it where it is kept; return what waits for it."""
    keep_freed_memory()
    native.library()  # so that programs find what they call
    path = store.place(graph, native.version())
    if path and (kept := store.load(path)):
        return lambda: kept
    internals.warm_up()

    def work() -> internals.Program:
        program = path and store.load(path)
        if not program:
            with without_collection():
                if native.library() is not None:
                    internals.call_natively(tuple(operators.names))
                program = internals.compile_graph(graph, store.folder())
            if path:
                store.keep(path, program)
        return program

    return background.beforehand(work) if path else work


def lift_constants(graph: GraphModule) -> list[Tensor]:
    """Make the tensors that a traced graph holds its last inputs, and return them.

    Compiled code is the same whatever they hold, and can be kept without them. Single numbers that
    the function makes itself stay: the compiler writes them into the code.
    """
    constants: list[Tensor] = []
    last = [node for node in graph.graph.nodes if node.op == "placeholder"][-1:]
    for node in [node for node in graph.graph.nodes if node.op == "get_attr"]:
        value = getattr(graph, str(node.target))
        made_inside = all("lift_fresh_copy" in str(user.target) for user in node.users)
        if not isinstance(value, Tensor) or (value.ndim == 0 and made_inside):
            continue
        with graph.graph.inserting_after(*last) if last else graph.graph.inserting_before():
            lifted = graph.graph.placeholder(f"constant_{len(constants)}")
        lifted.meta["val"] = outline(value)
        node.replace_all_uses_with(lifted)
        graph.graph.erase_node(node)
        last = [lifted]
        constants.append(value)
    graph.recompile()
    return constants
