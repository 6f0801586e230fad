"""Numbers of torch's models in and out, strictly."""

import copy

import pytest
import torch
from torch import nn

from funcrl import nets
from funcrl.core import random, tree

NETWORK = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def begun(seed=0):
    return nets.begin(nets.pure(NETWORK), random.key(seed))


def test_there_and_back_and_what_was_given_stays():
    params, buffers = begun()
    before = tree.map(torch.clone, (params, buffers))
    module = copy.deepcopy(NETWORK)
    module(torch.ones(5, 3) * torch.arange(5)[:, None])
    new_params, new_buffers = nets.from_state_dict(module.state_dict(), params, buffers)
    x = random.normal(random.key(1), (6, 3))
    output, _ = nets.run(nets.pure(NETWORK), new_params, new_buffers, x, train=False)
    assert torch.allclose(output, module.eval()(x), atol=1e-6)
    again = copy.deepcopy(NETWORK)
    again.load_state_dict(nets.to_state_dict(new_params, new_buffers), strict=True)
    assert torch.equal(again.eval()(x), module(x))
    for a, b in zip(tree.leaves(before), tree.leaves((params, buffers)), strict=True):
        assert torch.equal(a, b)
    module[0].weight.data.zero_()
    assert new_params["0.weight"].any()


def test_a_part_by_prefix_and_pattern():
    params, buffers = begun()
    other = {f"backbone.{name}": value for name, value in nets.to_state_dict(*begun(1)).items()}
    other["head.weight"] = torch.zeros(1)
    new, kept = nets.from_state_dict(other, params, buffers, prefix="backbone.", only=("0.*",))
    assert torch.equal(new["0.weight"], other["backbone.0.weight"])
    assert torch.equal(new["3.weight"], params["3.weight"])
    assert torch.equal(kept["1.running_mean"], buffers["1.running_mean"])


def test_all_differences_are_listed():
    params, buffers = begun()
    given = nets.to_state_dict(params, buffers)
    del given["0.bias"]
    given |= {"4.weight": torch.zeros(1), "3.weight": torch.zeros(4, 2)}
    message = r"missing: 0\.bias; left over: 4\.weight; of another shape: 3\.weight \(4, 2\) for \(2, 4\)\. Write prefix="
    with pytest.raises(ValueError, match=message):
        nets.from_state_dict(given, params, buffers)
    with pytest.raises(ValueError, match=r"from_state_dict: pattern must describe one of .*0\.weight"):
        nets.from_state_dict(given, params, buffers, only=("features.*",))
    with pytest.raises(ValueError, match=r"to_state_dict: pattern must describe one of .*0\.weight"):
        nets.to_state_dict(params, buffers, only=("features.*",))
    assert list(nets.to_state_dict(params, buffers, only=("1.run*",))) == ["1.running_mean", "1.running_var"]


def test_what_is_tied_may_have_all_its_names_and_must_hold_the_same_under_each():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    numbers = network.state_dict()
    params = nets.init(network, random.key(0))
    found, _ = nets.from_state_dict(numbers, params)
    assert torch.equal(found["0.weight"], numbers["0.weight"])
    as_from_a_file = {name: value.clone() for name, value in numbers.items()}
    begun = nets.init(nets.pretrained(network, as_from_a_file), random.key(1))
    assert sorted(begun) == ["0.bias", "0.weight", "1.bias"]
    assert torch.equal(begun["0.weight"], numbers["0.weight"])
    as_from_a_file["1.weight"] += 1
    with pytest.raises(ValueError, match=r"same numbers for 0\.weight and 1\.weight, which are tied"):
        nets.pretrained(network, as_from_a_file)


def test_keys_of_dropout_are_left_out_wherever_they_stand_and_a_persons_key_is_not():
    network = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    network.register_buffer("key", torch.arange(3.0))
    numbers = nets.to_state_dict(nets.begin_whole(nets.pure(network), random.key(0)))
    assert sorted(numbers) == ["0.bias", "0.weight", "key"]
    network.load_state_dict(numbers)
    pretrained = nets.begin_whole(nets.pure(nets.pretrained(network, numbers)), random.key(1))
    assert torch.equal(pretrained["key"], torch.arange(3.0))


def test_numbers_of_before_batches_were_counted_are_taken():
    layer = nn.BatchNorm1d(3)
    numbers = {name: value for name, value in layer.state_dict().items() if "tracked" not in name}
    numbers["running_mean"] = torch.arange(3.0)
    _, buffers = nets.from_state_dict(numbers, *nets.begin(nets.pure(layer), random.key(0)))
    assert torch.equal(buffers["running_mean"], torch.arange(3.0))
    assert int(buffers["num_batches_tracked"]) == 0


def test_what_is_no_dict_of_tensors_is_refused():
    with pytest.raises(
        TypeError, match=r"must be a dict of tensors by name, got Linear\. Write module\.state_dict\(\)"
    ):
        nets.pretrained(nn.Linear(3, 2), nn.Linear(3, 2))
