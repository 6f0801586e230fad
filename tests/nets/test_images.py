"""Networks for images: sizes as published, and every lane what the same module computes the ordinary torch way."""

import copy
import functools

import pytest
import torch
from torch import nn

from funcrl import nets
from funcrl.core import random, tree
from funcrl.nets import images

SMALL = {
    "lenet": images.lenet((1, 12, 12), 3),
    "alexnet": images.alexnet((3, 63, 63), 3, width=4),
    "vgg11": images.vgg11((3, 32, 32), 3, width=2),
    "nin": images.nin((3, 67, 67), 3, width=4),
    "googlenet": images.googlenet((3, 20, 20), 3, width=4),
    "resnet18": images.resnet18((3, 16, 16), 3, width=4),
    "resnet18, small": images.resnet18((3, 8, 8), 3, width=4, small=True),
    "densenet": images.densenet((3, 29, 29), 3, width=4, layers=(2, 2, 1, 1)),
}
LANES, BATCH = 2, 4

each = pytest.mark.parametrize("name", SMALL)


def lanes_of(network, shape):
    keys = torch.stack([random.key(seed) for seed in range(LANES)])
    params, buffers = torch.vmap(lambda key: nets.begin(network, key))(keys)
    x = random.normal(random.key(9), (LANES, BATCH, *shape))
    # Batch normalisation of so few values makes differences large; in float64 none are left.
    double = lambda leaf: leaf.double() if leaf.is_floating_point() else leaf
    return tree.map(double, (params, buffers, x))


def shape_of(name):
    side = {
        "lenet": 12,
        "alexnet": 63,
        "vgg11": 32,
        "nin": 67,
        "googlenet": 20,
        "resnet18": 16,
        "resnet18, small": 8,
    }
    return (1 if name == "lenet" else 3, *[side.get(name, 29)] * 2)


def ordinary(network, params, buffers):
    """The module with these numbers, as torch runs it, without dropout."""
    module = copy.deepcopy(network).to_empty(device="cpu").double()
    for child in module.modules():
        if isinstance(child, nn.Dropout):
            child.p = 0.0
    kept = {name: buffer for name, buffer in buffers.items() if not name.endswith("key")}
    module.load_state_dict({**params, **kept}, strict=True)
    return module


@pytest.mark.parametrize(
    ("build", "count"),
    [
        # LeCun et al. 1998 count 60,000 with fewer connections; the others are those that torchvision publishes.
        (images.lenet, 61_706),
        (images.alexnet, 61_100_840),
        (images.vgg11, 132_863_336),
        (images.nin, 7_439_608),
        (images.googlenet, 6_998_552),
        (images.resnet18, 11_689_512),
        (images.densenet, 7_978_856),
    ],
)
def test_parameters_are_as_many_as_published(build, count):
    assert sum(parameter.numel() for parameter in build().parameters()) == count


@each
def test_a_lane_is_the_ordinary_module_in_training_and_in_use(name):
    network = nets.pure(copy.deepcopy(SMALL[name]))
    for module in network.training.modules():
        if isinstance(module, nets.Dropout):
            module.p = 0.0
    params, buffers, x = lanes_of(network, shape_of(name))

    def loss(params, buffers, x):
        output, after = nets.run(network, params, buffers, x, train=True, key=random.key(0))
        return output.square().sum(), after

    grads, after = torch.vmap(torch.func.grad(loss, has_aux=True))(params, buffers, x)
    used = torch.vmap(lambda *given: nets.run(network, *given, train=False)[0])(params, after, x)
    for lane in range(LANES):
        own = tree.index((params, buffers, x, grads, after, used), lane)
        module = ordinary(SMALL[name], *own[:2])
        module(own[2]).square().sum().backward()
        for path, parameter in module.named_parameters():
            assert torch.allclose(own[3][path], parameter.grad, rtol=1e-6, atol=1e-9), path
        for path, buffer in module.named_buffers():
            assert torch.allclose(own[4][path], buffer), path
        assert torch.allclose(module.eval()(own[2]), own[5], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("build", "shape", "least"),
    [
        (images.lenet, (1, 8, 8), 12),
        (images.alexnet, (3, 32, 32), 63),
        (images.vgg11, (3, 28, 28), 32),
        (images.nin, (3, 64, 64), 67),
        # Few layers, for the least size is found by building networks.
        (functools.partial(images.densenet, layers=(2, 2, 1, 1)), (3, 28, 28), 29),
    ],
)
def test_images_that_are_too_small_are_refused_with_the_smallest_size(build, shape, least):
    with pytest.raises(ValueError, match=f"input_shape must be at least {least} x {least} pixels"):
        build(shape)
    build((shape[0], least, least), width=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((28, 28),), r"input_shape must be \(channels, height, width\)"),
        (((1, 28, 0),), "input_shape must be"),
        (((1, 28, 28), 0), "num_classes must be"),
        (((1, 28, 28), 10, 0), "width must be"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    *places, width = (*arguments, 6) if len(arguments) < 3 else arguments
    with pytest.raises(ValueError, match=message):
        images.lenet(*places, width=width)


def test_the_same_arguments_give_the_same_network():
    assert images.resnet18((3, 8, 8), width=4) is images.resnet18((3, 8, 8), width=4)
    assert nets.pure(SMALL["lenet"]) is nets.pure(SMALL["lenet"])
