"""Tensors without numbers against tensors with some."""

import pytest
import torch
import torch.nn.functional as F

from funcrl.core import internals, jit, outlines, random
from funcrl.core.recording import Beyond, record

X = random.normal(random.key(1), (6, 4))
IMAGES = random.normal(random.key(2), (3, 2, 6, 5))
ROWS = torch.tensor([2, 0, 1, 1, 0, 3])

FUNCTIONS = {
    "views": lambda x: [x.T, x[1:, ::2], x.unsqueeze(1).expand(6, 3, 4), x.view(3, 8), x.select(0, 2)],
    "promotion": lambda x: [x + 1, x.long() + 1, x.long() + 1.0, (x > 0) * 1, (x > 0) * 1.0, x.long() / 2],
    "numbers": lambda x: [torch.full((2,), 1), torch.full((2,), 1.0), torch.full((2,), True), 2**x],
    "made": lambda x: [torch.zeros(3), torch.arange(5), x.new_ones(2), torch.zeros_like(x.T), torch.eye(4) + x[:4]],
    "dtypes": lambda x: [x.double() @ x.double().T, x.bfloat16(), x.to(torch.int32) // 2, x.half().sum()],
    "several": lambda x: [*x.sort(dim=1), *x.topk(2), *x.split(4), *torch.aminmax(x), *x.unbind(1)],
    "reductions": lambda x: [x.sum(), x.mean(0), x.argmax(1, keepdim=True), x.logsumexp(1), x.std(0)],
    "products": lambda x: [x @ x.T, torch.einsum("ij,kj->ik", x, x), x[None] @ x.T, F.linear(x, x, x[:, 0])],
    "choosing": lambda x: [x[ROWS], x.gather(1, ROWS[:, None]), torch.where(x > 0, x, 0.0), x.scatter(1, ROWS[:, None], 9.0)],
    "in place on copies": lambda x: [x.clone().add_(1.0), x.T.clone().fill_(2.0), x.clone().copy_(x[0])],
    "gradients": lambda x: [torch.func.grad(lambda y: (y.tanh() * X).sum())(x), torch.func.jacrev(torch.sin)(x[0])],
    "lanes": lambda x: [torch.vmap(torch.func.grad(lambda row: (row @ x.T).square().sum()))(x)],
    "drawing": lambda x: [random.normal(random.key(3), (2, 3)), *random.split(random.key(4)).unbind(0)],
    "nothing in it": lambda x: [x[:0].sum(0), torch.cat([x, x[:0]])],
}  # fmt: skip


def looks(x):
    return x.shape, x.stride(), x.dtype, x.device


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_look_as_those_with_numbers_do_and_the_graph_gives_them(name):
    function = FUNCTIONS[name]
    graph = record(torch.func.functionalize(function), [X])
    (end,) = (node for node in graph.graph.nodes if node.op == "output")
    for node, found, expected in zip(end.args[0], graph(X), function(X), strict=True):
        assert looks(node.meta["val"]) == looks(found) == looks(expected)
        assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_so_do_those_of_networks(memory_format):
    weight = random.normal(random.key(5), (4, 2, 3, 3))

    def network(x):
        x = F.max_pool2d(F.conv2d(x.to(memory_format=memory_format), weight, padding=1), 2)
        return [
            x,
            F.batch_norm(x, None, None, training=True),
            x.flatten(1).softmax(1),
            F.interpolate(x, scale_factor=2),
        ]

    graph = record(torch.func.functionalize(network), [IMAGES])
    (end,) = (node for node in graph.graph.nodes if node.op == "output")
    for node, expected in zip(end.args[0], network(IMAGES), strict=True):
        assert looks(node.meta["val"]) == looks(expected)


def test_views_of_one_memory_are_known_as_such():
    found = {}

    def function(x):
        y = x * 2
        found.update(x=x, part=x[1:], turned=x.T[0], y=y, part_of_y=y.view(-1))
        return [y]

    record(function, [X])
    memory = {name: outlines.storage_of(x) for name, x in found.items()}
    assert memory["x"] == memory["part"] == memory["turned"]
    assert memory["y"] == memory["part_of_y"] != memory["x"]


def test_torchs_rules_are_asked_once_for_the_same_layouts(monkeypatch):
    asked, ask = [], outlines._asked
    monkeypatch.setattr(outlines, "_known", {})
    monkeypatch.setattr(
        outlines, "_asked", lambda function, *rest: asked.append(function) or ask(function, *rest)
    )
    for _ in range(3):
        record(lambda x: [x * 2, x * 2.0, x.exp()], [X])
    record(lambda x: [x * 2], [X.double()])
    assert asked == [torch.ops.aten.mul.Tensor] * 2 + [torch.ops.aten.exp.default, torch.ops.aten.mul.Tensor]
    monkeypatch.setattr(outlines, "_MOST_KNOWN", len(outlines._known))
    record(lambda x: [x.sin()], [X])
    assert len(outlines._known) == 1


def test_a_graph_of_another_device_stays_there():
    """No such device is needed for that."""

    def function(x):
        assert x.device.type == "cuda"
        return [x + 1, x.new_zeros(3), torch.zeros_like(x), x.sum() * torch.tensor(2.0), x.cpu()]

    there = outlines.Outline(outlines.outline(X).look._replace(device=torch.device("cuda", 0)))
    graph = record(function, [there])
    (end,) = (node for node in graph.graph.nodes if node.op == "output")
    assert [str(node.meta["val"].device) for node in end.args[0]] == ["cuda:0"] * 4 + ["cpu"]


def test_what_depends_on_numbers_is_left_to_torch_and_what_is_wrong_is_said():
    for function in (
        lambda x: [x.nonzero()],
        lambda x: [x[x > 0]],
        lambda x: [torch.unique(x)],
        lambda x: [x.to_sparse()],
        lambda x: [x.bincount()],
    ):
        with pytest.raises(Beyond):
            record(function, [X])
    assert jit.jit(lambda x: x[x > 0].sum(), backend="aot_eager")(X) == X[X > 0].sum()
    with pytest.raises(RuntimeError, match="must have same reduction dim"):
        jit.jit(lambda x: x @ x, backend="aot_eager")(X)


def test_a_tensor_that_is_kept_of_a_trace_says_so():
    kept = []
    jit.jit(lambda x: kept.append(x * 2) or x, backend="aot_eager")(X)
    with pytest.raises(
        RuntimeError, match="jit: a tensor of a function that is traced must stay inside of it"
    ):
        kept[0] + 1


def test_operations_that_return_views_or_write_are_told_from_others():
    aten = torch.ops.aten
    assert internals.returns_new_memory(aten.mul.Tensor)
    assert not internals.returns_new_memory(aten.view.default)
    assert not internals.returns_new_memory(aten.add_.Tensor)
