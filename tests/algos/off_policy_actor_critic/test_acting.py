"""How actors explore, which updates move them, scaling, and what is refused."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from funcrl import envs, nets, policies
from funcrl.algos import REGISTRY, ddpg, discrete_sac, dqn, sac, td3, tqc
from funcrl.core import random, tree
from funcrl.policies.bounds import Bounds
from funcrl.train import acting
from funcrl.train.collect import act_and_step
from tests.algos.off_policy_actor_critic.test_losses import ARM, SMALL, make, make_batch

PENDULUM = envs.make("Pendulum-v1")
NOISY = {"noise": "ornstein_uhlenbeck", "noise_decay": 0.2, "exploration_noise": 0.1}
BOX = spaces.Box(-1, 1, (3,))


def same(a, b):
    return all(map(torch.equal, tree.leaves(a), tree.leaves(b)))


@pytest.mark.parametrize("name", ["ddpg", "td3", "sac", "tqc"])
def test_any_action_is_taken_until_the_buffer_is_warm(name):
    state = make(name, warmup_steps=100)
    noise = torch.zeros(4000, 2) if name == "ddpg" else None
    obs = torch.zeros(4000, 3)
    act = lambda s: REGISTRY[name].act(s, obs, random.key(1), *[noise] * (name == "ddpg"))[0]
    drawn = (act(tree.replace(state, env_steps=torch.tensor(99))) - torch.tensor([0.0, 5.0])) / torch.tensor(
        [2.0, 5.0]
    )
    assert drawn.abs().max() <= 1
    assert drawn.mean(dim=0).tolist() == pytest.approx([0, 0], abs=0.04)
    assert drawn.var(dim=0).tolist() == pytest.approx([1 / 3, 1 / 3], abs=0.02)
    later = act(tree.replace(state, env_steps=torch.tensor(100)))
    assert later.std(dim=0).max() < drawn.std() or name in ("sac", "tqc")
    assert not torch.equal(later, drawn)


def test_until_then_a_discrete_agent_takes_any_valid_action():
    state = discrete_sac.init(
        random.key(0),
        discrete_sac.Config(**SMALL | {"warmup_steps": 5}),
        SimpleNamespace(
            observation_space=spaces.Dict(observation=BOX, action_mask=spaces.MultiBinary(3)),
            action_space=spaces.Discrete(3),
        ),
    )
    obs = {"observation": torch.ones(3000, 3), "action_mask": torch.tensor([1, 0, 1]).expand(3000, 3)}
    drawn = discrete_sac.act(state, obs, random.key(1))[0]
    assert torch.bincount(drawn, minlength=3)[[0, 2]].tolist() == pytest.approx([1500, 1500], abs=120)
    warm = tree.replace(state, env_steps=torch.tensor(5))
    assert 1 not in discrete_sac.act(warm, obs, random.key(1))[0]
    assert 1 not in discrete_sac.greedy(warm, obs)


def test_normal_noise_has_the_spread_that_is_asked_for_and_stays_within_bounds():
    state = make("td3", exploration_noise=0.1)
    obs = torch.zeros(4000, 3)
    unit = state.actions.to_unit(td3.act(state, obs, random.key(1))[0])
    best = state.actions.to_unit(td3.greedy(state, obs))
    assert (unit - best).std(dim=0).tolist() == pytest.approx([0.1, 0.1], abs=0.01)
    wild = td3.act(make("td3", exploration_noise=50.0), obs, random.key(1))[0]
    assert wild.amin(dim=0).tolist() == [-2, 0]
    assert wild.amax(dim=0).tolist() == [2, 10]


def test_noise_of_ornstein_and_uhlenbeck_forgets_a_share_in_each_step():
    state = make("ddpg", **NOISY)
    noise, rows = torch.zeros(20_000, 2), []
    for key in random.split(random.key(0), 60):
        noise = ddpg.next_noise(state, noise, key)
        rows.append(noise)
    late, before = rows[-1], rows[-2]
    assert late.std().item() == pytest.approx(0.1 / math.sqrt(1 - 0.8**2), rel=0.02)
    correlation = (late * before).mean() / before.var()
    assert correlation.item() == pytest.approx(0.8, abs=0.02)
    assert (late[:, 0] * late[:, 1]).mean().item() == pytest.approx(0, abs=5e-3)
    assert rows[0].std().item() == pytest.approx(0.1, rel=0.02)


def test_each_episode_has_noise_of_its_own_from_zero_on():
    env = envs.TimeLimit(PENDULUM, limit=3)
    state = ddpg.init(random.key(0), ddpg.Config(**SMALL | NOISY), env)
    policy = acting.learning(ddpg)
    running, carry, seen = (
        envs.reset_all(env, random.split(random.key(1), 2)),
        policy.initial_carries(state, 2),
        [],
    )
    for key in random.split(random.key(2), 7):
        running, carry, row = act_and_step(policy, env, state, running, carry, key)
        seen.append(row.transition.extras["carry"])
        unit = state.actions.to_unit(row.transition.action)
        plain = state.actions.to_unit(ddpg.greedy(state, row.transition.obs))
        noise = ddpg.next_noise(state, seen[-1], random.fold_in(random.split(key, 2)[0], 1))
        assert torch.allclose(unit, (plain + noise).clamp(-1, 1), atol=1e-5)
    for step, noise in enumerate(seen):
        assert bool((noise == 0).all()) == (step % 3 == 0)
        assert step % 3 == 0 or not torch.equal(noise[0], noise[1])


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_the_actor_moves_at_each_of_so_many_steps_alone(delay):
    state, batch = make("td3", policy_delay=delay), make_batch("td3")
    (critics, _), (actor, every) = td3.parts(state.config)
    assert every == delay
    in_parts = state
    for step in range(5):
        before, state = state, td3.update(state, batch)
        in_parts = critics(in_parts, batch)
        in_parts = actor(in_parts, batch) if step % every == 0 else in_parts
        assert same(in_parts, state)
        due = step % delay == 0
        assert same(state.params["actor"], before.params["actor"]) != due
        assert same(state.target_params, before.target_params) != due
        assert not same(state.params["critics"], before.params["critics"])


def test_learning_rates_fall_and_that_of_the_actor_is_the_critics_unless_it_is_given():
    batch = make_batch("sac")
    agents = [
        make("sac", learning_rate=1e-3, actor_learning_rate=own, anneal_steps=100.0)
        for own in (0.0, 1e-3, 5e-3)
    ]
    moved = [tree.map(torch.sub, sac.update(a, batch).params, a.params)["actor"] for a in agents]
    assert same(moved[0], moved[1])
    assert not same(moved[0], moved[2])
    half = tree.replace(agents[0], env_steps=torch.tensor(50, dtype=torch.int32))
    assert float(sac.update(half, batch).metrics["learning_rate"]) == pytest.approx(5e-4)


def test_actions_are_scaled_to_their_bounds_and_back():
    actions = policies.ScaledActions(Bounds((-2.0, 0.0), (2.0, 10.0)), (2, 1))
    unit = torch.tensor([[-1.0, 1.0], [0.5, -0.5]])
    assert actions.of_unit(unit).tolist() == [[[-2], [10]], [[1], [2.5]]]
    assert torch.allclose(actions.to_unit(actions.of_unit(unit)), unit)
    assert actions.of_unit(torch.tensor([1.1, 0.0])).tolist() == [[2], [5]]


def test_an_ensemble_is_several_networks_beside_each_other():
    network = nets.mlp((3,), (5,), 2)
    params = nets.ensemble.init(network, random.key(0), 4)
    x = random.normal(random.key(1), (6, 3))
    together = nets.ensemble.apply(network, params, x)
    for i in range(4):
        assert torch.allclose(together[i], nets.apply(network, tree.index(params, i), x), atol=1e-6)
    assert not torch.equal(together[0], together[1])


class Own(nn.Module):
    """A critic of a user's own: it is given a pair."""

    def __init__(self, size):
        super().__init__()
        self.layer = nn.Linear(5, size)

    def forward(self, pair):
        return self.layer(torch.cat(pair, dim=-1))


