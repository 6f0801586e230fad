"""Networks are pure functions of parameters that are drawn from keys."""

import functools
import math
import warnings

import pytest
import torch
from gymnasium import spaces
from torch import nn

from funcrl import nets
from funcrl.core import jit, random
from funcrl.nets import initialisers

KEY = random.key(0)


def test_apply_equals_the_torch_module():
    template = nets.mlp((3,), (5, 4), 2, activation="relu")
    params = nets.init(template, KEY)
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    module.load_state_dict({name.removeprefix("layers."): p for name, p in params.items()})
    x = random.normal(KEY, (6, 3))
    assert torch.allclose(nets.apply(template, params, x), module(x))


def test_images_are_flattened_and_batches_are_not():
    template = nets.mlp((2, 3), (4,), 1)
    params = nets.init(template, KEY)
    assert nets.apply(template, params, torch.ones(2, 3)).shape == (1,)
    assert nets.apply(template, params, torch.ones(7, 5, 2, 3)).shape == (7, 5, 1)


def test_the_same_arguments_give_the_same_template():
    assert nets.mlp((3,), (4,), 1) is nets.mlp((3,), [4], 1)
    assert nets.mlp((3,), (4,), 1) is not nets.mlp((3,), (5,), 1)


def test_parameters_depend_on_the_key_alone():
    template = nets.mlp((3,), (4,), 1)
    first, again, other = (nets.init(template, random.key(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])
    lanes = torch.vmap(lambda k: nets.init(template, k))(torch.stack([random.key(1), random.key(2)]))
    assert torch.allclose(lanes["layers.0.weight"][0], first["layers.0.weight"], atol=1e-6)


def test_orthogonal_weights_are_orthogonal_with_their_gain():
    weight = nets.init(nets.mlp((4,), (64, 64), 2, output_gain=0.01), KEY)
    hidden = weight["layers.2.weight"]
    assert torch.allclose(hidden @ hidden.T, 2.0 * torch.eye(64), atol=1e-4)
    last = weight["layers.4.weight"]
    assert torch.allclose(last @ last.T, 1e-4 * torch.eye(2), atol=1e-7)
    assert not weight["layers.0.bias"].any()


def test_orthogonal_weights_favour_no_direction():
    """Without the rule of signs a QR decomposition returns some orthogonal matrices and never others."""
    keys = random.split(KEY, 400)
    single = torch.vmap(lambda k: initialisers.orthogonal()(k, (1, 1)))(keys)
    assert 140 < int((single > 0).sum()) < 260
    square = torch.vmap(lambda k: initialisers.orthogonal()(k, (3, 3)))(keys)
    assert square.mean(dim=0).abs().max() < 0.12


@pytest.mark.parametrize(
    ("ours", "std"),
    [
        (initialisers.normal(0.5), 0.5),
        (initialisers.uniform(0.3), 0.3 / math.sqrt(3)),
        (initialisers.xavier_normal(), math.sqrt(2 / (200 + 300))),
        (initialisers.xavier_uniform(), math.sqrt(2 / (200 + 300))),
        (initialisers.kaiming_normal(), math.sqrt(2 / 200)),
        (initialisers.kaiming_uniform(), math.sqrt(2 / 200)),
    ],
)
def test_spreads_are_those_of_the_papers(ours, std):
    weight = ours(KEY, (300, 200))
    assert float(weight.std()) == pytest.approx(std, rel=0.02)
    assert abs(float(weight.mean())) < 0.02 * std


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (initialisers.xavier_uniform(), nn.init.xavier_uniform_),
        (initialisers.kaiming_uniform(), lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu")),
    ],
)
def test_bounds_are_torchs_for_convolutions_too(ours, theirs):
    reference = theirs(torch.empty(40, 30, 3, 3)).abs().max()
    assert float(ours(KEY, (40, 30, 3, 3)).abs().max()) == pytest.approx(float(reference), rel=1e-3)


