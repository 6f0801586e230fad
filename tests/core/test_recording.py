"""Recording: the graphs of torch's own tracer, in less time."""

import pytest
import torch

from funcrl.core import internals, jit, native, random, recording

TABLE = torch.arange(12.0).view(3, 4)


def network(x, weight, bias):
    """Views, decomposed operations, gradients, lanes, a constant, several results of one operation, work in place on a copy."""

    def loss(weight, x):
        hidden = torch.nn.functional.linear(x, weight, bias).tanh()
        largest, place = hidden.max(-1)
        return (largest * TABLE[place % 3, 1]).sum() + torch.nn.functional.huber_loss(hidden, hidden.flip(0))

    values = torch.vmap(torch.func.grad(loss), (None, 0))(weight, x)
    copied = values.clone()
    copied[0] += 1.0
    return [copied, values.transpose(0, 1), x]


def drawing(key):
    first, second = random.split(key)
    return [random.normal(first, (3,)), random.categorical(second, torch.zeros(5)), torch.tensor(2.5) * 2]


HAND_ON = (torch.ops.aten.detach.default, torch.ops.aten.alias.default)
FUNCTIONS = {
    "network": (network, (torch.randn(6, 2, 4), torch.randn(5, 4), torch.randn(5))),
    "drawing": (drawing, (random.key(3),)),
}


def recorded(function, arguments, rules=None):
    return recording.record(torch.func.functionalize(function), arguments, rules)


def made_by_torch(function, arguments, rules=None):
    graph = internals.made_by_torch(torch.func.functionalize(function), arguments, rules)
    graph.graph.eliminate_dead_code()
    return graph


@pytest.mark.parametrize("rules", [None, internals.decompositions()], ids=["as they are", "decomposed"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_graph_is_that_of_torchs_tracer_and_does_what_the_function_does(name, rules):
    function, arguments = FUNCTIONS[name]
    ours, theirs = (trace(function, arguments, rules) for trace in (recorded, made_by_torch))

    def shapes(graph):
        found = [
            (node.op, node.target if node.op == "call_function" else None, node.meta["val"])
            for node in graph.graph.nodes
            if node.op != "output" and node.target not in HAND_ON
        ]
        return [(op, target, x.shape, x.stride()) for op, target, x in found if isinstance(x, torch.Tensor)]

    assert shapes(ours) == shapes(theirs)
    for ours_of_one, expected in zip(ours(*arguments), function(*arguments), strict=True):
        assert torch.allclose(ours_of_one, expected, atol=1e-6)
        assert ours_of_one.dtype == expected.dtype


def test_what_no_result_needs_is_left_out():
    graph = recorded(lambda x: [x * 2 if (x.exp() + 1).shape else x], (torch.ones(3),))
    assert [node.target for node in graph.graph.nodes if node.op == "call_function"] == [
        torch.ops.aten.mul.Tensor
    ]


def test_a_rule_that_does_not_apply_leaves_the_operation_as_it_is():
    rules = {torch.ops.aten.mul.Tensor: lambda x, y: NotImplemented, torch.ops.aten.sin.default: torch.cos}
    graph = recorded(lambda x: [(x * 2).sin()], (torch.ones(3),), rules)
    targets = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert targets == [torch.ops.aten.mul.Tensor, torch.ops.aten.cos.default]


def test_a_constant_is_one_however_often_it_is_read():
    graph = recorded(lambda x: [x + TABLE, x * TABLE], (torch.ones(3, 4),))
    (constant,) = (node for node in graph.graph.nodes if node.op == "get_attr")
    assert getattr(graph, constant.target) is TABLE


@pytest.mark.skipif(native.library() is None, reason="needs a C++ compiler")
def test_random_numbers_are_one_operation():
    graph = recorded(*FUNCTIONS["drawing"])
    assert torch.ops.funcrl.threefry_keys.default in {node.target for node in graph.graph.nodes}


def test_what_is_there_for_its_effect_stays():
    def checked(x):
        torch._assert_async((x > 0).all())
        return [x * 2]

    graph = recorded(checked, (torch.ones(3),))
    assert graph(torch.ones(3))[0].tolist() == [2.0] * 3
    with pytest.raises(RuntimeError):
        graph(-torch.ones(3))


def test_a_traced_function_can_be_differentiated_past_what_it_detaches():
    x = torch.arange(3.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(recorded(lambda x: [(x * x.detach()).sum()], (x.detach(),))(x)[0], x)
    assert torch.equal(gradient, x.detach())


GENERATOR = torch.Generator()
SCALE, PLACE = torch.tensor(2.5), torch.tensor(1)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * SCALE.item(),
        lambda x: x * float(SCALE),
        lambda x: x[PLACE] + x[:PLACE],
        lambda x: x * x.sum().item(),
        lambda x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,)),
        pytest.param(
            lambda x: x + torch.rand(3, generator=GENERATOR.manual_seed(0)) * 0,
            marks=pytest.mark.skipif(torch.__version__ < "2.13", reason="before 2.13 torch's tracer cannot"),
        ),
    ],
    ids=["item", "float", "index", "item of a sum", "cond", "generator"],
)
def test_what_is_beyond_it_is_left_to_torchs_tracer(function):
    x = torch.ones(3, 3)
    with pytest.raises(recording.Beyond):
        recorded(lambda x: [function(x)], (x,))
    assert torch.allclose(jit.jit(function, backend="aot_eager")(x), function(x))


def test_a_branch_on_a_value_is_an_error():
    with pytest.raises((RuntimeError, recording.Beyond)):
        recorded(lambda x: [x if x.sum() > 0 else -x], (torch.ones(3),))
    with pytest.raises(RuntimeError):
        jit.jit(lambda x: x if x.sum() > 0 else -x, backend="aot_eager")(torch.ones(3))
