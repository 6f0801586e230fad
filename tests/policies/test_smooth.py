"""Noise that is a function of what the network sees."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from funcrl import envs, policies
from funcrl.algos import a2c, actor_critic, ppo
from funcrl.core import random, tree
from funcrl.train import evaluate, train

BOX = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))
PENDULUM = envs.make("Pendulum-v1")
SMALL = {"num_envs": 3, "window_length": 8, "hidden": (8, 5), "action_noise": "smooth"}


def made(shape=(2, 2)):
    """A head with parameters that are not zero, and features."""
    box = spaces.Box(np.tile(BOX.low, (2, 1)), np.tile(BOX.high, (2, 1))) if len(shape) == 2 else BOX
    head = policies.for_space("test", box, lambda bounds, shape: policies.Smooth(bounds, shape, 5))
    drawn = tree.map(
        lambda x: 0.5 * random.normal(random.key(x.numel()), x.shape), head.parameters(torch.device("cpu"))
    )
    return head, drawn, random.normal(random.key(1), (3, 5))


def test_density_and_entropy_are_those_of_the_definition():
    head, params, features = made()
    assert head.num_outputs == 5
    policy = head.distribution(features, params)
    action = policy.sample(random.key(2))
    assert action.shape == (3, 2, 2)
    middle, width = torch.tensor([0.0, 0.5] * 2), torch.tensor([2.0, 0.5] * 2)
    for row in range(3):
        mean = middle + width * (features[row] @ params["weight"] + params["bias"])
        variance = sum((features[row, i] * params["log_std"][i].exp() * width) ** 2 for i in range(5))
        normal = torch.distributions.Normal(mean, variance.sqrt())
        expected = normal.log_prob(action[row].flatten()).sum()
        assert float(policy.log_prob(action)[row]) == pytest.approx(float(expected), abs=1e-3)
        assert float(policy.entropy()[row]) == pytest.approx(float(normal.entropy().sum()), abs=1e-3)
        assert torch.allclose(policy.mode()[row].flatten(), mean, atol=1e-5)


def test_samples_have_the_moments_that_are_announced():
    head, params, features = made((2,))
    policy = head.distribution(features, params)
    drawn = torch.vmap(policy.sample)(random.split(random.key(3), 40_000))
    spread = torch.exp(policy.log_std)
    assert ((drawn.mean(0) - policy.mean).abs() < 0.03 * spread).all()
    assert torch.allclose(drawn.std(0), spread, rtol=0.02)


def test_one_key_is_one_linear_function_of_the_features_for_each_place():
    head, params, features = made((2,))

    def noise(features):
        policy = head.distribution(features, params)
        return policy.sample(random.key(4)) - policy.mode()

    other = random.normal(random.key(9), features.shape)
    assert torch.allclose(noise(features + other), noise(features) + noise(other), atol=1e-5)
    same = noise(features[:1].expand(3, -1))
    assert not torch.allclose(same[0], same[1])


def test_the_spread_moves_no_feature():
    head, params, features = made((2,))
    flat = params | {"weight": torch.zeros_like(params["weight"])}
    slope = torch.func.grad(lambda z: head.distribution(z, flat).entropy().sum())(features)
    assert not slope.any()
    moved = torch.func.grad(lambda p: head.distribution(features, p).entropy().sum())(params)
    assert (moved["log_std"] > 0).all()


@pytest.mark.parametrize("algorithm", [ppo, a2c])
def test_noise_stays_for_a_window_and_is_another_one_after_it(algorithm):
    state = algorithm.init(random.key(0), algorithm.Config(**SMALL, initial_log_std=-1.5), PENDULUM)
    assert (state.params["head"]["log_std"] == -1.5).all()
    obs = random.normal(random.key(1), (3, 3))
    first, _ = algorithm.act(state, obs, random.key(2))
    again, _ = algorithm.act(state, obs, random.key(3))
    assert torch.equal(first, again)
    assert torch.equal(algorithm.act(state, obs[:1], random.key(3))[0], first[:1])
    later, _ = algorithm.act(tree.replace(state, step=state.step + 1), obs, random.key(2))
    assert not torch.allclose(later, first)
    other = algorithm.init(random.key(5), algorithm.Config(**SMALL, initial_log_std=-1.5), PENDULUM)
    assert not torch.equal(state.noise_key, other.noise_key)
    # Before anything is learnt the mean is the middle of the bounds, and noise is of the size that was asked for.
    assert not algorithm.greedy(state, obs).any()
    many = tree.map(lambda x: x.expand(2000, *x.shape), state)
    many = tree.replace(many, step=torch.arange(2000, dtype=torch.int32))
    drawn = torch.vmap(lambda s: algorithm.act(s, obs[0], random.key(2))[0])(many)
    layers = state.params["actor"]
    hidden = torch.tanh(layers["0.layers.0.weight"] @ obs[0] + layers["0.layers.0.bias"])
    seen = torch.tanh(layers["0.layers.2.weight"] @ hidden + layers["0.layers.2.bias"])
    assert float(drawn.std()) == pytest.approx(2 * math.exp(-1.5) * float(seen.norm()), rel=0.06)


def test_it_trains_remembers_and_is_evaluated():
    config = ppo.Config(
        **SMALL | {"num_minibatches": 1, "sequence_length": 4, "recurrent_cell": "gru", "recurrent_size": 6}
    )
    result = train(
        ppo,
        envs.make("Pendulum-v1", max_episode_steps=12),
        config=config,
        seeds=[0, 1],
        num_steps=96,
        backend="eager",
    )
    assert result.nonfinite_seeds == []
    assert not torch.equal(result.states.noise_key[0], result.states.noise_key[1])
    for greedy in (True, False):
        played = evaluate(
            ppo, PENDULUM, result.states, num_episodes=2, max_steps=9, greedy=greedy, backend="eager"
        )
        assert played.isfinite().all()


def test_what_cannot_be_is_refused():
    with pytest.raises(
        ValueError, match=r"ppo\.Config: hidden must name a layer where action_noise is smooth"
    ):
        ppo.Config(action_noise="smooth", hidden=())
    with pytest.raises(
        ValueError, match="action_noise must be one of 'independent', 'smooth', 'state_dependent'"
    ):
        ppo.Config(action_noise="gsde")
    with pytest.raises(
        ValueError, match=r"ppo\.init: env\.action_space must be a Box where action_noise is smooth"
    ):
        ppo.init(random.key(0), ppo.Config(action_noise="smooth"), envs.make("CartPole-v1"))
    with pytest.raises(ValueError, match="initial_log_std must be 0 where action_noise is state_dependent"):
        ppo.Config(initial_log_std=-1.0, action_noise="state_dependent")
    with pytest.raises(
        ValueError, match="action_noise must be one of 'independent', 'state_dependent', got 'smooth'"
    ):
        actor_critic.Config(action_noise="smooth")
    with pytest.raises(ValueError, match="initial_log_std must be finite"):
        ppo.Config(initial_log_std=math.inf)
