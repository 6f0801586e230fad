"""Structs are frozen dataclasses and pytrees, for torch and for optree."""

import dataclasses

import optree
import pytest
import torch
import torch.utils._pytree as torch_pytree

from funcrl.core import tree


@tree.struct
class Point:
    x: torch.Tensor
    weights: dict
    size: int = tree.static(default=3)


def make(value: float = 1.0, size: int = 3) -> Point:
    return Point(torch.tensor(value), {"b": torch.tensor(value + 1), "a": torch.tensor(value + 2)}, size)


def test_a_struct_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().x = torch.tensor(0.0)


def test_static_fields_are_not_leaves():
    assert len(tree.leaves(make())) == 3
    assert tree.map(lambda x: x * 2, make(size=7)).size == 7


def test_both_registries_round_trip():
    point = make()
    leaves, spec = torch_pytree.tree_flatten(point)
    again = torch_pytree.tree_unflatten(leaves, spec)
    assert (again.x, again.weights, again.size) == (point.x, point.weights, point.size)
    leaves, spec = optree.tree_flatten(point, namespace=tree.OPTREE_NAMESPACE)
    again = optree.tree_unflatten(spec, leaves)
    assert (again.x, again.weights, again.size) == (point.x, point.weights, point.size)


def test_structure_tells_static_fields_apart():
    same, other = torch_pytree.tree_structure(make(2.0)), torch_pytree.tree_structure(make(size=4))
    assert torch_pytree.tree_structure(make()) == same != other


def test_named_leaves_say_the_path():
    assert list(tree.named_leaves(make())) == [".x", ".weights['b']", ".weights['a']"]


def test_stack_and_index_are_inverse():
    points = [make(float(i)) for i in range(3)]
    stacked = tree.stack(points)
    assert stacked.x.tolist() == [0.0, 1.0, 2.0]
    assert tree.index(stacked, 1).weights["a"] == points[1].weights["a"]


def test_stack_refuses_what_does_not_match():
    with pytest.raises(ValueError, match=r"tree\.stack: trees must share one structure"):
        tree.stack([make(size=3), make(size=4)])
    with pytest.raises(ValueError, match=r"tree\.stack: trees must hold at least one"):
        tree.stack([])


def test_replace_leaves_the_original_alone():
    point = make()
    changed = tree.replace(point, x=torch.tensor(9.0))
    assert (float(point.x), float(changed.x)) == (1.0, 9.0)
    with pytest.raises(TypeError):
        tree.replace(point, z=1)


def test_where_chooses_rows_of_every_leaf():
    rows = tree.where(torch.tensor([True, False]), {"a": torch.ones(2, 3)}, {"a": torch.zeros(2, 3)})
    assert rows["a"].tolist() == [[1.0] * 3, [0.0] * 3]


def test_structs_pass_through_vmap_grad_and_compile():
    def f(point: Point) -> Point:
        return tree.replace(point, x=point.x * point.size + point.weights["a"])

    many = tree.stack([make(float(i)) for i in range(3)])
    expected = [float(f(make(float(i))).x) for i in range(3)]
    assert torch.vmap(f)(many).x.tolist() == expected
    compiled = torch.compile(torch.vmap(f), fullgraph=True, backend="eager")
    assert compiled(many).x.tolist() == expected
    gradient = torch.func.grad(lambda point: f(point).x)(make())
    assert isinstance(gradient, Point)
    assert (float(gradient.x), float(gradient.weights["a"])) == (3.0, 1.0)


def test_checks_run_for_people_and_not_for_programs():
    @tree.struct
    class Checked:
        x: float

        def __post_init__(self):
            if isinstance(self.x, float) and self.x < 0:
                raise ValueError("negative")

    with pytest.raises(ValueError, match="negative"):
        Checked(-1.0)
    assert tree.map(lambda x: -x, Checked(1.0)).x == -1.0
