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
