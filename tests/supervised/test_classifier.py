"""The classifier against torch's own way of training, its lanes against themselves alone, and what it refuses."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from funcrl import data, nets
from funcrl.core import jit, random, tree
from funcrl.supervised import agent, classifier, fit, fitting

IMAGES = data.LabelledImages(random.uniform(random.key(4), (40, 1, 6, 6)), torch.arange(40) % 3)
TRAIN, TEST = IMAGES.split(30, random.key(0))
NORMALISED = nn.Sequential(
    nn.Conv2d(1, 4, 3, padding=1, bias=False),
    nn.BatchNorm2d(4),
    nn.ReLU(),
    nn.Flatten(),
    nn.Dropout(0.0),
    nn.Linear(144, 3),
)
CONFIG = classifier.Config(network=NORMALISED, batch_size=8, learning_rate=0.01, shift=0)
CPU = torch.device("cpu")


def batch(first=0, size=8, dataset=TRAIN):
    images, labels = dataset.on(CPU)
    return classifier.Batch(images[first : first + size], labels[first : first + size])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_updates_are_torchs_for_several_steps(smoothing):
    state = classifier.init(random.key(1), tree.replace(CONFIG, label_smoothing=smoothing), TRAIN)
    module = copy.deepcopy(NORMALISED)
    kept = {name: buffer for name, buffer in state.buffers.items() if not name.endswith("key")}
    module.load_state_dict({**state.params, **kept})
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for first in (0, 8, 16):
        rows = batch(first)
        output = module(rows.images)
        value = F.cross_entropy(output, rows.labels, label_smoothing=smoothing)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        state = classifier.update(state, rows)
        assert torch.allclose(state.metrics["loss"], value, atol=1e-6)
        right = (output.argmax(1) == rows.labels).float().mean()
        assert torch.equal(state.metrics["accuracy"], right)
    for name, value in module.state_dict().items():
        found = state.params[name] if name in state.params else state.buffers[name]
        assert torch.allclose(found, value, atol=1e-4), name
    found = classifier.evaluate(state, batch(dataset=TEST, size=10))
    output = module.eval()(TEST.on(CPU)[0])
    assert torch.allclose(
        found["loss"], F.cross_entropy(output, TEST.on(CPU)[1], reduction="none"), atol=1e-3
    )
    assert torch.equal(found["right"], (output.argmax(1) == TEST.on(CPU)[1]).float())


def fitted(seeds, backend="eager", **settings):
    config = tree.replace(CONFIG, **settings)
    return fit(TRAIN, test=TEST, config=config, seeds=seeds, num_epochs=2, backend=backend)


def test_a_lane_is_the_seed_alone_and_keys_alone_decide():
    both, alone, again = fitted([5, 6]), fitted([6]), fitted([5, 6])
    for name, leaf in tree.named_leaves(both.states).items():
        assert torch.allclose(leaf[1], tree.named_leaves(alone.states)[name][0], atol=1e-5), name
        assert torch.equal(leaf.nan_to_num(), tree.named_leaves(again.states)[name].nan_to_num()), name
    assert both.metrics["test_accuracy"].shape == (2, 2)
    assert not torch.equal(both.states.params["0.weight"][0], both.states.params["0.weight"][1])


@pytest.mark.parametrize("rates", [[0.0, 0.01], torch.tensor([0.0, 0.01])])
def test_a_float_may_hold_one_value_a_seed(rates):
    both, alone = fitted([5, 6], learning_rate=rates), fitted([6])
    for name, leaf in tree.named_leaves(both.states).items():
        assert torch.allclose(leaf[1], tree.named_leaves(alone.states)[name][0], atol=1e-5), name
    first = torch.vmap(lambda key: classifier.init(random.split(key, 2)[0], CONFIG, TRAIN))
    before = first(torch.stack([random.key(5), random.key(6)])).params["5.weight"]
    after = both.states.params["5.weight"]
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])
    with pytest.raises(ValueError, match=r"fit: config\.learning_rate must .* each of 3 lanes .*, got \[2\]"):
        fitted([5, 6, 7], learning_rate=rates)
    with pytest.raises(ValueError, match="learning_rate must lie in"):
        fitted([5, 6], learning_rate=[0.1, -0.1])


def test_a_split_a_name_and_a_generator_are_taken():
    split = data.read("digits")
    how = {
        "config": classifier.Config(net="mlp", width=4, batch_size=512),
        "num_epochs": 1,
        "backend": "eager",
    }
    found = fit(split, algorithm="classifier", seeds=(seed for seed in (3, 4)), **how)
    expected = fit(split.train, test=split.test, seeds=[3, 4], **how)
    assert torch.equal(found.metrics["test_accuracy"], expected.metrics["test_accuracy"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"data": torch.zeros(3, 1, 8, 8)},
            TypeError,
            "data must be LabelledImages or a Split, got a Tensor",
        ),
        ({"test": torch.zeros(3, 1, 8, 8)}, TypeError, "test must be LabelledImages, got a Tensor"),
        ({"data": data.read("digits"), "test": TEST}, ValueError, "test must be left out beside a Split"),
        ({"seeds": 3}, TypeError, r"seeds must be several integers, got 3\. Write seeds=range\(3\)"),
        ({"algorithm": "classifer"}, ValueError, "algorithm must be one of .* Did you mean 'classifier'"),
        ({"algorithm": F}, TypeError, "algorithm must be a name or a module with Config, .* without Config"),
        ({"config": {"net": "mlp"}}, TypeError, r"config must be a classifier\.Config, got {'net': 'mlp'}"),
    ],
)
def test_arguments_of_another_kind_are_refused(change, error, message):
    with pytest.raises(error, match=f"fit: {message}"):
        fit(**{"data": TRAIN, "config": CONFIG, **change})


def test_large_images_are_learnt_from_two_lanes_after_two_and_the_same(monkeypatch):
    calls = []
    bind_in_turns = jit.Jit.bind_in_turns
    monkeypatch.setattr(
        jit.Jit, "bind_in_turns", lambda *given: calls.append(given[1]) or bind_in_turns(*given)
    )
    together = fitted([0, 1, 2, 3], shift=1)
    monkeypatch.setattr(fitting, "LARGE_BATCH", 1)
    apart, odd = fitted([0, 1, 2, 3], shift=1), fitted([0, 1, 2], shift=1)
    assert calls == [2]
    for name, leaf in tree.named_leaves(together.states).items():
        assert torch.equal(leaf.nan_to_num(), tree.named_leaves(apart.states)[name].nan_to_num()), name
    assert odd.metrics["loss"].isfinite().all()


@pytest.mark.compiled
def test_compiled_in_three_programs_it_is_what_it_is_uncompiled():
    # Convolutions are compiled by tests of their own.
    network = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.0), nn.Linear(36, 3))
    before = jit.stats().num_graphs
    compiled = fitted([0, 1], "inductor", shift=1, flip=True, network=network)
    assert jit.stats().num_graphs - before == 3
    eager = fitted([0, 1], shift=1, flip=True, network=network)
    for name, values in eager.metrics.items():
        assert torch.allclose(values, compiled.metrics[name], atol=1e-3), name


def test_figures_are_those_of_the_states():
    found = fitted([0, 1])
    images, labels = TEST.on(CPU)
    output = torch.vmap(lambda state: classifier.logits(state, images))(found.states)
    accuracy = (output.argmax(-1) == labels).float().mean(dim=1)
    assert torch.allclose(found.metrics["test_accuracy"][:, -1], accuracy)
    loss = torch.stack([F.cross_entropy(one, labels) for one in output])
    assert torch.allclose(found.metrics["test_loss"][:, -1], loss, atol=1e-5)


@tree.struct
class Counted:
    seen: torch.Tensor
    metrics: dict


def test_an_epoch_shows_every_image_once_each_lane_in_an_order_of_its_own():
    """An algorithm that only notes which labels it was shown, in order."""
    ten = data.LabelledImages(torch.zeros(10, 1, 1, 1), torch.arange(10))
    shown = []
    probe = SimpleNamespace(
        METRICS=(),
        init=lambda key, config, dataset: Counted(seen=torch.zeros(5, dtype=torch.int64), metrics={}),
        update=lambda state, rows: tree.replace(state, seen=rows.labels),
    )
    work = fitting.Work(probe, SimpleNamespace(batch_size=5), ten, None, [0, 1], CPU, "eager")
    work.compile()
    learn, rows = work.learn, []
    work.learn = lambda: (learn(), shown.append(work.states.seen.clone()))
    for epoch in range(2):
        work.epoch(epoch)
        rows.append(torch.cat(shown[-2:], dim=1))
    for seen in rows:
        assert seen.sort(dim=1).values.tolist() == [list(range(10))] * 2
        assert seen[0].tolist() != seen[1].tolist()
    assert rows[0].tolist() != rows[1].tolist()


def test_what_is_frozen_does_not_move_by_a_bit_in_a_hundred_updates():
    config = tree.replace(CONFIG, frozen=("0.*", "1.*"))
    state = first = classifier.init(random.key(1), config, TRAIN)
    update = jit.jit(lambda state, rows: classifier.update(state, rows), donate=(0,), backend="aot_eager")
    state = tree.map(torch.clone, state)
    for _ in range(100):
        state = update(state, batch())
    for name in ("0.weight", "1.weight", "1.bias"):
        assert torch.equal(state.params[name], first.params[name])
    for name in ("1.running_mean", "1.running_var"):
        assert torch.equal(state.buffers[name], first.buffers[name])
    assert not torch.equal(state.params["5.weight"], first.params["5.weight"])
    assert set(tree.named_leaves(state.optimizer)) == {
        f"[1].{name}"
        for name in ("count", *(f"{m}['5.{p}']" for m in ("mean", "square") for p in ("weight", "bias")))
    }
    with pytest.raises(ValueError, match=r"pattern must describe one of 0.weight, .*, got 'features\.\*'"):
        classifier.init(random.key(1), tree.replace(CONFIG, frozen=("features.*",)), TRAIN)
    with pytest.raises(ValueError, match=r"config.frozen must leave something to learn"):
        classifier.init(random.key(1), tree.replace(CONFIG, frozen=("*",)), TRAIN)


def test_digits_are_learnt():
    train, test = data.digits().split(1500, random.key(0))
    config = classifier.Config(net="mlp", width=64, learning_rate=3e-3, shift=0)
    found = fit(train, test=test, config=config, seeds=[0, 1], num_epochs=3, backend="aot_eager")
    assert found.metrics["test_accuracy"][:, -1].min() > 0.85
    assert (found.metrics["loss"][:, -1] < found.metrics["loss"][:, 0] / 2).all()


def test_augmented_images_are_moved_and_mirrored():
    x = torch.zeros(400, 1, 5, 5)
    x[:, :, 2, 1] = 1.0
    moved = agent.augmented(x, random.key(0), 2, False)
    places = {tuple(place) for place in moved.nonzero()[:, 2:].tolist()}
    assert places <= {(row, column) for row in range(5) for column in range(4)}  # 1 ± 2, seen from 0 on
    assert len(places) == 20
    mirrored = agent.augmented(x, random.key(0), 0, True).nonzero()[:, 3]
    assert set(mirrored.tolist()) == {1, 3}
    assert 150 < int((mirrored == 3).sum()) < 250
    assert torch.equal(agent.augmented(x, random.key(0), 0, False), x)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"net": "lenet5"}, ValueError, "net must be"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing must"),
        ({"flip": 1}, TypeError, "flip must be True or False"),
        ({"shift": -1}, ValueError, "shift must be"),
    ],
)
def test_impossible_settings_are_refused(change, error, message):
    with pytest.raises(error, match=f"classifier.Config: {message}"):
        classifier.Config(**change)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Linear(7, 3), r"config.network must map \[B, 1, 6, 6\] to \[B, 3\], got an error"),
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 4)), r"to \[B, 3\], got \(2, 4\)"),
        (nn.Conv2d(3, 3, 3), r"to \[B, 3\], got an error: .*channels"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        classifier.init(random.key(0), classifier.Config(network=network), TRAIN)


@pytest.mark.parametrize("network", ["lenet", nn.Linear])
def test_a_network_that_is_no_module_is_refused(network):
    with pytest.raises(TypeError, match=r"classifier\.init: config\.network must be an nn\.Module, got"):
        classifier.init(random.key(0), classifier.Config(network=network), TRAIN)


@pytest.mark.parametrize("network", [nn.Flatten(), nn.Sequential()])
def test_a_network_without_parameters_is_refused(network):
    with pytest.raises(ValueError, match=r"classifier\.init: config\.network must have parameters, got"):
        classifier.init(random.key(0), classifier.Config(network=network), TRAIN)


@pytest.mark.parametrize("verb", ["update", "evaluate"])
@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(8, 3, 6, 6), None, r"images must be \[B, 1, 6, 6\] .*, got \(8, 3, 6, 6\)"),
        (torch.zeros(8, 1, 6, 7), None, r"images must be \[B, 1, 6, 6\] .*, got \(8, 1, 6, 7\)"),
        (torch.zeros(0, 1, 6, 6), None, r"images must be .* with at least one image, got \(0, 1, 6, 6\)"),
        ([[0.0]], None, r"images must be \[B, 1, 6, 6\] .*, got 'list'"),
        (torch.zeros(8, 1, 6, 6, dtype=torch.float64), None, r"images must be torch\.float32.*images\.float"),
        (torch.zeros(8, 1, 6, 6, dtype=torch.uint8), None, r"images must be torch\.float32.*images\.float"),
        (torch.zeros(8, 1, 6, 6), torch.zeros(7, dtype=torch.int64), r"labels must be one an image, \[B\]"),
        (torch.zeros(8, 1, 6, 6), torch.zeros(8), r"labels must be torch\.int64.*labels\.long"),
    ],
)
def test_a_batch_of_another_kind_is_refused_by_each_lane_too(verb, images, labels, message):
    rows = classifier.Batch(images, torch.zeros(8, dtype=torch.int64) if labels is None else labels)
    function = getattr(classifier, verb)
    state = classifier.init(random.key(0), CONFIG, TRAIN)
    with pytest.raises(ValueError, match=rf"classifier\.{verb}: batch\.{message}"):
        function(state, rows)
    states = torch.vmap(lambda key: classifier.init(key, CONFIG, TRAIN))(random.split(random.key(0), 2))
    with pytest.raises(ValueError, match=rf"classifier\.{verb}: batch\.{message}"):
        torch.vmap(lambda state: function(state, rows))(states)


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"config.batch_size must be at most the number of images, 30, got 64"
    ):
        fit(TRAIN, config=classifier.Config(net="mlp"))
    other = data.LabelledImages(torch.zeros(2, 1, 6, 6), [0, 1])
    with pytest.raises(ValueError, match=r"test must have images and classes like those"):
        fit(TRAIN, test=other, config=CONFIG)
    with pytest.raises(
        ValueError, match=r"at least 12 x 12 pixels, got .*\. Write images\.resized\(12, 12\), or"
    ):
        fit(TRAIN, config=classifier.Config(net="lenet", batch_size=8))
    state = classifier.init(random.key(0), CONFIG, TRAIN)
    with pytest.raises(ValueError, match=r"batch.labels must be torch.int64.*labels.long"):
        classifier.update(state, tree.replace(batch(), labels=torch.zeros(8)))
    with pytest.raises(ValueError, match=r"batch.labels must be one an image"):
        classifier.update(state, tree.replace(batch(), labels=torch.zeros(7, dtype=torch.int64)))
    with pytest.raises(ValueError, match=r"batch.labels must be one an image, \[B\], got \(\)"):
        classifier.update(state, classifier.Batch(batch().images))
    with pytest.raises(
        ValueError, match=r"data must have labels, got LabelledImages\(2 of \(1, 6, 6\), no labels"
    ):
        classifier.init(random.key(0), CONFIG, data.LabelledImages(torch.zeros(2, 1, 6, 6)))


def test_nets_of_any_name_are_made():
    large = data.LabelledImages(torch.zeros(2, 3, 67, 67), [0, 1])
    # Those of `nets.images` have tests of their own, so here is one that is made as all of them are.
    for name in ("cnn", "googlenet", "gru", "mlp", "resnet18"):
        config = classifier.Config(net=name, width=2)
        assert isinstance(classifier.init(random.key(0), config, large).network, nets.Pure)
