"""Tensors without numbers against tensors with some."""

from concurrent.futures import ThreadPoolExecutor

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


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.func.jvp(lambda a: torch.cat([a, torch.ones(6, 4)]), (x,), (x,))[1],
        lambda x: torch.func.hessian(lambda row: row.tanh().prod())(x[0]),
    ],
)
def test_forward_derivatives_have_zeros_with_memory(function):
    graph = record(torch.func.functionalize(lambda x: [function(x)]), [X])
    assert torch.ops.aten._efficientzerotensor.default not in {node.target for node in graph.graph.nodes}
    assert torch.allclose(graph(X)[0], function(X), atol=1e-5)


@pytest.mark.compiled
def test_compiled_they_read_no_memory_that_is_not_there():
    both = lambda x: (
        torch.func.jvp(torch.func.grad(lambda c: (c**3).sum()), (x,), (x,))[1],
        torch.func.jvp(lambda a: torch.cat([a, torch.ones(6, 4)]), (x,), (x,))[1],
    )
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(jit.jit(both)(X), both(X), strict=True))


def test_threads_may_trace_at_the_same_time():
    def work(number):
        for size in range(2, 14):
            x = random.normal(random.key(number), (3, 20 * number + size))
            y = jit.jit(lambda x: torch.linalg.svdvals(x).sum() + (x @ x.T).relu(), backend="aot_eager")(x)
            assert y.shape == (3, 3)
        return True

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(work, range(3)))


def test_what_a_global_setting_decides_is_asked_anew():
    whole = torch.arange(6)
    assert jit.jit(lambda x: x.sqrt(), backend="aot_eager")(whole).dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        found = jit.jit(
            lambda x: x.sqrt() * (2.0 if x.sqrt().dtype == torch.float64 else 0.0), backend="aot_eager"
        )
        assert torch.equal(found(whole), 2.0 * whole.sqrt())
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "function",
    [
        lambda c: c.conj().imag,
        lambda c: torch.view_as_real(c.conj().resolve_conj()),
        lambda c: c.real * (2.0 if c.conj().is_conj() else 3.0),
        lambda c: torch.fft.rfft(c.real).conj().imag,
    ],
)
def test_conjugates_that_are_yet_to_be_worked_out_are_left_to_torch(function):
    c = torch.complex(X, 2 * X)
    for given in (c, c.conj()):
        assert torch.allclose(jit.jit(function, backend="aot_eager")(given), function(given), atol=1e-5)


def test_a_traced_function_may_print_what_it_has(capsys):
    def function(x):
        print(x, f"{x * 2}")
        return torch.vmap(lambda row: print(row) or row + 1)(x)

    jit.jit(function, backend="aot_eager")(X)
    assert "shape=(6, 4), dtype=torch.float32" in capsys.readouterr().out
    with pytest.raises(ValueError, match="bad"):
        jit.jit(lambda x: int(f"bad {x}"), backend="aot_eager")(X)
