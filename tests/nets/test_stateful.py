"""Batch normalisation, dropout and buffers as pure functions: nothing changes but what is returned."""

import copy

import pytest
import torch
from torch import nn

from funcrl import nets
from funcrl.core import random, tree

NORMALISED = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))
KEY = random.key(3)


def rows(seed=1, size=8):
    return random.normal(random.key(seed), (size, 3))


def test_running_moments_are_torchs_after_several_steps():
    network = nets.pure(NORMALISED)
    params, buffers = nets.begin(network, KEY)
    module = copy.deepcopy(NORMALISED)
    module.load_state_dict({**params, **{k: v for k, v in buffers.items() if k != "3.dropout_key"}})
    for seed in range(5):
        module(rows(seed))
        _, buffers = nets.run(network, params, buffers, rows(seed), train=True, key=KEY)
    for name, value in module[1].state_dict().items():
        if name.startswith(("running", "num")):
            assert torch.allclose(buffers[f"1.{name}"], value), name


def test_nothing_that_was_given_changes_and_use_keeps_buffers_as_they_are():
    network = nets.pure(NORMALISED)
    params, buffers = nets.begin(network, KEY)
    before = tree.map(torch.clone, (params, buffers))
    template = copy.deepcopy(NORMALISED.state_dict())
    _, after = nets.run(network, params, buffers, rows(), train=True, key=KEY)
    _, same = nets.run(network, params, after, rows(), train=False)
    for a, b in zip(tree.leaves(before), tree.leaves((params, buffers)), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(after["1.running_mean"], buffers["1.running_mean"])
    assert all(torch.equal(same[name], after[name]) for name in after)
    assert all(torch.equal(NORMALISED.state_dict()[name], value) for name, value in template.items())


def test_dropout_keeps_a_share_scales_it_and_draws_from_the_key_alone():
    network = nets.pure(nn.Dropout(0.25))
    params, buffers = nets.begin(network, KEY)
    x = torch.ones(20_000)
    state = torch.get_rng_state()
    first, after = nets.run(network, params, buffers, x, train=True, key=random.key(0))
    again, _ = nets.run(network, params, after, x, train=True, key=random.key(0))
    other, _ = nets.run(network, params, buffers, x, train=True, key=random.key(1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert set(first.tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert abs(float((first > 0).float().mean()) - 0.75) < 0.02
    assert torch.equal(nets.run(network, params, buffers, x, train=False)[0], x)


def test_two_dropouts_draw_apart_and_lanes_too():
    network = nets.pure(nn.Sequential(nn.Dropout(0.5), nn.Identity(), nn.Dropout(0.5)))
    params, buffers = nets.begin(network, KEY)
    x = torch.ones(1000)
    one, _ = nets.run(
        nets.pure(nn.Sequential(nn.Dropout(0.5))), {}, {"0.dropout_key": KEY}, x, train=True, key=KEY
    )
    both, _ = nets.run(network, params, buffers, x, train=True, key=KEY)
    assert 0.15 < float((both > 0).float().mean()) < 0.35  # a quarter; a half if they drew alike
    assert 0.4 < float((one > 0).float().mean()) < 0.6
    keys = random.split(KEY, 2)
    lanes, _ = torch.vmap(lambda key: nets.run(network, params, buffers, x, train=True, key=key))(keys)
    assert not torch.equal(lanes[0], lanes[1])


def test_without_a_key_dropout_is_refused():
    network = nets.pure(NORMALISED)
    with pytest.raises(
        ValueError, match=r"nets\.run: key must be given where there is dropout.*random\.key\(0\)"
    ):
        nets.run(network, *nets.begin(network, KEY), rows(), train=True)
    with pytest.raises(ValueError, match=r"p must lie in \[0, 1\)"):
        nets.Dropout(1.0)


class Tied(nn.Module):
    """An encoder whose transpose is the decoder."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(3, 3, bias=False)
        self.decoder = nn.Linear(3, 3, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x):
        return self.decoder(self.encoder(x))


def test_a_tied_parameter_is_one_leaf_with_one_gradient():
    network = nets.pure(Tied())
    params, buffers = nets.begin(network, KEY)
    assert list(params) == ["encoder.weight"]
    loss = lambda params: nets.run(network, params, buffers, rows(), train=True)[0].sum()
    (gradient,) = torch.func.grad(loss)(params).values()
    weight = params["encoder.weight"].clone().requires_grad_()
    (rows() @ weight.T @ weight.T).sum().backward()
    assert torch.allclose(gradient, weight.grad, atol=1e-5)


class Constants(nn.Module):
    """A block with numbers that are not trained, and a branch on the shape of what comes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("table", torch.tensor([1.0, -2.0, 3.0]))

    def forward(self, x):
        x = self.linear(x) * self.table
        while x.shape[-1] > 1:
            x = x[..., ::2]
        return x


def test_other_buffers_are_constants_and_a_forward_may_branch_on_shapes():
    module = Constants()
    network = nets.pure(module)
    params, buffers = nets.begin(network, KEY)
    module.load_state_dict({**params, **buffers})
    output, after = nets.run(network, params, buffers, rows(), train=True)
    assert torch.allclose(output, module(rows()))
    assert torch.equal(after["table"], module.table)
    with pytest.raises(ValueError, match=r"the buffer table must hold values, not only a shape"):
        nets.begin(nets.pure(Constants().to("meta")), KEY)


def test_sizes_are_found_by_running_on_the_meta_device():
    make = lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2))
    network = nets.images.shaped(make, (3, 5, 5))
    assert [tuple(p.shape) for p in network.parameters()] == [(4, 3, 3, 3), (4,), (2, 36), (2,)]
    params, _ = nets.begin(nets.pure(network), KEY)
    assert params["2.weight"].shape == (2, 36)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm1d(3, eps=0.1), (5, 3)),
        (nn.BatchNorm1d(3, momentum=None), (5, 3, 2)),
        (nn.BatchNorm2d(3, momentum=0.3, affine=False), (4, 3, 2, 2)),
        (nn.BatchNorm3d(3, track_running_stats=False), (2, 3, 2, 2, 2)),
    ],
)
def test_batch_normalisation_of_our_own_is_torchs(layer, shape):
    layer = copy.deepcopy(layer).double()
    network = nets.pure(layer)
    params, buffers = tree.map(lambda x: x.double() if x.is_floating_point() else x, nets.begin(network, KEY))
    for seed in range(3):
        x = random.normal(random.key(seed), shape).double() * 2 + seed
        y = x.clone().requires_grad_()
        expected = layer.train()(y)
        expected.pow(3).sum().backward()

        def loss(x, params, buffers=buffers):
            output, after = nets.run(network, params, buffers, x, train=True)
            return output.pow(3).sum(), (output, after)

        slope, (output, buffers) = torch.func.grad(loss, has_aux=True)(x, params)
        assert torch.allclose(slope, y.grad, atol=1e-10)
        assert torch.allclose(output, expected, atol=1e-10)
    for name, value in layer.state_dict().items():
        if name in buffers:
            assert torch.allclose(buffers[name], value), name
    assert torch.allclose(nets.run(network, params, buffers, x, train=False)[0], layer.eval()(x), atol=1e-10)
    if layer.track_running_stats:
        with pytest.raises(ValueError, match=r"BatchNorm: input must be \[B, 3, \.\.\.\], got"):
            nets.run(network, params, buffers, torch.ones(2, 4), train=False)


