"""A person's own networks in agents: batch normalisation, dropout, constants, frozen and pretrained parts."""

import copy
import dataclasses
import fnmatch

import pytest
import torch
from torch import nn

from funcrl import envs, nets, optim
from funcrl.algos import REGISTRY, dqn, ppo, sac
from funcrl.core import random, tree
from funcrl.io import load, save
from funcrl.train import train
from tests.algos.table import OffPolicy, Online, OnPolicy
from tests.algos.trees import quickly_walked

CARTPOLE, PENDULUM = envs.make("CartPole-v1"), envs.make("Pendulum-v1")
DIGITS = envs.make("DigitsBandit-v0")


class Centred(nn.Module):
    """Batch normalisation, dropout, and a constant that is neither trained nor drawn."""

    def __init__(self, inputs: int, outputs: int, p: float = 0.25) -> None:
        super().__init__()
        self.register_buffer("shift", torch.arange(inputs, dtype=torch.float32))
        self.features = nn.Sequential(
            nn.Linear(inputs, 5, bias=False), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(p)
        )
        self.out = nn.Linear(5, outputs)

    def forward(self, x):
        assert x.ndim == 2  # whatever stands in front of observations
        return self.out(self.features(x - self.shift))


class OfBoth(Centred):
    """The same for a pair of observation and action."""

    def forward(self, pair):
        return super().forward(torch.cat(pair, dim=-1))


def on_policy(name, **settings):
    own = {"num_envs": 2, "window_length": 8, "hidden": (4,)} | settings
    return OnPolicy(name, REGISTRY[name].Config(**own), CARTPOLE)


def off_policy(name, env, **settings):
    own = {"batch_size": 8, "buffer_size": 64, "hidden": (4,)} | settings
    return OffPolicy(name, REGISTRY[name].Config(**own), env)


class OfImages(Centred):
    """The same for images."""

    def forward(self, x):
        assert x.ndim == 4
        return super().forward(x.flatten(1))


def bandit(name, network, **settings):
    config = REGISTRY[name].Config(num_envs=4, batch_size=8, memory_size=64, network=network, **settings)
    return Online(name, config, DIGITS)


ACTOR_CRITIC = {"actor": Centred(4, 2), "critic": Centred(4, 1)}
CASES = {
    "ppo": on_policy("ppo", num_minibatches=1, **ACTOR_CRITIC),
    "impala": on_policy("impala", **ACTOR_CRITIC),
    "pqn": on_policy("pqn", num_minibatches=1, network=Centred(4, 2)),
    "dqn": off_policy("dqn", CARTPOLE, network=Centred(4, 2)),
    "rainbow": off_policy("rainbow", CARTPOLE, network=Centred(4, 2 * 5), num_atoms=5),
    "sac": off_policy("sac", PENDULUM, actor=Centred(3, 2), critic=OfBoth(4, 1)),
    "td3": off_policy("td3", PENDULUM, actor=Centred(3, 1), critic=OfBoth(4, 1)),
    "neural_epsilon_greedy": bandit("neural_epsilon_greedy", OfImages(64, 10)),
    "neural_thompson": bandit("neural_thompson", OfImages(64, 3)),
    "discrete_sac": off_policy("discrete_sac", CARTPOLE, actor=Centred(4, 2), critic=Centred(4, 2)),
}


def named(params):
    return tree.named_leaves(params)


def flat(params):
    return {path.strip("[]'").replace("']['", "."): x for path, x in named(params).items()}


@pytest.mark.parametrize("name", CASES)
def test_moments_follow_batches_and_constants_stay(name):
    case = CASES[name]
    state, batch = case.init(), case.batch()
    before = tree.map(torch.clone, state.params)
    after = case.algorithm.update(state, batch)
    for old, same in zip(tree.leaves(before), tree.leaves(state.params), strict=True):
        assert torch.equal(old, same)
    moments = [n for n in named(state.params) if "running_" in n]
    assert len(moments) >= 2
    for path, value in named(after.params).items():
        if "running_" in path or "shift" in path:
            assert torch.equal(value, named(state.params)[path]) == ("shift" in path), path
    # No optimiser has anything to do with them.
    assert not [n for n in named(state.optimizer) if "running_" in n or "shift" in n or "key" in n]


