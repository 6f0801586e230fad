"""Elements of spaces: drawing them, and saying what is wrong with them."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from funcrl.core import random
from funcrl.core.spaces import dtype
from funcrl.envs.checking.elements import check_element, check_space, draw, outside

HUGE = np.finfo(np.float32).max
KEYS = random.split(random.key(0), 2000)

ACTIONS = [
    spaces.Box(-2.0, 3.0, (2,), np.float32),
    spaces.Box(np.float32([-1, -np.inf, 5, -np.inf]), np.float32([1, np.inf, np.inf, -3]), dtype=np.float32),
    spaces.Box(-HUGE, HUGE, (1,), np.float32),
    spaces.Box(1.0, 1.0, (2, 2), np.float32),
    spaces.Discrete(5),
    spaces.Discrete(3, start=-1),
    spaces.Discrete(1),
    spaces.MultiDiscrete([2, 7, 1]),
    spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 10], [-5, 0]]),
    spaces.MultiBinary(3),
]


@pytest.mark.parametrize("space", ACTIONS, ids=str)
def test_actions_lie_in_their_space(space):
    drawn = torch.vmap(lambda key: draw(key, space))(KEYS)
    assert drawn.dtype == (torch.float32 if isinstance(space, spaces.Box) else torch.int64)
    for action in drawn[:200]:
        assert space.contains(action.numpy().astype(space.dtype)), action
        assert outside(space, action) == ""


def test_discrete_actions_are_equally_likely():
    drawn = torch.vmap(lambda key: draw(key, spaces.Discrete(4, start=2)))(KEYS)
    counts = torch.bincount(drawn)
    assert counts[:2].tolist() == [0, 0]
    assert (counts[2:] > 430).all()


def test_every_number_of_several_takes_all_its_values():
    space = spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 10], [-5, 0]])
    drawn = torch.vmap(lambda key: draw(key, space))(KEYS)
    assert drawn.amin(0).tolist() == [[0, 10], [-5, 0]]
    assert drawn.amax(0).tolist() == [[1, 12], [-2, 4]]
    binary = torch.vmap(lambda key: draw(key, spaces.MultiBinary(3)))(KEYS)
    assert binary.float().mean(0) == pytest.approx(0.5, abs=0.05)


def test_boxes_are_filled_to_the_edges():
    drawn = torch.vmap(lambda key: draw(key, ACTIONS[0]))(KEYS)
    assert drawn.amin(0) == pytest.approx(-2.0, abs=0.02)
    assert drawn.amax(0) == pytest.approx(3.0, abs=0.02)
    assert drawn.mean(0) == pytest.approx(0.5, abs=0.1)
    halves = torch.vmap(lambda key: draw(key, ACTIONS[1]))(KEYS)
    assert halves.isfinite().all()
    assert (halves.std(0)[1:] > 0.5).all()
    assert torch.vmap(lambda key: draw(key, ACTIONS[2]))(KEYS).abs().max() > HUGE / 2


@pytest.mark.parametrize(
    ("space", "value", "words"),
    [
        (spaces.Box(-1, 2, (2,), np.float32), torch.tensor([0.0, 2.5]), "2.5 at [1], outside of [-1, 2]"),
        (spaces.Box(-1, 2, (2,), np.float32), torch.tensor([-1.5, 0.0]), "-1.5 at [0], outside of [-1, 2]"),
        (spaces.Box(-1, 2, (), np.float32), torch.tensor(float("nan")), "nan, outside of [-1, 2]"),
        (spaces.Box(-1, 2, (2,), np.float32), torch.tensor([-1.0, 2.0]), ""),
        (spaces.Box(-np.inf, np.inf, (1,), np.float32), torch.tensor([np.inf]), ""),
        (
            spaces.Box(0, 9, (1, 2), np.uint8),
            torch.tensor([[0, 10]], dtype=torch.uint8),
            "10 at [0, 1], outside",
        ),
        (spaces.Discrete(3, start=1), torch.tensor(0), "0, outside of [1, 3]"),
        (spaces.Discrete(3, start=1), torch.tensor(4), "4, outside of [1, 3]"),
        (spaces.Discrete(3, start=1), torch.tensor(3), ""),
        (spaces.MultiDiscrete([2, 3]), torch.tensor([2, 0]), "2 at [0], outside of [0, 1]"),
        (spaces.MultiDiscrete([2, 3]), torch.tensor([1, 2]), ""),
        (spaces.MultiBinary(2), torch.tensor([0, 2], dtype=torch.int8), "2 at [1], outside of [0, 1]"),
        (
            spaces.Dict(
                {"x": spaces.Discrete(2), "y": spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)])}
            ),
            {"y": (torch.tensor(0), torch.tensor(5)), "x": torch.tensor(1)},
            "5 at ['y'][1], outside of [0, 1]",
        ),
    ],
)
def test_what_lies_outside_is_put_into_words(space, value, words):
    found = outside(space, value)
    assert found.startswith(words)
    assert bool(found) == bool(words)


NESTED = spaces.Dict(
    {"image": spaces.Box(0, 255, (4, 4, 3), np.uint8), "rest": spaces.Tuple([spaces.MultiBinary(2)])}
)


def test_elements_of_nested_spaces():
    check_space("f", "space", NESTED)
    good = {"rest": (torch.ones(2, dtype=torch.int8),), "image": torch.zeros(4, 4, 3, dtype=torch.uint8)}
    check_element("f", "Env.observation", NESTED, good)
    with pytest.raises(
        ValueError, match=r"of shape \[2\] and torch.int8 at \['rest'\]\[0\], got '\[2\] torch.fl"
    ):
        check_element("f", "Env.observation", NESTED, good | {"rest": (torch.ones(2),)})
    with pytest.raises(ValueError, match=r"return the entries \[0\] at \['rest'\], got ''"):
        check_element("f", "Env.observation", NESTED, good | {"rest": ()})
    with pytest.raises(TypeError, match=r"return a tuple at \['rest'\], got Tensor"):
        check_element("f", "Env.observation", NESTED, good | {"rest": torch.ones(2)})
    with pytest.raises(TypeError, match=r"return a tensor at \['image'\], got None"):
        check_element("f", "Env.observation", NESTED, good | {"image": None})


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        (spaces.Discrete(2), torch.int64),
        (spaces.MultiBinary(2), torch.int8),
        (spaces.Box(0, 1, (1,), np.uint8), torch.uint8),
        (spaces.Box(0, 1, (1,), np.float32), torch.float32),
    ],
)
def test_dtypes_are_the_spaces(space, kind):
    assert dtype(space) == kind


@pytest.mark.parametrize("space", ACTIONS, ids=str)
def test_every_kind_of_action_space_is_known(space):
    check_space("f", "action_space", space, action=True)
