"""Which parameters an optimiser moves, and how far, by their names."""

import pytest
import torch

from funcrl import optim

PARAMS = {"conv.weight": torch.ones(2), "conv.bias": torch.ones(1), "fc.weight": torch.ones(3)}


def test_layers_have_learning_rates_of_their_own():
    optimizer = optim.chain(
        optim.adam(0.1), optim.scale_by_path({"conv.bias": 0.0, "conv.*": torch.tensor(0.5)})
    )
    plain = optim.adam(0.1)
    state, other = optimizer.init(PARAMS), plain.init(PARAMS)
    for _ in range(3):
        grads = {name: value * 2 for name, value in PARAMS.items()}
        updates, state = optimizer.update(grads, state, PARAMS)
        expected, other = plain.update(grads, other, PARAMS)
    for name, factor in (("conv.weight", 0.5), ("conv.bias", 0.0), ("fc.weight", 1.0)):
        assert torch.equal(updates[name], expected[name] * factor)


def test_a_factor_may_differ_between_lanes():
    def moved(factor):
        optimizer = optim.chain(optim.sgd(1.0), optim.scale_by_path({"fc.*": factor}))
        return optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)[0]["fc.weight"]

    assert torch.vmap(moved)(torch.tensor([1.0, 0.25])).tolist() == [[-1.0] * 3, [-0.25] * 3]


def test_names_that_nothing_describes_are_refused():
    with pytest.raises(
        ValueError, match=r"optim.scale_by_path: pattern must describe one of conv.weight, .*'convs"
    ):
        optim.scale_by_path({"convs.*": 1.0}).init(PARAMS)
    with pytest.raises(ValueError, match=r"optim.partition: pattern must describe"):
        optim.partition(PARAMS, ["head"])


def test_parts_are_all_and_share_nothing():
    free, kept = optim.partition(PARAMS, ["conv.*"])
    assert list(free) == ["fc.weight"]
    assert list(kept) == ["conv.weight", "conv.bias"]
