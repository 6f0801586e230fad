"""Drawing the random numbers of many steps at once.

A step `f(carry, key)` of an environment and a policy is called hundreds of times in a row, and its
random numbers depend on nothing but the key. `hoist` takes the step apart: `early(key)` computes
all that depends on the key alone, `late(carry, noise)` the rest. `early` then runs once for all
steps under `vmap`, and the sequential part holds no generator code, so that it compiles quickly and
can be unrolled. The split computes the same operations on the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from funcrl.core import internals
from funcrl.core.graphs import trace
from funcrl.core.tree import flatten, unflatten

Noise = list[Tensor]


class Late:
    """What a step does once its random numbers are there: `late(carry, noise)`."""

    def __init__(self, graph: GraphModule, output_spec: Any) -> None:
        """Keep the graph.

        Args:
            graph: From the carry's leaves and the noise to the leaves of the step's result.
            output_spec: Structure of that result.
        """
        self._graph = graph
        self._output_spec = output_spec

    @property
    def num_operations(self) -> int:
        """Number of tensor operations, by which to judge how many steps one program can hold."""
        return sum(node.op == "call_function" for node in self._graph.graph.nodes)

    def __call__(self, carry: Any, noise: Noise) -> Any:
        """Return what `step(carry, key)` returns, for the key that the noise was drawn with."""
        return unflatten(self._output_spec, self._graph(*flatten(carry)[0], *noise))


def hoist(
    step: Callable[[Any, Tensor], Any], carry: Any, key: Tensor
) -> tuple[Callable[[Tensor], Noise], Late]:
    """Split `step(carry, key)` into `late(carry, early(key))`.

    Args:
        step: A pure function of pytrees of tensors.
        carry: An example of its first argument, for structure and shapes.
        key: An example of its second.

    Returns:
        `early(key) -> noise`, a list of tensors, and `late(carry, noise)`, which returns what
        `step` returned. Both are pure and work under `vmap`.

    >>> import torch
    >>> early, late = hoist(lambda x, key: x + 2 * key, torch.ones(2), torch.ones(2))
    >>> early(torch.ones(2)), late(torch.ones(2), [torch.zeros(2)])
    ([tensor([2., 2.])], tensor([1., 1.]))
    """
    leaves, spec = flatten((carry, key))
    graph, output_spec = trace(step, leaves, spec)
    early, late = _split(graph, num_carry=len(leaves) - 1)
    return early, Late(late, output_spec)


def _split(graph: GraphModule, num_carry: int) -> tuple[GraphModule, GraphModule]:
    *inputs, end = (node for node in graph.graph.nodes if node.op in ("placeholder", "output"))
    carry, key = inputs[:num_carry], inputs[num_carry]
    of_carry, of_key = _reached_from(carry), _reached_from([key])
    # What depends on neither (a table, a range) is cheap and is repeated where it is needed.
    is_early = {node: node in of_key and node not in of_carry for node in graph.graph.nodes}
    crossing = [
        node
        for node in graph.graph.nodes
        if is_early[node] and any(user is end or not is_early[user] for user in node.users)
    ]
    early = _subgraph(graph, [key], crossing)
    late = _subgraph(graph, [*carry, *crossing], list(end.args[0]))
    return early, late


def _reached_from(sources: list[Node]) -> set[Node]:
    reached: set[Node] = set()
    waiting = list(sources)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += node.users
    return reached


def _subgraph(graph: GraphModule, inputs: list[Node], outputs: list[Node]) -> GraphModule:
    """Return the part of a graph that computes `outputs` from `inputs`."""
    part = Graph()
    copies: dict[Node, Node] = {node: part.placeholder(node.name) for node in inputs}
    needed: set[Node] = set()
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node not in needed and node not in copies:
            needed.add(node)
            waiting += node.all_input_nodes
    for node in graph.graph.nodes:
        if node in needed:
            copies[node] = part.node_copy(node, lambda original: copies[original])
    part.output([copies[node] for node in outputs])
    # The original module holds the constants that the trace met.
    return internals.graph_module(graph, part)
