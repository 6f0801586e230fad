"""Convolutions against torch's own, with gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from funcrl import nets
from funcrl.core import jit, random
from funcrl.nets import convolution as convolutions
from funcrl.nets.convolution import cnn, convolution

KEY = random.key(0)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 4),
    st.sampled_from([1, 3, 5]), st.integers(1, 3), st.integers(0, 9),
)  # fmt: skip
def test_values_and_gradients_are_conv2ds(batch, height, width, inputs, outputs, size, stride, seed):
    x = draw(batch, inputs, height, width, seed=seed)
    weight, bias = draw(outputs, inputs, size, size, seed=seed + 10), draw(outputs, seed=seed + 20)
    ours = lambda x, w, b: convolution(x.movedim(1, -1), w, b, stride).movedim(-1, 1)
    theirs = lambda x, w, b: F.conv2d(x, w, b, stride=stride, padding=size // 2)
    found, pull = torch.func.vjp(ours, x, weight, bias)
    expected, pull_expected = torch.func.vjp(theirs, x, weight, bias)
    torch.testing.assert_close(found, expected)
    cotangent = draw(*expected.shape, seed=seed + 30)
    for gradient, reference in zip(pull(cotangent), pull_expected(cotangent), strict=True):
        torch.testing.assert_close(gradient, reference)


@pytest.fixture(params=[0, 2**17], ids=["grouped", "as products"], autouse=True)
def _which_way(request, monkeypatch):
    monkeypatch.setattr(convolutions, "LARGEST_ROWS", request.param)


def test_one_way_or_the_other_goes_by_how_much_there_is(monkeypatch):
    monkeypatch.undo()
    kinds = {}
    for batch in (16, 512):  # 16 · 64 · 27 numbers, and more than 2¹⁷
        arguments = torch.zeros(batch, 8, 8, 3), torch.zeros(4, 3, 3, 3), torch.zeros(4)
        graph = torch.fx.experimental.proxy_tensor.make_fx(lambda *x: convolution(*x, 1))(*arguments)
        kinds[batch] = {str(node.target) for node in graph.graph.nodes}
    assert ["aten.convolution.default" in kinds[batch] for batch in (16, 512)] == [False, True]


def test_one_patch_by_hand():
    x = torch.arange(1.0, 5.0).reshape(1, 2, 2, 1)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 0, 2] = 1.0  # what lies above and to the right
    assert convolution(x, weight, torch.ones(1), 1).flatten().tolist() == [1.0, 1.0, 3.0, 1.0]


def reference(params):
    """The same network of torch's own layers, with the same numbers."""
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=1, padding=1), nn.ReLU(),
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 3 * 3, 5), nn.ReLU(), nn.Linear(5, 6),
    )  # fmt: skip
    module.load_state_dict(dict(zip(module.state_dict(), params.values(), strict=True)))
    return module


def small():
    return cnn((2, 5, 6), (3, 4), (5,), 6, stride=(1, 2))


def test_the_network_is_that_of_torchs_layers():
    params = nets.init(small(), KEY)
    x = random.normal(KEY, (7, 2, 5, 6))
    torch.testing.assert_close(nets.apply(small(), params, x), reference(params)(x))


def test_layer_normalisation_is_over_the_channels_of_each_pixel():
    template = cnn((2, 5, 6), (3, 4), (5,), 6, stride=(1, 2), normalization="layer")
    params = {name: p + 0.1 for name, p in nets.init(template, KEY).items()}  # no gain 1, no offset 0
    first, bias, gain, offset, second, bias2, gain2, offset2, *head = params.values()
    w, b, gain3, offset3, last, last_bias = head
    x = random.normal(KEY, (7, 2, 5, 6))
    norm = lambda y, w, b: F.layer_norm(y.movedim(1, -1), y.shape[1:2], w, b).movedim(-1, 1).relu()
    y = norm(F.conv2d(x, first, bias, padding=1), gain, offset)
    y = norm(F.conv2d(y, second, bias2, stride=2, padding=1), gain2, offset2).flatten(1)
    y = F.layer_norm(F.linear(y, w, b), (5,), gain3, offset3).relu()
    torch.testing.assert_close(nets.apply(template, params, x), F.linear(y, last, last_bias))


