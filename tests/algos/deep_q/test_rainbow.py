"""Rainbow is its parts: without noise it is C51 with a double target; with noise, each draw is where it belongs."""

import pytest
import torch
from torch import nn

from funcrl import envs, nets
from funcrl.algos import c51, rainbow
from funcrl.algos.deep_q import agent
from funcrl.core import random, tree
from funcrl.nets import noisy
from tests.algos.deep_q.test_distributional import make_batch, one_state

CARTPOLE = envs.make("CartPole-v1")
SMALL = {"batch_size": 6, "hidden": (8, 8), "num_atoms": 5, "v_min": -1.0, "v_max": 2.0}


def make(**settings):
    """An agent whose target network is not its own."""
    state = rainbow.init(random.key(3), rainbow.Config(**SMALL | settings), CARTPOLE)
    other = nets.begin_whole(state.network, random.key(86))
    scale = state.config.noise_scale
    return tree.replace(state, target_params=noisy.widen(state.network, other, scale))


def plain(params):
    return {name: x for name, x in params.items() if not name.endswith(".sigma")}


def test_defaults_are_the_parts():
    config = rainbow.Config()
    assert (config.n_step, config.replay) == (3, "prioritised")
    assert config.epsilon == config.initial_epsilon == 0.0


def test_the_streams_are_put_together_atom_by_atom():
    state, obs = make(noise_scale=0.0), random.normal(random.key(1), (7, 4))
    p = state.params
    linear = lambda x, name: x @ p[f"{name}.weight"].T + p[f"{name}.bias"]
    features = torch.relu(linear(obs, "body.0.layers.0"))
    stream = lambda name: linear(torch.relu(linear(features, f"{name}.layers.0")), f"{name}.layers.2")
    value, advantage = stream("value"), stream("advantage")
    first, second = advantage[:, :5], advantage[:, 5:]
    mean = (first + second) / 2
    expected = torch.stack([value + first - mean, value + second - mean], dim=1)
    assert torch.allclose(c51.logits(state, plain(p), obs), expected, atol=1e-5)


def test_without_noise_an_update_is_that_of_c51_with_a_double_target():
    state, batch = make(noise_scale=0.0), make_batch()
    after = rainbow.update(state, batch)
    run = lambda params, obs: torch.softmax(nets.apply(state.network, params, obs).reshape(6, 2, 5), -1)
    atoms = torch.linspace(-1, 2, 5)
    online, slow = (run(plain(p), batch.next_obs) for p in (state.params, state.target_params))
    best = (online * atoms).sum(-1).argmax(-1)
    assert not torch.equal(best, (slow * atoms).sum(-1).argmax(-1))  # or this test could not tell
    goal = c51.target(batch.reward, batch.discount, slow, nn.functional.one_hot(best, 2).float(), atoms)

    def loss(params):
        p = run(params, batch.obs)[torch.arange(6), batch.action]
        return -(batch.weight * (goal * p.log()).sum(-1)).mean()

    gradient, value = torch.func.grad_and_value(loss)(plain(state.params))
    assert float(after.metrics["loss"]) == pytest.approx(float(value), rel=1e-4)
    for name, slope in gradient.items():
        moved = after.params[name] - state.params[name]
        assert torch.allclose(after.optimizer[1].mean[name], 0.1 * slope, atol=1e-5), name
        assert torch.equal(moved.sign(), -slope.sign()), name


def test_each_update_draws_three_noises_of_its_own(monkeypatch):
    """For the network that learns, the one that chooses, and the one that is believed."""
    seen, perturb = [], noisy.perturb
    monkeypatch.setattr(noisy, "perturb", lambda p, noise: seen.append((p, noise)) or perturb(p, noise))
    # Without its gradient, which would show tensors from within a transformation.
    monkeypatch.setattr(
        agent, "descend", lambda state, batch, errors: (errors(state.params, state.network), state)[1]
    )
    state, batch = make(), make_batch()
    rainbow.update(state, batch)
    rainbow.update(tree.replace(state, step=state.step + 1), batch)
    rainbow.update(tree.replace(state, key=random.key(99)), batch)
    assert len({tuple(noise.tolist()) for _, noise in seen}) == 9
    assert [params is state.target_params for params, _ in seen[:3]] == [False, True, False]


def test_the_noise_explores_and_greedy_has_none():
    state, obs = make(), random.normal(random.key(1), (40, 4))
    actions = torch.stack([rainbow.act(state, obs, key)[0] for key in random.split(random.key(2), 30)])
    assert 0.02 < float((actions != rainbow.greedy(state, obs)).float().mean()) < 0.7
    quiet = make(noise_scale=0.0)
    assert torch.equal(rainbow.act(quiet, obs, random.key(2))[0], rainbow.greedy(quiet, obs))
    assert torch.equal(rainbow.greedy(state, obs), rainbow.greedy(quiet, obs))


def test_it_learns_how_often_each_reward_comes():
    settings = {"batch_size": 8, "learning_rate": 0.03, "target_period": 5}
    state, batch = make(**settings), one_state([0.5] * 2 + [2.0] * 6, 0.0)
    for _ in range(150):
        state = rainbow.update(state, batch)
    found, _ = c51.predict(state, noisy.means(state.params), torch.ones(4))
    assert found[0].tolist() == pytest.approx([0.0, 0.0, 0.25, 0.0, 0.75], abs=0.05)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"rainbow.Config: v_max must be greater than v_min = 3, got 1.0"):
        rainbow.Config(v_min=3.0, v_max=1.0)
    with pytest.raises(ValueError, match=r"rainbow.Config: noise_scale must lie in \[0, inf"):
        rainbow.Config(noise_scale=-1.0)
    with pytest.raises(ValueError, match=r"rainbow.init: env.action_space must be Discrete"):
        rainbow.init(random.key(0), rainbow.Config(), envs.make("Pendulum-v1"))
    with pytest.raises(ValueError, match=r"rainbow.init: config.network must map .* to \[B, 10\], got"):
        make(network=nn.Linear(4, 2, device="meta"))


def test_an_own_network_becomes_noisy():
    state = make(network=nn.Linear(4, 10, device="meta"))
    assert set(state.params) == {"weight", "bias", "weight.sigma", "bias.sigma"}


def test_both_networks_begin_the_same_and_share_nothing():
    state = rainbow.init(random.key(3), rainbow.Config(**SMALL), CARTPOLE)
    assert state.params.keys() == state.target_params.keys() == state.optimizer[1].mean.keys()
    for name, x in state.params.items():
        assert torch.equal(x, state.target_params[name])
        assert x.data_ptr() != state.target_params[name].data_ptr()
