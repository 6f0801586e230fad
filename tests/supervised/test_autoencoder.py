"""The autoencoder against torch's own way of training, what it says of itself, and what can be taken out of it."""

import copy

import pytest
import torch
from torch import nn

from funcrl import data, nets
from funcrl.core import random, tree
from funcrl.supervised import autoencoder, classifier, fit
from tests.algos.trees import quickly_walked

CPU = torch.device("cpu")
IMAGES = data.LabelledImages(random.uniform(random.key(4), (24, 2, 9, 8)))
KEY = random.key(1)


def own(latent=3):
    """Batch normalisation on both sides, dropout that drops nothing so that torch's is the same."""
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(144, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, latent)
    )
    decoder = [
        nn.Linear(3, 8),
        nn.Tanh(),
        nn.BatchNorm1d(8),
        nn.Dropout(0.0),
        nn.Linear(8, 144),
        nn.Unflatten(1, (2, 9, 8)),
    ]
    return nn.ModuleDict({"decoder": nn.Sequential(*decoder), "encoder": encoder})


OWN, OWN_VARIATIONAL = own(), own(6)
SMALL = autoencoder.Config(latent_size=3, width=4, learning_rate=0.01, batch_size=8, kl_weight=0.01)
CONFIGS = {
    "dense": SMALL,
    "conv": tree.replace(SMALL, net="cnn"),
    "own": tree.replace(SMALL, network=OWN),
    "dense, variational": tree.replace(SMALL, variational=True),
    "conv, variational": tree.replace(SMALL, net="cnn", variational=True),
    "own, variational": tree.replace(SMALL, network=OWN_VARIATIONAL, variational=True),
}


def batch(first=0, size=8):
    return autoencoder.Batch(IMAGES.on(CPU)[0][first : first + size])


def noise(state):
    """What this state's next update draws."""
    _, k_loss = random.split(random.fold_in(state.key, state.step), 2)
    return random.normal(random.split(k_loss, 2)[1], (8, 3))


@pytest.mark.parametrize("name", CONFIGS)
def test_updates_are_torchs_for_several_steps(name):
    config = CONFIGS[name]
    state = autoencoder.init(KEY, config, IMAGES)
    module = copy.deepcopy(state.network.training).to_empty(device="cpu")
    kept = {name: buffer for name, buffer in state.buffers.items() if not name.endswith("key")}
    module.load_state_dict({**state.params, **kept}, strict=False)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for first in (0, 8, 16):
        x = batch(first).images
        mean, kl = module.encoder(x), torch.zeros(())
        latent = mean
        if config.variational:
            mean, log_std = mean[:, :3], mean[:, 3:]
            posterior = torch.distributions.Normal(mean, log_std.exp())
            latent = mean + posterior.stddev * noise(state)
            prior = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
            kl = torch.distributions.kl_divergence(posterior, prior).sum(1).mean()
        error = nn.functional.mse_loss(module.decoder(latent), x)
        loss = error + 0.01 * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state = autoencoder.update(state, batch(first))
        for figure, value in (("loss", loss), ("error", error), ("kl", kl)):
            assert torch.allclose(state.metrics[figure], value, atol=1e-5), figure
        assert tuple(state.metrics) == autoencoder.METRICS
    for path, value in module.state_dict().items():
        if not path.endswith("key"):
            found = state.params[path] if path in state.params else state.buffers[path]
            assert torch.allclose(found, value, atol=1e-4), path
    module.eval()
    latent = module.encoder(x)[:, :3]
    found = autoencoder.evaluate(state, batch(16))
    assert torch.allclose(autoencoder.encode(state, x), latent, atol=1e-3)
    assert torch.allclose(autoencoder.reconstruct(state, x), module.decoder(latent), atol=1e-3)
    assert torch.allclose(found["error"], (module.decoder(latent) - x).square().mean((1, 2, 3)), atol=1e-3)
    assert torch.allclose(found["loss"], found["error"] + 0.01 * found["kl"])
    assert found["kl"].shape == (8,)
    assert bool((found["kl"] > 0).all()) is config.variational


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (15, 10), (17, 31)])
@pytest.mark.parametrize("net", autoencoder.NETWORKS)
def test_images_of_any_size_come_back_in_it(net, size):
    images = data.LabelledImages(torch.zeros(2, 3, *size))
    state = autoencoder.init(KEY, tree.replace(SMALL, net=net), images)
    latent = autoencoder.encode(state, images.on(CPU)[0])
    assert latent.shape == (2, 3)
    assert autoencoder.decode(state, latent).shape == (2, 3, *size)
    assert autoencoder.reconstruct(state, images.on(CPU)[0]).shape == (2, 3, *size)


