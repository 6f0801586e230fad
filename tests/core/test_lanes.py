"""Structs of which some numbers differ from lane to lane."""

import numpy as np
import pytest
import torch

from funcrl.core import checks, tree
from funcrl.core.lanes import Lanes, first, spread


@tree.struct
class Inner:
    length: float = 1.0
    mass: float = 2.0
    table: torch.Tensor | None = None
    sides: tuple = tree.static(default=(1, 2))

    def __post_init__(self):
        checks.settings(self, "Inner", positive=("length", "mass"))


@tree.struct
class Outer:
    inner: Inner
    scale: float = 3.0


def test_several_numbers_become_one_a_lane_wherever_they_stand():
    value = spread("train", "env", Outer(Inner(length=[1.0, 2.0]), scale=np.array([5.0, 6.0])), 2)
    lanes = Lanes(value)
    assert [column.tolist() for column in lanes.values] == [[1.0, 2.0], [5.0, 6.0]]
    assert lanes.first == Outer(Inner(length=1.0), scale=5.0)
    assert lanes.one([7.0, 8.0]) == Outer(Inner(length=7.0), scale=8.0)
    taken = lanes.take(torch.tensor([1, 1, 0]))
    assert taken.inner.length.tolist() == [2.0, 2.0, 1.0]
    assert taken.inner.mass == 2.0


def test_what_does_not_differ_is_left_alone():
    value = Outer(Inner(table=torch.ones(2)))
    assert spread("train", "env", value, 2) is value
    assert Lanes(value).values == []
    assert first(value).inner.table is value.inner.table
    assert spread("train", "env", "no struct", 2) == "no struct"


def test_one_lane_maps():
    lanes = Lanes(spread("train", "env", Outer(Inner(mass=[1.0, 4.0])), 2))
    double = torch.vmap(lambda values: lanes.one(values).inner.mass * 2)(lanes.values)
    assert double.tolist() == [2.0, 8.0]


def test_an_example_of_bad_columns_is_refused_too():
    with pytest.raises(ValueError, match="Outer: scale must hold at least one number"):
        first(Outer(Inner(), scale=[]))
    with pytest.raises(TypeError, match="Inner: length must be one number or a list of numbers"):
        first(Outer(Inner(length=[1.0, "a"])))


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (
            Outer(Inner(length=[1.0, 2.0, 3.0])),
            ValueError,
            r"env\.inner\.length must be one number or hold one",
        ),
        (Outer(Inner(length=[1.0, -2.0])), ValueError, "Inner: length must lie in"),
        (Outer(Inner(), scale=["a", "b"]), TypeError, r"env\.scale must be one number or a list of numbers"),
    ],
)
def test_bad_columns_are_refused(value, error, message):
    with pytest.raises(error, match=message):
        spread("train", "env", value, 2)