def test_actions_have_the_dtype_of_their_space():
    env = SimpleNamespace(observation_space=BOX, action_space=spaces.Box(-1, 1, (2,), np.float64))
    state = sac.init(random.key(0), sac.Config(**SMALL), env)
    action = sac.act(state, torch.zeros(4, 3), random.key(1))[0]
    assert action.dtype == torch.float64
    assert state.actions.to_unit(action).dtype == torch.float32


def test_networks_of_ones_own_are_used():
    config = sac.Config(**SMALL, critic=Own(1), actor=nn.Linear(3, 4))
    state = sac.init(random.key(0), config, ARM)
    assert {name: tuple(x.shape) for name, x in state.params["critics"].items()} == {
        "layer.weight": (2, 1, 5),
        "layer.bias": (2, 1),
    }
    assert sac.update(state, make_batch("sac")).metrics["actor_loss"].isfinite()


def world(action, observation=BOX):
    return SimpleNamespace(observation_space=observation, action_space=action)


NUMBERED = world(spaces.Discrete(3))
REAL = world(spaces.Box(-1, 1, (2,)))


@pytest.mark.parametrize(
    ("module", "env", "settings", "message"),
    [
        *((m, NUMBERED, {}, r"must be a Box.*take discrete_sac, dqn or ppo") for m in (sac, td3, ddpg, tqc)),
        (discrete_sac, REAL, {}, r"must be Discrete.*take sac, tqc or td3"),
        (dqn, REAL, {}, r"must be Discrete.*take sac, td3 or ppo"),
        (
            sac,
            world(spaces.Box(-np.inf, np.inf, (2,))),
            {},
            "must be bounded on both sides in every dimension",
        ),
        (
            sac,
            world(spaces.Box(0, 1, (2,), np.int64)),
            {},
            "must be Discrete, MultiDiscrete, .* a Box of floats",
        ),
        (sac, REAL, {"actor": nn.Linear(3, 2)}, r"config.actor must map observations \[B, 3\] to \[B, 4\]"),
        (
            sac,
            REAL,
            {"critic": nn.Linear(3, 1)},
            "config.critic must map B observations of Tuple.* got an error",
        ),
        (tqc, REAL, {"critic": Own(1)}, r"config.critic must .* to \[B, 25\], got '\[B, 1\]'"),
    ],
)
def test_what_does_not_fit_is_refused(module, env, settings, message):
    config = module.Config(hidden=(4,), **settings)
    with pytest.raises(ValueError, match=message):
        module.init(random.key(0), config, env)


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (sac, {"temperature": 0.0}, r"sac.Config: temperature must"),
        (sac, {"target_entropy": 0.7}, "target_entropy must"),
        (sac, {"target_entropy": -math.inf}, "target_entropy must be finite"),
        (sac, {"temperature": math.inf}, "temperature must be finite"),
        (td3, {"exploration_noise": math.inf}, "exploration_noise must be finite"),
        (td3, {"policy_delay": 10**6}, "policy_delay must be at most 1000"),
        (sac, {"learn_temperature": 1}, "learn_temperature must be True or False"),
        (sac, {"actor_learning_rate": -1.0}, "actor_learning_rate must"),
        (discrete_sac, {"target_entropy": -1.0}, r"discrete_sac.Config: target_entropy must"),
        (td3, {"policy_delay": 0}, r"td3.Config: policy_delay must be at least 1"),
        (td3, {"target_noise": -0.1}, "target_noise must"),
        (td3, {"noise": "ou"}, "noise must be one of 'normal', 'ornstein_uhlenbeck'"),
        (ddpg, {"noise_decay": 1.5}, "noise_decay must"),
        (tqc, {"num_dropped": 25}, "num_dropped must be below num_quantiles = 25"),
        (tqc, {"num_dropped": -1}, "num_dropped must be at least 0"),
        (tqc, {"num_critics": 0}, "num_critics must be at least 1"),
        (sac, {"batch_size": 10**6}, "batch_size must be at most buffer_size"),
    ],
)
def test_settings_out_of_range_are_refused(module, settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        module.Config(**settings)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("action", torch.zeros(5), r"batch.action must have the shape of actions, \[B, 2\], got \(5,\)"),
        ("reward", torch.zeros(5, 1), r"batch.reward must hold config.batch_size rows, \[B\]"),
        ("obs", torch.zeros(4, 3), r"batch.obs must hold config.batch_size rows"),
    ],
)
def test_a_batch_of_another_shape_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        sac.update(make("sac"), tree.replace(make_batch("sac"), **{field: value}))


def test_noise_that_goes_on_has_to_be_given():
    state = make("ddpg", **NOISY)
    with pytest.raises(ValueError, match=r"act: noise must be that of each action, of shape \(4, 2\)"):
        ddpg.act(state, torch.zeros(4, 3), random.key(0))
