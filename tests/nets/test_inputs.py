"""What networks see of observations: the layout of Gymnasium's flattening, images in their own place."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from funcrl import nets
from funcrl.core import random, tree
from funcrl.nets import inputs

SPACES = [
    spaces.Discrete(4, start=-1),
    spaces.MultiDiscrete([[3, 4], [2, 2]]),
    spaces.MultiBinary((2, 3)),
    spaces.Box(-1, 1, (2, 3), np.float32),
    spaces.Dict(b=spaces.Discrete(3), a=spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.MultiBinary(2)))),
]


def tensors(space, value):
    if isinstance(space, spaces.Dict):
        return {name: tensors(own, value[name]) for name, own in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(tensors(own, part) for own, part in zip(space.spaces, value, strict=True))
    return torch.as_tensor(np.asarray(value))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_row_is_gymnasiums_flattening_for_one_and_for_many(space):
    space.seed(0)
    own, samples = inputs.parts(space), [space.sample() for _ in range(6)]
    rows = [inputs.row(own, tensors(space, sample)) for sample in samples]
    for row, sample in zip(rows, samples, strict=True):
        assert row.tolist() == pytest.approx(spaces.flatten(space, sample).tolist())
    together = tree.stack([tensors(space, sample) for sample in samples])
    assert torch.equal(inputs.row(own, together), torch.stack(rows))
    assert torch.equal(torch.vmap(lambda obs: inputs.row(own, obs))(together), torch.stack(rows))


def test_bytes_become_numbers_between_0_and_1():
    (part,) = inputs.parts(spaces.Box(0, 255, (3,), np.uint8))
    given = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert part.encode(given).tolist() == pytest.approx([0.0, 0.2, 1.0])
    (part,) = inputs.parts(spaces.Box(2, 6, (2,), np.uint8))
    assert part.encode(torch.tensor([2, 5], dtype=torch.uint8)).tolist() == [0.0, 0.75]
    (part,) = inputs.parts(spaces.Box(-3, 300, (2,), np.float32))
    assert part.encode(torch.tensor([2.0, 255.0])).tolist() == [2.0, 255.0]


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((84, 84, 3), (3, 84, 84)),
        ((3, 84, 84), (3, 84, 84)),
        ((84, 84, 1), (1, 84, 84)),
        ((210, 160, 3), (3, 210, 160)),
        ((4, 84, 80), (4, 84, 80)),
        ((16, 8, 8), (16, 8, 8)),
        ((10, 10, 16), (16, 10, 10)),
        ((9, 8), (1, 9, 8)),
    ],
)
def test_images_have_their_channels_in_front_whatever_the_order(shape, found):
    (part,) = inputs.parts(spaces.Box(0, 255, shape, np.uint8))
    assert part.size == found
    picture = torch.arange(np.prod(shape)).reshape(shape).to(torch.uint8)
    expected = picture.reshape(found) if part.size == shape or len(shape) == 2 else picture.movedim(-1, 0)
    assert torch.allclose(part.encode(picture), expected / 255)


def test_small_arrays_of_bytes_and_matrices_of_floats_are_no_images():
    for box in (
        spaces.Box(0, 255, (4, 4, 3), np.uint8),
        spaces.Box(0, 255, (20,), np.uint8),
        spaces.Box(0, 1, (20, 20)),
    ):
        assert isinstance(inputs.parts(box)[0], inputs.Numbers)
    assert isinstance(inputs.parts(spaces.Box(0, 1, (20, 20, 3)), images=False)[0], inputs.Numbers)


def test_a_network_sees_the_same_whatever_the_order_of_the_axes():
    build = lambda shape: nets.for_observations(spaces.Box(0, 255, shape, np.uint8), (4,), (8,), 2)
    first, last = build((3, 9, 8)), build((9, 8, 3))
    params = nets.init(first, random.key(0))
    picture = (random.uniform(random.key(1), (5, 3, 9, 8)) * 255).to(torch.uint8)
    found = [nets.apply(first, params, picture), nets.apply(last, params, picture.movedim(1, -1))]
    assert torch.equal(*found)


def test_parts_stand_beside_each_other_and_all_of_them_matter():
    space = spaces.Dict(
        place=spaces.Discrete(3),
        picture=spaces.Box(0, 255, (9, 9, 3), np.uint8),
        speed=spaces.Box(-1, 1, (2,)),
    )
    network = nets.for_observations(space, (4,), (8,), 2)
    assert network is nets.for_observations(space, (4,), (8,), 2)
    params = nets.init(network, random.key(0))
    obs = inputs.example(space, (7,))
    usual = nets.apply(network, params, obs)
    assert usual.shape == (7, 2)
    for name, part in obs.items():
        other = nets.apply(network, params, obs | {name: part + 1})
        assert not torch.allclose(other, usual), name
    one = nets.apply(network, params, tree.index(obs, 0))
    assert torch.allclose(one, usual[0], atol=1e-6)