def lanes(module, config, count=2, dataset=IMAGES):
    return torch.vmap(lambda key: module.init(key, config, dataset))(random.split(KEY, count))


def test_a_lane_is_itself_alone_with_a_weight_and_noise_of_its_own():
    config = CONFIGS["own, variational"]
    keys, weights = random.split(KEY, 2), torch.tensor([0.0, 0.3])
    begin = lambda key, weight: autoencoder.init(key, tree.replace(config, kl_weight=weight), IMAGES)
    states, alone = torch.vmap(begin)(keys, weights), [begin(keys[i], weights[i]) for i in range(2)]
    for _ in range(2):
        states = torch.vmap(autoencoder.update, in_dims=(0, None))(states, batch())
        alone = [autoencoder.update(state, batch()) for state in alone]
    for lane in range(2):
        for name, leaf in tree.named_leaves(tree.index(states, lane)).items():
            assert torch.allclose(leaf, tree.named_leaves(alone[lane])[name], atol=1e-4), name
    assert torch.equal(states.metrics["loss"][0], states.metrics["error"][0])
    assert states.metrics["loss"][1] > states.metrics["error"][1]


@pytest.mark.parametrize(
    ("module", "config"),
    [(autoencoder, CONFIGS["dense, variational"]), (classifier, classifier.Config(net="gru", width=3))],
)
def test_vmapped_updates_compile_as_one_graph(module, config):
    few = data.LabelledImages(random.uniform(KEY, (4, 1, 3, 2)), [0, 1, 2, 0])
    states, rows = lanes(module, config, dataset=few), classifier.Batch(*few.on(CPU))
    update = torch.vmap(module.update, in_dims=(0, None))
    # Whether torch takes it whole does not depend on what compiles it.
    with quickly_walked():
        compiled = torch.compile(update, fullgraph=True, backend="eager")(states, rows)
    for name, leaf in tree.named_leaves(update(states, rows)).items():
        assert torch.allclose(leaf, tree.named_leaves(compiled)[name], atol=1e-5), name


def test_the_digits_come_back_better_than_their_mean():
    train, test = data.digits().split(1500, random.key(0))
    images, held_back = train.on(CPU)[0], test.on(CPU)[0]
    config = autoencoder.Config(width=64, learning_rate=3e-3)
    judged = data.LabelledImages(held_back)
    found = fit(
        data.LabelledImages(images),
        test=judged,
        algorithm=autoencoder,
        config=config,
        seeds=[0, 1],
        num_epochs=4,
        backend="eager",
    )
    error = found.metrics["test_error"]
    assert (error[:, -1] < error[:, 0] / 2).all()
    mean = (held_back - images.mean(0)).square().mean()
    assert (error[:, -1] < mean / 2).all()
    again = torch.vmap(lambda state: autoencoder.reconstruct(state, held_back))(found.states)
    assert torch.allclose((again - held_back).square().mean((1, 2, 3, 4)), error[:, -1], atol=1e-6)
    assert set(found.metrics) == {*autoencoder.METRICS, "test_loss", "test_error", "test_kl"}


