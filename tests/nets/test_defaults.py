"""What parameters begin with: what torch gives its layers, from a key; what a person wrote, where that is one value."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from funcrl import nets
from funcrl.core import random

LAYERS = {
    "linear": nn.Linear(40, 50),
    "convolution": nn.Conv2d(6, 30, 3),
    "transposed convolution": nn.ConvTranspose2d(30, 60, 3),
    "bilinear": nn.Bilinear(20, 30, 16),
    "embedding": nn.Embedding(60, 30, padding_idx=-2),
    "bag": nn.EmbeddingBag(60, 30),
    "cell": nn.GRUCell(20, 30),
    "lstm": nn.LSTM(20, 30),
    "attention": nn.MultiheadAttention(32, 4),
    "attention to others": nn.MultiheadAttention(32, 4, kdim=20, vdim=24),
    "layer norm of axes": nn.LayerNorm([4, 8, 8]),
    "rms norm": nn.RMSNorm([4, 8]),
    "group norm": nn.GroupNorm(2, 8),
    "batch norm": nn.BatchNorm2d(8),
    "prelu": nn.PReLU(3),
}


@pytest.mark.parametrize("name", LAYERS)
def test_torchs_layers_begin_as_torch_begins_them(name):
    layer = LAYERS[name]
    params = nets.begin(nets.pure(layer), random.key(7))[0]
    assert params.keys() == dict(layer.named_parameters()).keys()
    for path, theirs in layer.named_parameters():
        ours = params[path]
        if bool((theirs == theirs.flatten()[0]).all()):
            assert torch.equal(ours, theirs.detach()), path
            continue
        # Drawn: as wide, of the same kind (three standard deviations of a normal one are beyond a uniform one's end).
        assert float(ours.std() / theirs.std()) == pytest.approx(1.0, abs=0.3), path
        assert float(ours.abs().max() / theirs.abs().max()) == pytest.approx(1.0, abs=0.3), path
        assert torch.equal(ours == 0, theirs == 0), path


def test_a_uniform_draw_reaches_its_bound_and_no_further():
    weight = nets.init(nn.Bilinear(20, 30, 64), random.key(0))["weight"]
    bound = 1 / math.sqrt(20)
    assert 0.99 * bound < float(weight.abs().max()) <= bound


class Scaled(nn.Module):
    def __init__(self, **values):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        for name, value in values.items():
            setattr(self, name, nn.Parameter(value))


def test_a_persons_own_parameter_begins_with_the_one_value_that_it_has():
    network = Scaled(gain=torch.ones(4), temperature=torch.tensor(2.5), place=torch.zeros(1, 5, 6))
    drawn = torch.vmap(lambda key: nets.init(network, key))(random.split(random.key(0), 3))
    assert torch.equal(drawn["gain"], torch.ones(3, 4))
    assert torch.equal(drawn["temperature"], torch.full((3,), 2.5))
    assert torch.equal(drawn["place"], torch.zeros(3, 1, 5, 6))
    assert len(drawn["linear.weight"].unique()) == 18


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            Scaled(place=torch.randn(5, 6)),
            r"the parameter place must have an initialiser, or begin with one value everywhere, got 'several values'\. "
            r'Write self\.initialisers = \{"place": nets\.initialisers\.normal\(0\.02\)\} in its module\.',
        ),
        (
            Scaled(place=torch.empty(2, device="meta")),
            r"the parameter place must have an init.* got 'no value'",
        ),
        (
            Scaled(wave=torch.ones(2, dtype=torch.complex64)),
            r"the parameter wave must be real, got torch\.complex64",
        ),
        (
            parametrizations.weight_norm(nn.Linear(3, 4)),
            r"the parameter parametrizations\.weight\.original0 must",
        ),
    ],
)
def test_where_nobody_knows_what_it_begins_with_it_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        nets.init(network, random.key(0))


def test_an_initialiser_of_its_own_comes_first():
    network = Scaled(place=torch.randn(5, 6))
    network.initialisers = {"place": nets.initialisers.normal(2.0)}
    assert 1.0 < float(nets.init(network, random.key(0))["place"].std()) < 3.0
