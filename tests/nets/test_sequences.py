"""Networks that read a sequence against the same thing built of torch's own cells."""

import pytest
import torch
from torch import nn

from funcrl import nets
from funcrl.core import random, tree
from funcrl.nets.recurrent import CELLS

KINDS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
INPUTS = {
    "sequence": ((5, 6), lambda x: x),
    "image": ((2, 5, 3), lambda x: torch.cat([x[:, 0], x[:, 1]], dim=-1)),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("kind", INPUTS)
def test_a_lane_and_its_gradients_are_torchs_last_output_and_a_linear_layer(name, kind):
    shape, rows_of = INPUTS[kind]
    network = nets.reader(shape, 3, cell=name, width=4)
    assert network is nets.reader(shape, 3, cell=name, width=4)
    params = torch.vmap(lambda key: nets.init(network, key))(random.split(random.key(0), 2))
    params = tree.map(lambda p: p.double() + 0.1 * random.normal(random.key(1), p.shape), params)
    x = random.normal(random.key(2), (2, 7, *shape)).double()
    weight = random.normal(random.key(3), (7, 3)).double()

    def loss(params, x):
        output = nets.apply(network, params, x)
        return (output * weight).sum(), output

    grads, output = torch.vmap(torch.func.grad(loss, has_aux=True))(params, x)
    for lane in range(2):
        cell = KINDS[name](6, 4, batch_first=True, dtype=torch.float64)
        head = nn.Linear(4, 3, dtype=torch.float64)
        own = tree.index(params, lane)
        cell.load_state_dict(
            {f"{key}_l0": own[f"cell.{key}"] for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        )
        head.load_state_dict({key: own[f"head.{key}"] for key in ("weight", "bias")})
        expected = head(cell(rows_of(x[lane]))[0][:, -1])
        assert torch.allclose(output[lane], expected)
        (expected * weight).sum().backward()
        found = tree.index(grads, lane)
        for key, value in (*cell.named_parameters("cell"), *head.named_parameters("head")):
            assert torch.allclose(found[key.removesuffix("_l0")], value.grad), key


def test_bytes_are_read_and_any_length():
    network = nets.reader((1, 4, 4), 2, cell="gru", width=3)
    params = nets.init(network, random.key(0))
    x = torch.arange(32).reshape(2, 1, 4, 4)
    assert torch.equal(nets.apply(network, params, x.to(torch.uint8)), nets.apply(network, params, x.float()))
    assert nets.apply(network, params, torch.zeros(2, 9, 4)).shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (
            ((28,), 10),
            {},
            r"input_shape must be \(length, features\) or \(channels, height, width\), got \(28,\)",
        ),
        (((4, 0), 10), {}, "input_shape must be at least 1"),
        (((4, 4), 0), {}, "output_size must be at least 1"),
        (((4, 4), 2), {"width": 0}, "width must be at least 1"),
        (((4, 4), 2), {"cell": "gruu"}, "cell must be one of 'gru', 'lstm', 'rnn', got 'gruu'"),
    ],
)
def test_what_cannot_be_is_refused(arguments, settings, message):
    with pytest.raises(ValueError, match=rf"nets\.reader: {message}"):
        nets.reader(*arguments, **settings)