def test_leading_axes_are_kept_and_integers_are_taken():
    params = nets.init(small(), KEY)
    apply = lambda x: nets.apply(small(), params, x)
    x = random.normal(KEY, (4, 3, 2, 5, 6))
    assert apply(x).shape == (4, 3, 6)
    torch.testing.assert_close(apply(x[1, 2]), apply(x)[1, 2])
    count = torch.arange(60, dtype=torch.uint8).reshape(2, 5, 6)
    torch.testing.assert_close(apply(count), apply(count.float()))


def assert_lanes_equal_a_loop(template, backend):
    """Gradients by weights, which each lane has of its own, and by images."""
    params = torch.vmap(lambda k: nets.init(template, k))(random.split(KEY, 3))
    x = random.normal(KEY, (3, 4, 2, 5, 6))
    gradient = torch.func.grad(lambda p, x: nets.apply(template, p, x).square().mean(), (0, 1))
    together, by_image = jit.jit(torch.vmap(gradient), backend=backend)(params, x)
    for lane in range(3):
        alone, image = gradient({name: p[lane] for name, p in params.items()}, x[lane])
        torch.testing.assert_close(by_image[lane], image)
        for name, value in alone.items():
            torch.testing.assert_close(together[name][lane], value)


def test_lanes_with_weights_of_their_own_equal_a_loop():
    assert_lanes_equal_a_loop(small(), "aot_eager")


# The rows of the first layer are 4 · 5 · 6 · 18 numbers, those of the second 4 · 3 · 3 · 27.
@pytest.mark.compiled
@pytest.mark.parametrize("_which_way", [1500], ids=["grouped, then as products"], indirect=True)
def test_lanes_with_weights_of_their_own_equal_a_loop_compiled_too():
    # A hidden layer after the convolutions is compiled by tests of perceptrons.
    assert_lanes_equal_a_loop(cnn((2, 5, 6), (3, 4), (), 6, stride=(1, 2)), "inductor")


def test_the_same_arguments_give_the_same_template():
    assert cnn((1, 8, 8), (4,), (5,), 2) is cnn([1, 8, 8], [4], [5], 2, stride=[2])
    assert cnn((1, 8, 8), (4,), (5,), 2) is not cnn((1, 8, 8), (4,), (5,), 2, stride=1)


def test_parameters_are_orthogonal_matrices_and_zeros():
    params = nets.init(cnn((2, 4, 4), (6,), (), 3, output_gain=0.5), KEY)
    kernel, bias, weight, last = params.values()
    torch.testing.assert_close(kernel.flatten(1) @ kernel.flatten(1).T, 2 * torch.eye(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(weight @ weight.T, 0.25 * torch.eye(3), atol=1e-5, rtol=0)
    assert not bias.any()
    assert not last.any()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((8, 8), (4,), (), 2), {}, "input_shape must be .channels, height, width., got .8, 8."),
        (((1, 8, 8), (), (), 2), {}, "channels must hold at least one"),
        (((1, 8, 8), (4, 0), (), 2), {}, "size of a layer must be at least 1, got 0"),
        (((1, 8, 8), (4,), (), 2), {"stride": (1, 1)}, "stride must be one integer or one for each of 1"),
        (((1, 8, 8), (4,), (), 2), {"stride": 0}, "stride must be at least 1, got 0"),
        (((1, 8, 8), (4,), (), 2), {"kernel_size": 2}, "kernel_size must be odd, got 2"),
        (((1, 8, 8), (4,), (), 2), {"activation": "rule"}, "Did you mean 'relu'"),
        (((1, 8, 8), (4,), (), 2), {"normalization": "batch"}, "normalization must be one of"),
    ],
)
def test_impossible_networks_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=f"nets.cnn: .*{message}"):
        cnn(*arguments, **options)