@pytest.mark.parametrize("name", CASES)
def test_it_acts_with_the_moments_so_far_and_without_dropout(name):
    case = CASES[name]
    state = case.algorithm.update(case.init(), case.batch())
    seen = case.observations(3)
    alone = torch.stack([case.greedy(state, tree.index(seen, i)) for i in range(3)])
    assert torch.allclose(case.greedy(state, seen).to(torch.float32), alone.to(torch.float32), atol=1e-6)
    case.act(state, tree.index(seen, 0), random.key(5))


def test_lanes_are_alone_and_it_compiles_whole():
    case = CASES["dqn"]
    states = tree.stack([case.init(seed) for seed in (0, 1)])
    batches = tree.stack([case.batch(seed) for seed in (0, 1)])
    # Whether torch takes it whole does not depend on what compiles it.
    update = torch.compile(torch.vmap(case.algorithm.update), fullgraph=True, backend="eager")
    with quickly_walked():
        both = update(states, batches)
    for lane in range(2):
        one = case.algorithm.update(case.init(lane), case.batch(lane))
        for path, leaf in named(one.params).items():
            assert torch.allclose(named(both.params)[path][lane].float(), leaf.float(), atol=1e-5), path


def test_dqns_step_is_torchs_in_training_mode():
    network = Centred(4, 2, p=0.0)
    case = off_policy("dqn", CARTPOLE, network=network, learning_rate=0.01)
    state, batch = case.init(), case.batch()
    module = copy.deepcopy(network)
    module.load_state_dict({n: x for n, x in state.params.items() if not n.endswith("key")})
    with torch.no_grad():
        slow = copy.deepcopy(module).eval()(batch.next_obs)
    goal = batch.reward + batch.discount * slow.amax(dim=-1)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    q = module.train()(batch.obs).gather(1, batch.action[:, None]).squeeze(1)
    (batch.weight * nn.functional.huber_loss(q, goal, reduction="none")).mean().backward()
    optimizer.step()
    after = dqn.update(
        tree.replace(state, config=tree.replace(state.config, huber_threshold=torch.tensor(1.0))), batch
    )
    for path, value in module.state_dict().items():
        assert torch.allclose(after.params[path].float(), value.float(), atol=1e-5), path


def test_each_step_drops_others_drawn_from_the_agents_own_key():
    case = off_policy("dqn", CARTPOLE, network=Centred(4, 2), learning_rate=0.0)
    state, batch = case.init(), case.batch()
    first = dqn.update(state, batch)
    losses = [float(dqn.update(s, batch).metrics["loss"]) for s in (state, state, first)]
    assert losses[0] == losses[1] != losses[2]
    other = {n: x + 1 if n.endswith("key") else x for n, x in state.params.items()}
    assert float(dqn.update(tree.replace(state, params=other), batch).metrics["loss"]) != losses[0]


@pytest.mark.parametrize(
    "case",
    [
        on_policy("ppo", num_minibatches=1, frozen=("actor.layers.0.*", "critic.*")),
        on_policy("pqn", num_minibatches=1, frozen=("*.bias",)),
        off_policy("dqn", CARTPOLE, frozen=("layers.0.*",)),
        off_policy("rainbow", CARTPOLE, hidden=(4, 4), frozen=("value.*",)),
        off_policy("sac", PENDULUM, frozen=("actor.layers.0.*", "critics.body.layers.2.*")),
    ],
    ids=lambda case: case.name,
)
def test_what_is_frozen_does_not_move_by_a_bit_and_has_no_state(case):
    begun = state = case.init()
    batch = case.batch()
    for _ in range(100 if case.name == "dqn" else 3):
        state = case.algorithm.update(state, batch)
    whole = case.init(config=tree.replace(case.config, frozen=()))
    frozen = 0
    for path, value in flat(state.params).items():
        stays = any(fnmatch.fnmatch(path, pattern) for pattern in case.config.frozen)
        frozen += stays
        assert torch.equal(value, flat(begun.params)[path]) == stays, path
    assert frozen
    # Two moments of each.
    assert len(named(state.optimizer)) == len(named(whole.optimizer)) - 2 * frozen


def test_layers_have_learning_rates_of_their_own():
    case = off_policy("dqn", CARTPOLE, rate_factors=("layers.0.weight=0.5", "layers.*=0.25"))
    plain = off_policy("dqn", CARTPOLE)
    begun, batch = case.init().params, case.batch()
    found, whole = case.algorithm.update(case.init(), batch).params, dqn.update(plain.init(), batch).params
    for path, start in begun.items():
        factor = 0.5 if path == "layers.0.weight" else 0.25
        assert torch.allclose(found[path] - start, factor * (whole[path] - start), atol=1e-7), path


