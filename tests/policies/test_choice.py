"""Which distribution an action space gets."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from funcrl import policies
from funcrl.core import random, tree

BOX = spaces.Box(np.array([-1, 0], np.float32), np.array([1, 1000], np.float32))
FREE = spaces.Box(-np.inf, np.inf, (2, 3), np.float32)
SPACES = [
    spaces.Discrete(4),
    spaces.Discrete(4, start=-2),
    spaces.MultiDiscrete([3, 3], start=[0, 7]),
    spaces.MultiDiscrete([2, 4, 3]),
    spaces.MultiDiscrete([[2, 4], [3, 1]], start=[[1, 2], [3, 4]]),
    spaces.MultiBinary(5),
    spaces.MultiBinary((2, 3)),
    FREE,
    spaces.Box(-np.inf, np.inf, (), np.float32),
    spaces.Tuple([spaces.Discrete(2), FREE]),
    spaces.Dict({"b": FREE, "a": spaces.Tuple([spaces.MultiBinary(2), FREE])}),
]
CPU = torch.device("cpu")


def head_of(space, **given):
    return policies.for_space("test", space, **given)


def distribution(space, *lead, seed=0, **given):
    head = head_of(space, **given)
    outputs = random.normal(random.key(seed), (*lead, head.num_outputs))
    return head.distribution(outputs, head.parameters(CPU))


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_samples_and_modes_lie_in_the_space(space):
    p = distribution(space, 50)
    action = p.sample(random.key(1))
    assert p.log_prob(action).shape == p.entropy().shape == p.kl(p).shape == (50,)
    for chosen in (action, p.mode()):
        for i in range(50):
            one = tree.map(lambda x, i=i: x[i].numpy(), chosen)
            assert space.contains(one), one
    alone = distribution(space)
    assert alone.log_prob(alone.sample(random.key(2))).shape == ()


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_heads_are_static_and_equal_for_equal_spaces(space):
    head = head_of(space)
    assert head == head_of(space)
    assert hash(head) == hash(head_of(space))


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_lanes_equal_a_loop_and_none_falls_back(space):
    head = head_of(space)
    outputs = random.normal(random.key(0), (3, 2, head.num_outputs))
    keys = random.split(random.key(1), 3)

    def lane(outputs, key):
        p = head.distribution(outputs, head.parameters(CPU))
        action = p.sample(key)
        return action, p.mode(), p.log_prob(action), p.entropy()

    together = torch.vmap(lane)(outputs, keys)
    for i in range(3):
        alone = lane(outputs[i], keys[i])
        for x, y in zip(tree.leaves(tree.index(together, i)), tree.leaves(alone), strict=True):
            assert torch.allclose(x, y)


def test_choices_of_different_sizes_are_those_of_each():
    p = distribution(spaces.MultiDiscrete([2, 4, 3]), 6)
    outputs = random.normal(random.key(0), (6, 9))
    singles = [policies.Categorical(part) for part in torch.split(outputs, [2, 4, 3], dim=-1)]
    action = p.sample(random.key(1))
    expected = sum(one.log_prob(action[:, i]) for i, one in enumerate(singles))
    assert torch.allclose(p.log_prob(action), expected)
    assert torch.allclose(p.entropy(), sum(one.entropy() for one in singles))
    assert torch.equal(p.mode(), torch.stack([one.mode() for one in singles], -1))
    head = head_of(spaces.MultiDiscrete([2, 4, 3]))
    slope = torch.func.grad(lambda x: head.distribution(x, {}).entropy().sum())(outputs)
    assert slope.isfinite().all()


def test_bounded_dimensions_are_scaled_each_by_itself():
    head = head_of(BOX)
    outputs, parameters = torch.tensor([[0.5, 0.5]]), {"log_std": torch.tensor([0.0, -1.0])}
    p = head.distribution(outputs, parameters)
    assert p.mode().tolist() == [[0.5, 750.0]]
    assert torch.allclose(p.log_std.exp(), torch.tensor([[1.0, 500.0 / np.e]]))
    half = spaces.Box(np.array([0, 0], np.float32), np.array([np.inf, 4], np.float32))
    assert head_of(half).distribution(outputs, parameters).mode().tolist() == [[0.5, 3.0]]


def test_squashed_normals_stay_within_the_bounds():
    head = head_of(BOX, box=policies.Squashed)
    assert head.num_outputs == 4
    p = head.distribution(torch.tensor([[0.0, 0.0, -100.0, 100.0]]).expand(1000, 4), {})
    assert p.log_std[0].tolist() == [-20.0, 2.0]
    action = p.sample(random.key(0))
    assert all(BOX.contains(row) for row in action.numpy())
    assert action[:, 1].max() > 990


def test_the_spread_is_a_parameter_and_has_its_parts_name():
    assert head_of(spaces.Discrete(3)).parameters(CPU) == {}
    assert {n: tuple(x.shape) for n, x in head_of(FREE).parameters(CPU).items()} == {"log_std": (6,)}
    nested = head_of(SPACES[-1]).parameters(CPU)
    assert sorted(nested) == ["a.1.log_std", "b.log_std"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Text(3), "be Discrete, MultiDiscrete, MultiBinary, a Box of floats"),
        (spaces.Box(0, 3, (2,), np.int64), "a Box of floats"),
        (spaces.Tuple([spaces.Discrete(2), spaces.Text(3)]), "a Box of floats"),
        (spaces.Tuple([]), "have at least one part"),
        (spaces.Dict({"a.b": spaces.Discrete(2)}), "be strings without a dot, got 'a.b'"),
        (spaces.Box(0, 0, (1,), np.float32), "have low < high"),
    ],
)
def test_other_spaces_are_refused(space, message):
    with pytest.raises(ValueError, match=rf"sac\.init: .*env\.action_space must .*{message}"):
        policies.for_space("sac.init", space)


def test_squashing_needs_bounds():
    with pytest.raises(ValueError, match="must be bounded on both sides"):
        head_of(FREE, box=policies.Squashed)


def test_a_spread_of_each_observations_own_counts_in_half_widths():
    box = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))
    head = policies.for_space("test", box, policies.GaussianOfState)
    assert head.num_outputs == 4
    found = head.distribution(torch.tensor([[0.5, -1.0, 0.0, 1.0]]), head.parameters(torch.device("cpu")))
    assert found.mean.tolist() == [[1.0, 0.0]]
    assert torch.allclose(found.log_std.exp(), torch.tensor([[2.0, 0.5 * math.e]]))
    extreme = head.distribution(torch.tensor([0.0, 0.0, 1e9, -1e9]), {})
    assert extreme.log_prob(extreme.mode()).isfinite()