def test_an_own_module_keeps_torchs_spread_and_its_template_untouched():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(100, 50)
            self.norm = nn.LayerNorm(50)
            self.last = nn.Linear(50, 2, bias=False)

        def forward(self, x):
            return self.last(self.norm(self.first(x)).relu())

    own = Own()
    before = {name: p.clone() for name, p in own.named_parameters()}
    params = nets.init(own, KEY)
    assert params["first.weight"].abs().max() <= 0.1
    assert float(params["first.weight"].std()) == pytest.approx(0.1 / math.sqrt(3), rel=0.05)
    assert params["first.bias"].abs().max() <= 0.1
    assert (params["norm.weight"] == 1).all()
    assert (params["norm.bias"] == 0).all()
    nets.apply(own, params, torch.ones(3, 100))
    assert all(torch.equal(before[name], p) for name, p in own.named_parameters())


def test_an_own_initialiser_is_used():
    layer = nn.Linear(3, 2)
    layer.initialisers = {"weight": initialisers.constant(7.0)}
    assert (nets.init(layer, KEY)["weight"] == 7.0).all()


def test_buffers_are_refused():
    with pytest.raises(ValueError, match=r"nets\.init: network must have no buffers"):
        nets.init(nn.BatchNorm1d(3), KEY)


def test_layer_normalisation_comes_before_each_activation_and_not_last():
    template = nets.mlp((3,), (5, 4), 2, activation="relu", normalization="layer")
    params = nets.init(template, KEY)
    module = nn.Sequential(
        nn.Linear(3, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 4), nn.LayerNorm(4), nn.ReLU(),
        nn.Linear(4, 2),
    )  # fmt: skip
    params = {name: p + 0.1 for name, p in params.items()}  # so that no gain is 1 and no offset 0
    module.load_state_dict({name.removeprefix("layers."): p for name, p in params.items()})
    x = random.normal(KEY, (6, 3))
    assert torch.allclose(nets.apply(template, params, x), module(x), atol=1e-6)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.compiled)])
def test_normalised_lanes_equal_a_loop_compiled_too(backend):
    # A second hidden layer is the same code again.
    template = nets.mlp((3,), (5, 4) if backend == "aot_eager" else (5,), 2, normalization="layer")
    params = torch.vmap(lambda k: nets.init(template, k))(random.split(KEY, 3))
    x = random.normal(KEY, (3, 7, 3))
    gradient = torch.func.grad(lambda p, x: nets.apply(template, p, x).square().mean())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eager = torch.vmap(gradient)(params, x)
    together = jit.jit(torch.vmap(gradient), backend=backend)(params, x)
    for lane in range(3):
        alone = gradient({name: p[lane] for name, p in params.items()}, x[lane])
        for name, value in alone.items():
            torch.testing.assert_close(eager[name][lane], value)
            torch.testing.assert_close(together[name][lane], value)


def test_without_normalisation_nothing_has_changed():
    assert nets.mlp((3,), (4,), 1) is nets.mlp((3,), (4,), 1, normalization="none")
    assert nets.mlp((3,), (4,), 1) is not nets.mlp((3,), (4,), 1, normalization="layer")


def test_unknown_normalisations_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'layer'"):
        nets.mlp((3,), (4,), 1, normalization="layers")


def test_the_network_for_observations_follows_their_shape():
    options = {"activation": "tanh", "normalization": "layer", "hidden_gain": 1.5, "output_gain": 0.5}
    for_observations = functools.partial(nets.for_observations, **options)
    image, vector = (3, 8, 6), (7,)
    box = lambda shape: spaces.Box(0, 1, shape)
    assert for_observations(box(image), (4, 5), (6,), 2, stride=1) is nets.cnn(
        image, (4, 5), (6,), 2, stride=1, **options
    )
    assert for_observations(box(image), (), (6,), 2) is nets.mlp(image, (6,), 2, **options)
    assert for_observations(box(vector), (4, 5), (6,), 2) is nets.mlp(vector, (6,), 2, **options)


def test_unknown_activations_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'tanh'"):
        nets.mlp((3,), (4,), 1, activation="tan")


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="size of a layer"):
        nets.mlp((3,), (0,), 1)
