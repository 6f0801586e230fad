"""Recording what a function does to tensors without numbers, operation by operation, as a flat graph.

It does the work of torch's own tracer for the graphs that funcrl makes, whose shapes are constants and whose
inputs and outputs are flat lists, in a third of the time. Tracing is what is left of a start when
all programs are on the disk already. What it leaves to torch's tracer raises `Beyond`: numbers that are
read from tensors, shapes that depend on them, control flow as an operation, generators.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from funcrl.core import internals, outlines
from funcrl.core.outlines import Outline, outline

Rules = dict[Any, Callable[..., Any]]
"""From an operation to a function that does the same by simpler ones."""


class Beyond(Exception):  # noqa: N818
    """The function does what only torch's own tracer can record."""


class _Recorder(internals.DispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, every operation on tensors becomes a node, and its results belong to it."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = Graph()
        self.constants = torch.nn.Module()
        """holds what the graph reads and nobody gave: tensors with numbers that the function met"""
        self._rules = rules
        self._nodes: dict[int, Node] = {}
        self._seen: list[Tensor] = []
        """all tensors whose numbers are keys above, which must not be given to others"""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say that torch need not import its compiler to keep it away from here: nobody compiles what records."""
        return False

    def input(self, x: Tensor) -> None:
        """Make a tensor the next input."""
        self._note(x, self.graph.placeholder(f"input_{len(self._seen)}"))

    def node(self, x: Tensor) -> Node:
        """Return where a tensor comes from; one that comes from nowhere is a constant."""
        if id(x) not in self._nodes:
            name = f"_tensor_constant{len(self.constants._buffers)}"
            self.constants.register_buffer(name, x)
            node = self.graph.get_attr(name)
            node.meta["val"] = outline(x)
            self._note(x, node)
        return self._nodes[id(x)]

    def _note(self, x: Tensor, node: Node) -> Tensor:
        node.meta.setdefault("val", x)
        self._nodes[id(x)] = node
        self._seen.append(x)
        return x

    def _argument(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            return self.node(x)
        return [self._argument(part) for part in x] if isinstance(x, (list, tuple)) else x

    def _outlined(self, x: Any) -> Any:
        """Return an argument with outlines in the place of tensors; one that has numbers is a constant from now on."""
        if isinstance(x, Tensor):
            return x if isinstance(x, Outline) else self.node(x).meta["val"]
        if isinstance(x, torch.Generator):
            raise Beyond
        return [self._outlined(part) for part in x] if isinstance(x, (list, tuple)) else x

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # Rules are for what is compiled, which nobody differentiates.
        if self._rules and function is torch.ops.aten.detach.default:
            (x,) = self._outlined(args)
            return self._note(Outline(x.look, x.twin), self.node(args[0]))
        if function is torch.ops.aten._efficientzerotensor.default:
            function = torch.ops.aten.zeros.default  # the other has no memory, which compiled code would read
        for rule in (self._rules.get(function), internals.composite(function)):
            if rule is not None:
                with self:
                    result = rule(*args, **kwargs)
                if result is not NotImplemented:
                    return result
        if function is torch.ops.aten.lift_fresh.default:  # a constant stays what it is
            function = torch.ops.aten.lift_fresh_copy.default
        if internals.reads_a_number(function):
            raise Beyond
        named = {name: self._outlined(x) for name, x in kwargs.items()}
        result = outlines.result(function, tuple(self._outlined(args)), named)
        node = self.graph.create_node(
            "call_function",
            function,
            tuple([self._argument(x) for x in args]),
            {name: self._argument(x) for name, x in kwargs.items()},
            name=function.overloadpacket.__name__,
        )
        if isinstance(result, Tensor):
            return self._note(result, node)
        if isinstance(result, (list, tuple)):
            node.meta["val"] = result
            for position, part in enumerate(result):
                if isinstance(part, Tensor):
                    self._note(part, self.graph.call_function(operator.getitem, (node, position)))
        return result


def record(
    function: Callable[..., Sequence[Tensor]],
    examples: Sequence[Tensor],
    rules: Rules | None = None,
) -> GraphModule:
    """Return the graph of what a function does to its arguments.

    Args:
        function: Takes tensors, changes none of them, and returns a flat list of tensors.
        examples: A tensor for each argument, with or without numbers.
        rules: How to write operations in terms of simpler ones; as they are by default.

    Returns:
        The graph from arguments to results, without what no result needs. Each node has a tensor of
        the same shape as its own in `meta["val"]`.

    Raises:
        Beyond: Where it is torch's tracer's work.
    """
    recorder = _Recorder(rules or {})
    try:
        # A tensor that is given twice now may be two tensors in the next call: each has an outline of its own.
        inputs = [outline(example) for example in examples]
        for x in inputs:
            recorder.input(x)
        with recorder:
            results = function(*inputs)
    except outlines.Unknown as error:
        raise Beyond from error
    except NotImplementedError as error:
        if "HigherOrderOperator" in str(error):
            # Control flow as an operation: torch.compile takes part in it, and remembers that it failed.
            torch.compiler.reset()
        raise Beyond from error
    recorder.graph.output([recorder.node(result) for result in results])
    for node in reversed(recorder.graph.nodes):
        if not node.users and node.op not in ("placeholder", "output") and not _has_an_effect(node):
            recorder.graph.erase_node(node)
    return internals.graph_module(recorder.constants, recorder.graph)


def _has_an_effect(node: Node) -> bool:
    """Tell whether an operation is there for something else than what it returns."""
    returns = getattr(getattr(node.target, "_schema", None), "returns", None)
    return node.is_impure() or (node.op == "call_function" and returns == [])