class Policy(nn.Module):
    """Something else that has an encoder of this build."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(3, 5, device="meta")

    def forward(self, x):
        return self.head(self.encoder(x))


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_an_encoder_is_taken_by_name(name):
    state = autoencoder.update(autoencoder.init(KEY, CONFIGS[name], IMAGES), batch())
    assert {path.partition(".")[0] for path in state.params} == {"encoder", "decoder"}
    encoder, x = state.network.evaluating.encoder, batch().images
    fresh = nets.init(encoder, random.key(7))
    params, _ = nets.from_state_dict(state.params, fresh, prefix="encoder.")
    latent = autoencoder.encode(state, x)
    assert torch.equal(nets.apply(encoder, params, x), latent)
    # Observations of an agent have more axes in front.
    assert torch.allclose(
        nets.apply(encoder, params, x.reshape(4, 2, 2, 9, 8)), latent.reshape(4, 2, 3), atol=1e-6
    )
    policy = Policy(encoder)
    before = nets.init(policy, random.key(7))
    after, _ = nets.from_state_dict(state.params, before, only=("encoder.*",))
    assert torch.equal(nets.apply(policy.encoder, params, x), latent)
    assert torch.equal(after["head.weight"], before["head.weight"])


def test_a_frozen_encoder_does_not_move_and_augmentation_is_what_is_to_come_back():
    config = tree.replace(CONFIGS["conv"], frozen=("encoder.*",), flip=True, shift=2)
    first = autoencoder.init(KEY, config, IMAGES)
    after = autoencoder.update(first, batch())
    for path, value in after.params.items():
        assert torch.equal(value, first.params[path]) is path.startswith("encoder."), path
    k_augment, _ = random.split(random.fold_in(first.key, first.step), 2)
    moved = autoencoder.agent.augmented(batch().images, k_augment, 2, True)
    error = (autoencoder.reconstruct(first, moved) - moved).square().mean()
    assert torch.allclose(after.metrics["error"], error, atol=1e-6)


def test_a_decoder_may_share_its_weights_with_the_encoder():
    tied = nn.Linear(144, 144, bias=False)
    network = nn.Module()
    network.encoder, network.decoder = (
        nn.Sequential(nn.Flatten(), tied),
        nn.Sequential(tied, nn.Unflatten(1, (2, 9, 8))),
    )
    state = autoencoder.init(KEY, tree.replace(SMALL, network=network), IMAGES)
    assert list(state.params) == ["encoder.1.weight"]
    weight, x = state.params["encoder.1.weight"], batch().images
    expected = (x.flatten(1) @ weight.T @ weight.T).reshape(x.shape)
    assert torch.allclose(autoencoder.reconstruct(state, x), expected, atol=1e-6)


def halves(encoder, decoder):
    return nn.ModuleDict({"encoder": encoder, "decoder": decoder})


FLAT, BACK = (
    nn.Sequential(nn.Flatten(), nn.Linear(144, 3)),
    nn.Sequential(nn.Linear(3, 144), nn.Unflatten(1, (2, 9, 8))),
)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(FLAT, BACK), r"must be a module with children encoder and decoder, got \['0', '1'\]"),
        (
            halves(nn.Linear(7, 3), BACK),
            r"must have an encoder from \[B, 2, 9, 8\] to \[B, latent\], got an error",
        ),
        (halves(nn.Identity(), BACK), r"must have an encoder from .*, got \(2, 2, 9, 8\)"),
        (
            halves(FLAT, nn.Linear(4, 144)),
            r"must have a decoder from \[B, 3\] to \[B, 2, 9, 8\], got an error",
        ),
        (halves(FLAT, nn.Linear(3, 144)), r"must have a decoder from .*, got \(2, 144\)"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(network, message):
    with pytest.raises(ValueError, match=rf"autoencoder\.init: config\.network {message}"):
        autoencoder.init(KEY, autoencoder.Config(network=network), IMAGES)


def test_what_does_not_fit_is_refused():
    small = data.LabelledImages(torch.zeros(2, 1, 12, 7))
    with pytest.raises(
        ValueError, match=r"input_shape must be at least 8 x 8 pixels for a cnn, got \(1, 12, 7\)"
    ):
        autoencoder.init(KEY, autoencoder.Config(net="cnn"), small)
    autoencoder.init(KEY, autoencoder.Config(net="mlp"), small)
    odd = tree.replace(SMALL, network=OWN, variational=True)
    with pytest.raises(ValueError, match=r"encoder from .* to \[B, 2 · latent\], got \(2, 3\)"):
        autoencoder.init(KEY, odd, IMAGES)
    state = autoencoder.init(KEY, SMALL, IMAGES)
    with pytest.raises(
        ValueError, match=r"autoencoder\.update: batch\.images must be \[B, 2, 9, 8\] .*, got \(2, 9, 8\)"
    ):
        autoencoder.update(state, autoencoder.Batch(batch().images[0]))
    with pytest.raises(ValueError, match=r"autoencoder\.evaluate: batch\.images must be torch\.float32"):
        autoencoder.evaluate(state, autoencoder.Batch(batch().images.double()))
    for network in ("mlp", nn.Linear):
        with pytest.raises(TypeError, match=r"config\.network must be an nn\.Module, got"):
            autoencoder.init(KEY, tree.replace(SMALL, network=network), IMAGES)
    nothing = nn.ModuleDict({"encoder": nn.Flatten(), "decoder": nn.Unflatten(1, (2, 9, 8))})
    with pytest.raises(ValueError, match=r"autoencoder\.init: config\.network must have parameters"):
        autoencoder.init(KEY, tree.replace(SMALL, network=nothing), IMAGES)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"latent_size": 0}, ValueError, "latent_size must be at least 1, got 0"),
        ({"kl_weight": -1.0}, ValueError, "kl_weight must lie in"),
        ({"variational": 1}, TypeError, "variational must be True or False"),
        ({"net": "lenet"}, ValueError, "net must be one of 'cnn', 'mlp', got 'lenet'"),
        ({"width": -1}, ValueError, "width must be at least 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
    ],
)
def test_impossible_settings_are_refused(change, error, message):
    with pytest.raises(error, match=f"autoencoder.Config: {message}"):
        autoencoder.Config(**change)