@pytest.mark.parametrize(
    "layer", [nn.AvgPool2d(2), nn.AvgPool2d((3, 2)), nn.AvgPool2d(3, 2), nn.AvgPool2d(2, padding=1)]
)
def test_averages_of_tiles_are_torchs_with_their_gradients(layer):
    network = nets.pure(nn.Sequential(layer))
    x = random.normal(KEY, (2, 3, 7, 8)).double()
    average = lambda x: nets.run(network, {}, {}, x, train=True)[0]
    assert torch.allclose(average(x), layer(x), atol=1e-12)
    slopes = [torch.func.grad(lambda x, f=f: f(x).pow(2).sum())(x) for f in (average, layer)]
    assert torch.allclose(*slopes, atol=1e-12)
    tiles = layer.kernel_size == layer.stride and layer.padding == 0
    assert isinstance(network.training[0], nets.layers.TilesAverage) == tiles
    if tiles:
        with pytest.raises(ValueError, match=r"AvgPool2d: input must be at least \d x 2, got"):
            average(x[..., :1])


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return torch.stack([self.drop(x), self.drop(x)])


def test_a_dropout_that_is_called_twice_draws_twice_and_what_is_shared_draws_from_keys():
    x = torch.ones(2000)
    for network, size in ((Twice(), 0.5), (nn.Sequential(*[nn.Dropout(0.5)] * 2), 0.25)):
        network = nets.pure(network)
        params, buffers = nets.begin(network, KEY)
        first, after = nets.run(network, params, buffers, x, train=True, key=KEY)
        again, _ = nets.run(network, params, after, x, train=True, key=KEY)
        assert torch.equal(first, again)
        assert abs(float((first > 0).float().mean()) - size) < 0.05
        assert len(first) == 2000 or not torch.equal(first[0], first[1])
        assert all(torch.equal(after[name], buffers[name]) for name in buffers)