def test_a_pretrained_part_begins_as_it_was_in_all_lanes_and_may_be_unfrozen_later():
    encoder = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU())
    learnt = copy.deepcopy(encoder).state_dict()
    learnt["1.running_mean"] += 2.0
    known = nets.pretrained(encoder, {f"encoder.{n}": x for n, x in learnt.items()}, prefix="encoder.")
    own = nn.Sequential(known, nn.Linear(3, 2))
    settings = dqn.Config(
        network=own, frozen=("0.*",), batch_size=8, buffer_size=64, warmup_steps=16, window_length=8
    )
    result = train("dqn", "CartPole-v1", config=settings, seeds=[0, 1], num_steps=64, backend="eager")
    for name in ("0.weight", "0.bias", "1.weight"):
        for lane in range(2):
            assert torch.equal(result.states.params[f"0.{name}"][lane], learnt[name]), name
    assert not torch.equal(*result.states.params["1.weight"])
    assert torch.equal(result.states.params["0.1.running_mean"][1], learnt["1.running_mean"])
    free = tree.replace(settings, frozen=())
    later = train(
        "dqn", "CartPole-v1", config=free, seeds=[0, 1], num_steps=64, start=result, backend="eager"
    )
    for name in ("0.0.weight", "0.1.running_mean"):
        assert not torch.equal(later.states.params[name], result.states.params[name]), name


class Asks(nn.Module):
    def forward(self, x):
        return x[..., :2] if x.sum() > 0 else -x[..., :2]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.LSTM(4, 2), r"error in LSTM: .*nets.recurrent.GRU or LSTM"),
        (nn.Sequential(nn.Linear(4, 2), Asks()), r"its layer 1 \(Asks\): .*no \.item\(\)"),
        (
            nn.Sequential(nn.Linear(4, 2), nn.AlphaDropout()),
            r"1 \(AlphaDropout\): .*Write nn\.Dropout as a layer",
        ),
    ],
)
def test_layers_that_cannot_run_for_many_lanes_are_named(layer, message):
    with pytest.raises(
        ValueError, match=r"ppo\.init: config\.actor must run under torch\.vmap, .* " + message
    ):
        ppo.init(random.key(0), ppo.Config(actor=layer), CARTPOLE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frozen": ("conv.*",)}, r"sac\.init: pattern must describe one of actor\.layers.*'conv"),
        ({"frozen": ("*",)}, r"sac\.init: config\.frozen must leave something to learn"),
        ({"rate_factors": ("critic=0.1",)}, r"sac\.init: pattern must describe"),
        ({"frozen": "actor.*"}, r"frozen must be a tuple of strings"),
        ({"rate_factors": ("actor.*",)}, r"rate_factors must be PATTERN=FACTOR"),
        ({"rate_factors": ("actor.*=-1",)}, r"rate_factors must be PATTERN=FACTOR"),
    ],
)
def test_patterns_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        sac.init(random.key(0), sac.Config(hidden=(4,), **settings), PENDULUM)


def test_whole_numbers_are_copied_by_slow_averages():
    slow, fast = {"n": torch.tensor(1)}, {"n": torch.tensor(5)}
    assert optim.polyak(slow, fast, 0.5)["n"] == 5


