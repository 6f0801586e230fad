"""vmap of funcrl's own does what torch's does, and gives way to it where that is needed."""

import pytest
import torch

from funcrl.core import internals, random, threefry, tree
from funcrl.core.batching import vmap


@tree.struct
class Pair:
    left: torch.Tensor
    right: dict
    name: str = tree.static(default="")


def example(count=3):
    grid = torch.arange(count * 4.0).reshape(count, 4)
    return Pair(grid, {"b": grid[:, :1] + 1, "a": (grid.T, torch.arange(4))}, "kept")


def same(a, b):
    assert type(a) is type(b)
    assert tree.named_leaves(a).keys() == tree.named_leaves(b).keys()
    for one, other in zip(tree.leaves(a), tree.leaves(b), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("function", "in_dims", "out_dims", "arguments"),
    [
        (lambda x: x * 2, 0, 0, (torch.ones(3, 2),)),
        (lambda x, y: {"b": x + y, "a": x}, (0, None), 0, (torch.ones(3, 2), torch.ones(2))),
        (lambda x, y: (x + y, y), (1, 0), (1, 0), (torch.ones(2, 3), torch.ones(3, 2))),
        (lambda p: tree.replace(p, left=p.left.sum()), 0, 0, (tree.replace(example(), right={}),)),
        (lambda x: torch.ones(2), 0, 0, (torch.ones(3),)),
        (lambda x: vmap(lambda y: x + y)(torch.arange(4.0)), 0, 0, (torch.ones(3),)),
        (lambda x: torch.func.grad(lambda y: (y**2).sum())(x), 0, 0, (torch.arange(6.0).reshape(3, 2),)),
        (lambda key: random.normal(key, (2,)), 0, 0, (random.split(random.key(0), 3),)),
        (lambda x: {}, 0, 0, (torch.ones(3),)),
        # Out of the ordinary, but torch can.
        (lambda x: x, -1, 0, (torch.ones(2, 3),)),
        (lambda a: a[0] + a[1], ((0, 1),), 0, ((torch.ones(3, 2), torch.ones(2, 3)),)),
    ],
)
def test_it_maps_as_torch_does(function, in_dims, out_dims, arguments):
    found = vmap(function, in_dims, out_dims)(*arguments)
    same(found, torch.vmap(function, in_dims, out_dims)(*arguments))


def test_keys_of_a_dict_stay_in_their_order_and_static_fields_are_kept():
    pair = tree.replace(example(), right={"b": torch.ones(3), "a": torch.zeros(3)})
    found = vmap(lambda p: p)(pair)
    assert list(found.right) == ["b", "a"]
    assert found.name == "kept"
    assert [float(x) for x in tree.leaves(tree.map(lambda x: x.sum(), found))] == [66.0, 3.0, 0.0]


@pytest.mark.parametrize(
    ("function", "in_dims", "arguments"),
    [
        (lambda x: x, 0, (3,)),
        (lambda x, y: x, 0, (torch.ones(2), torch.ones(3))),
        (lambda x: x, 1, (torch.ones(2),)),
        (lambda x: "text", 0, (torch.ones(2),)),
        (lambda x: x, (0, 0), (torch.ones(2),)),
        (lambda x: x, None, (torch.ones(2),)),
        (lambda x: x.item(), 0, (torch.ones(2),)),
        (lambda: torch.ones(2), 0, ()),
    ],
)
def test_errors_are_torchs(function, in_dims, arguments):
    with pytest.raises(Exception, match=r".") as expected:
        torch.vmap(function, in_dims)(*arguments)
    with pytest.raises(type(expected.value)) as found:
        vmap(function, in_dims)(*arguments)
    assert str(found.value) == str(expected.value)


def test_after_an_error_nothing_is_left_of_the_axis():
    with pytest.raises(ZeroDivisionError):
        vmap(lambda x: 1 / 0)(torch.ones(2))
    assert torch.equal(vmap(lambda x: x.sum())(torch.ones(2, 3)), torch.tensor([3.0, 3.0]))
    assert internals.batch_axes().enter(2, "error") == 1
    internals.batch_axes().leave()


def test_a_torch_with_other_functions_maps_by_its_own(monkeypatch):
    monkeypatch.setattr(internals, "batch_axes", lambda: None)
    assert internals.batching_rule(lambda x: x, lambda *given: given) is None
    assert torch.equal(vmap(lambda x: x + 1)(torch.zeros(3)), torch.ones(3))


def test_what_vmap_is_made_of_is_where_it_was(monkeypatch):
    assert internals.batch_axes() is not None
    monkeypatch.delattr(torch._C._functorch, "_add_batch_dim")
    assert internals.batch_axes.__wrapped__() is None


def test_torchs_compiler_and_exporter_see_torchs(monkeypatch):
    double = vmap(lambda x: {"twice": 2 * x})
    compiled = torch.compile(lambda x: double(x)["twice"], fullgraph=True, backend="eager")
    assert torch.equal(compiled(torch.arange(3.0)), torch.tensor([0.0, 2.0, 4.0]))

    class Double(torch.nn.Module):
        def forward(self, x):
            return double(x)["twice"]

    program = torch.export.export(Double(), (torch.arange(3.0),))
    assert torch.equal(program.module()(torch.arange(3.0)), torch.tensor([0.0, 2.0, 4.0]))


@pytest.mark.parametrize("in_dims", [(0, None), (None, 0), (0, 0), (1, 0)])
def test_an_operators_rule_is_the_one_that_was_given(in_dims):
    keys = random.split(random.key(3), 4)
    key = {0: keys, 1: keys.T, None: keys[0]}[in_dims[0]]
    counter = (
        torch.arange(8, dtype=torch.int32).reshape(4, 2)
        if in_dims[1] == 0
        else torch.arange(2, dtype=torch.int32)
    )
    found = vmap(lambda k, c: threefry.keys(k, c, 1), in_dims)(key, counter)
    rows = [
        threefry.keys(
            keys[0] if in_dims[0] is None else keys[i], counter[i] if in_dims[1] == 0 else counter, 1
        )
        for i in range(4)
    ]
    assert torch.equal(found, torch.stack(rows))
    # One level out of two.
    twice = vmap(lambda k: vmap(lambda c: threefry.keys(k, c, 1))(counter.reshape(-1, 1)))(keys)
    assert torch.equal(
        twice,
        torch.stack([torch.stack([threefry.keys(k, c, 1) for c in counter.reshape(-1, 1)]) for k in keys]),
    )