def test_a_normalisation_that_is_shared_stays_one_and_has_no_offset_where_torchs_has_none():
    shared = nn.BatchNorm1d(3)
    shared.register_parameter("bias", None)  # torch before 2.13 has no `bias=False` for it
    network = nn.Sequential(shared, nn.Tanh(), shared)
    pure = nets.pure(network)
    params, buffers = nets.begin(pure, KEY)
    assert list(params) == ["0.weight"]
    module = copy.deepcopy(network)
    for seed in range(3):
        theirs = module(rows(seed))
        ours, buffers = nets.run(pure, params, buffers, rows(seed), train=True)
        torch.testing.assert_close(ours, theirs)
    assert int(buffers["0.num_batches_tracked"]) == 6
    torch.testing.assert_close(buffers["0.running_var"], module[0].running_var)
    tied = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    tied[1].weight = tied[0].weight
    assert sorted(nets.begin(nets.pure(tied), KEY)[0]) == ["0.bias", "0.weight", "1.bias"]


def test_a_network_that_was_changed_is_another_one():
    network = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    first = nets.pure(network)
    assert nets.pure(network) is first
    network[1] = nn.Linear(3, 2)
    assert sorted(nets.begin(nets.pure(network), KEY)[0]) == ["0.bias", "0.weight", "1.bias", "1.weight"]
    network[0].requires_grad_(False)
    assert not nets.pure(network).training[0].weight.requires_grad


def test_one_row_is_too_few_to_learn_moments_from():
    network = nets.pure(nn.BatchNorm1d(3))
    params, buffers = nets.begin(network, KEY)
    with pytest.raises(
        ValueError, match=r"BatchNorm: input must have two numbers a channel .* nn\.LayerNorm"
    ):
        nets.run(network, params, buffers, rows(size=1), train=True)
    nets.run(network, params, buffers, rows(size=1), train=False)


class Computed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.doubled = self.linear.weight * 2


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            nn.Sequential(nn.LazyLinear(3)),
            r"know the sizes of its layers, got '0 \(LazyLinear\)'\. Write nets\.images\.shaped",
        ),
        (
            nn.Sequential(nn.Embedding(4, 3, max_norm=1.0)),
            r"leave its parameters as they are while it runs, got 'max_norm in 0 \(Embedding\)'\. Leave max_norm out",
        ),
        (Computed(), r"must be one that copy\.deepcopy copies, got an error: .* without weight_norm"),
    ],
)
def test_layers_that_cannot_be_pure_are_refused_by_name(network, message):
    with pytest.raises(ValueError, match=message):
        nets.pure(network)