class Tied(nn.Module):
    """A layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.second(torch.tanh(self.first(x)))))


def test_tied_parameters_stay_tied_through_learning_saving_and_loading(tmp_path):
    case = off_policy("dqn", CARTPOLE, network=Tied(), learning_rate=0.1)
    state = case.init()
    for _ in range(3):
        state = dqn.update(state, case.batch())
    assert sorted(state.params) == ["first.weight", "out.bias", "out.weight"]
    save(tmp_path / "agent.safetensors", state)
    again = load(tmp_path / "agent.safetensors", like=case.init(9))
    module = Tied()
    module.load_state_dict(nets.to_state_dict(again.params), strict=False)
    assert module.first.weight is module.second.weight
    seen = case.observations(3)
    assert not torch.equal(case.init().params["first.weight"], module.first.weight)
    for values in (nets.apply(again.network, again.params, seen), module(seen)):
        assert torch.allclose(values, nets.apply(state.network, state.params, seen), atol=1e-6)


class Seen(nn.Module):
    """Remembers the shapes that it was given, outside of any program."""

    def __init__(self, size):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.LazyLinear(size))
        self.layers(torch.zeros(1, 3, 8, 8))
        self.shapes = SHAPES

    def forward(self, x):
        self.shapes.append(tuple(x.shape))
        return self.layers(x)

    def __deepcopy__(self, memo):
        twin = copy.copy(self)
        twin._modules = copy.deepcopy(self._modules, memo)
        return twin


SHAPES = []


@pytest.mark.parametrize("name", ["ppo", "a2c", "impala", "reinforce", "pqn"])
def test_networks_are_given_rows_of_observations_and_never_windows(name):
    env = envs.make("GridNavigation-v0")
    actions = int(env.action_space.n)
    own = {"network": Seen(actions)} if name == "pqn" else {"actor": Seen(actions), "critic": Seen(1)}
    small = {"num_envs": 2, "window_length": 4, "num_minibatches": 1, "num_steps": 8}
    given = {field.name for field in dataclasses.fields(REGISTRY[name].Config)}
    config = REGISTRY[name].Config(**own, **{k: v for k, v in small.items() if k in given})
    SHAPES.clear()
    case = OnPolicy(name, config, env)
    state, window = case.init(), case.batch()
    case.algorithm.update(state, window)
    case.act(state, tree.index(case.observations(3), 0), random.key(5))
    assert SHAPES
    assert {shape[1:] for shape in SHAPES} == {(3, 8, 8)}, set(SHAPES)


def test_parameters_that_take_no_gradient_stay_and_have_no_part_in_the_optimiser():
    network = Centred(4, 2)
    network.features[0].requires_grad_(False)
    case = off_policy("dqn", CARTPOLE, network=network)
    state = case.init()
    after = state
    for seed in range(3):
        after = case.algorithm.update(after, case.batch(seed))
    assert torch.equal(after.params["features.0.weight"], state.params["features.0.weight"])
    assert not torch.equal(after.params["out.weight"], state.params["out.weight"])
    assert not [name for name in named(state.optimizer) if "features.0" in name]


@pytest.mark.parametrize("mapped", [False, True])
def test_a_choice_by_what_is_seen_is_refused_before_anything_is_trained(mapped):
    class Chooses(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(4, 2)

        def forward(self, x):
            return self.out(x) if x.sum() > 0 else self.out(-x)

    config = dqn.Config(network=Chooses())
    init = lambda key: dqn.init(key, config, CARTPOLE)
    with pytest.raises(
        ValueError, match=r"config\.network must run under torch\.vmap, .* no if or while on values"
    ):
        torch.vmap(init)(random.split(random.key(0), 2)) if mapped else init(random.key(0))


def test_what_cannot_be_mapped_is_named_where_init_is_mapped_itself():
    class Remembers(nn.Module):
        def __init__(self):
            super().__init__()
            self.memory, self.out = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, x):
            return self.out(self.memory(x.unsqueeze(1))[0][:, -1])

    config = ppo.Config(actor=Remembers())
    init = lambda key: ppo.init(key, config, CARTPOLE)
    with pytest.raises(
        ValueError, match=r"got an error in its layer memory \(LSTM\): .* recurrent_cell='gru'"
    ):
        torch.vmap(init)(random.split(random.key(0), 2))


class Turning(nn.Module):
    """Counts how often it runs, and returns rows of two numbers until it is told otherwise."""

    def __init__(self):
        super().__init__()
        self.layer, self.runs, self.flat = nn.Linear(4, 2), 0, False

    def forward(self, x):
        self.runs += 1
        return self.layer(x)[:, 0] if self.flat else self.layer(x)


def test_a_network_that_fits_is_run_once_unless_it_may_have_changed():
    network, space = Turning(), CARTPOLE.observation_space
    numbers = nets.init(network, random.key(0))
    for _ in range(2):
        nets.check_output("f", "config.network", network, numbers, space, 2)
    assert network.runs == 2
    network.flat = True
    with pytest.raises(
        ValueError, match=r"config.network must map observations \[B, 4\] to \[B, 2\], got '\[B\]'"
    ):
        nets.check_output("f", "config.network", network, numbers, space, 2)
    kept = nets.pure(Turning())
    for _ in range(2):
        nets.check_output("f", "config.network", kept, numbers, space, 2)
    runs = kept.evaluating.runs
    with pytest.raises(ValueError, match=r"to \[B, 3\], got '\[B, 2\]'"):
        nets.check_output("f", "config.network", kept, numbers, space, 3)
    nets.check_output("f", "config.network", kept, numbers, space, 2)
    assert kept.evaluating.runs > runs > 0
    runs = kept.evaluating.runs
    nets.check_output("f", "config.network", kept, numbers, space, 2)
    assert kept.evaluating.runs == runs
