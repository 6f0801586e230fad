"""PQN's equations against naive definitions, and PQN on environments whose answers are known."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from funcrl import envs, nets
from funcrl.algos import pqn
from funcrl.core import random, tree
from funcrl.train import make_plan, train
from tests.algos.table import ON_POLICY
from tests.probes import Choice, Delayed, Truncating

(CASE,) = (case for case in ON_POLICY if case.name == "pqn")
GAMMA, LAMBDA = 0.9, 0.7


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=1, max_size=9))
def test_the_loss_is_its_definition(rows):
    value, target = torch.tensor(rows, dtype=torch.float64).unbind(dim=1)
    expected = sum(0.5 * (v - g) ** 2 for v, g in rows) / len(rows)
    assert float(pqn.loss(value, target)) == pytest.approx(expected)


def values(state, obs):
    return nets.apply(state.network, state.params, obs)


def naive_returns(window, best):
    """Q(λ) backwards through each environment, in float64."""
    num_steps, num_envs = window.reward.shape
    target = np.zeros((num_steps, num_envs))
    for env in range(num_envs):
        for t in reversed(range(num_steps)):
            reward, bootstrap = float(window.reward[t, env]), float(best[t, env])
            if window.terminated[t, env]:
                target[t, env] = reward
            elif window.truncated[t, env] or t == num_steps - 1:
                target[t, env] = reward + GAMMA * bootstrap
            else:
                mixed = LAMBDA * target[t + 1, env] + (1 - LAMBDA) * bootstrap
                target[t, env] = reward + GAMMA * mixed
    return target


@pytest.mark.parametrize("seed", range(3))
def test_prepare_is_the_recursion_with_the_best_actions_values(seed):
    config = tree.replace(CASE.config, gamma=GAMMA, td_lambda=LAMBDA)
    state, window = CASE.init(seed, config), CASE.window(seed)
    k_terminated, k_truncated = random.split(random.key(seed), 2)
    window = tree.replace(
        window,
        terminated=random.bernoulli(k_terminated, 0.2, tuple(window.reward.shape)),
        truncated=random.bernoulli(k_truncated, 0.2, tuple(window.reward.shape)),
    )
    batch = pqn.prepare(state, window)
    expected = naive_returns(window, values(state, window.next_obs).max(dim=-1).values)
    np.testing.assert_allclose(batch.target.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(batch.action.reshape(expected.shape), window.action)
    assert torch.equal(batch.obs.reshape(window.obs.shape), window.obs)


def test_a_whole_update_equals_torchs_autograd_and_radam():
    state, batch = CASE.init(config=tree.replace(CASE.config, max_grad_norm=0.1)), CASE.batch()
    leaves = {name: p.clone().requires_grad_() for name, p in state.params.items()}
    optimizer = torch.optim.RAdam(leaves.values(), lr=3e-4)
    # The last of seven updates divides by the squares, the first ones do not yet.
    for _ in range(7):
        optimizer.zero_grad()
        q = nets.apply(state.network, leaves, batch.obs)[torch.arange(len(batch.action)), batch.action]
        (0.5 * (q - batch.target).square().mean()).backward()
        norm = torch.nn.utils.clip_grad_norm_(leaves.values(), 0.1)
        optimizer.param_groups[0]["lr"] = 3e-4 * float(learning_rate_left(state))
        optimizer.step()
        state = pqn.update(state, batch)
        assert float(state.metrics["grad_norm"]) == pytest.approx(float(norm), rel=1e-4)
    assert float(norm) > 0.1
    for name, p in state.params.items():
        torch.testing.assert_close(p, leaves[name].detach(), atol=1e-6, rtol=1e-5)


def learning_rate_left(state):
    """The share of the learning rate that is left in the window of the next update."""
    config = state.config
    window = int(state.step) // (config.num_epochs * config.num_minibatches)
    return 1.0 - window * config.num_envs * config.window_length / float(config.anneal_steps)


def test_exploration_and_learning_rate_fall_window_by_window():
    config = pqn.Config(
        num_envs=2,
        window_length=4,
        num_epochs=2,
        num_minibatches=2,
        anneal_steps=24.0,
        exploration_steps=16.0,
        initial_epsilon=0.9,
        epsilon=0.1,
    )
    state, batch = CASE.init(config=config), CASE.batch()
    rates, amounts = [], []
    for _ in range(14):
        state = pqn.update(state, batch)
        rates.append(float(state.metrics["learning_rate"]) / 3e-4)
        amounts.append(float(state.metrics["exploration"]))
    assert rates == pytest.approx([1.0] * 4 + [2 / 3] * 4 + [1 / 3] * 4 + [0.0] * 2, abs=1e-6)
    assert amounts == pytest.approx([0.9] * 4 + [0.5] * 4 + [0.1] * 6)


@pytest.mark.parametrize("anneal_steps", [0.0, math.inf])
def test_without_a_length_the_learning_rate_stays(anneal_steps):
    state = CASE.init(config=tree.replace(CASE.config, anneal_steps=anneal_steps))
    for _ in range(40):
        state = pqn.update(state, CASE.batch())
    assert float(state.metrics["learning_rate"]) == pytest.approx(3e-4)


@pytest.mark.parametrize(("updates", "epsilon"), [(0, 0.8), (4, 0.4)])
def test_actions_are_epsilon_greedy_with_the_epsilon_of_their_window(updates, epsilon):
    config = pqn.Config(
        num_envs=2, window_length=4, num_epochs=2, num_minibatches=2, hidden=(8,),
        initial_epsilon=0.8, epsilon=0.0, exploration_steps=16.0, learning_rate=0.0,
    )  # fmt: skip
    state = CASE.init(config=config)
    for _ in range(updates):
        state = pqn.update(state, CASE.batch())
    obs = torch.tensor([0.5, -0.2, 0.1, 0.3])
    best = int(values(state, obs).argmax())
    assert int(pqn.greedy(state, obs)) == best
    action, extras = torch.vmap(lambda k: pqn.act(state, obs, k))(random.split(random.key(0), 4000))
    assert extras == {}
    assert float((action == best).float().mean()) == pytest.approx(1 - epsilon / 2, abs=0.03)


QUICK = {
    "num_envs": 64,
    "window_length": 4,
    "num_epochs": 8,
    "num_minibatches": 1,
    "hidden": (16,),
    "learning_rate": 0.1,
    "anneal_steps": 0.0,
}


def learn(env, num_iterations=7, **changes):
    """Many environments and few, large updates: they need not be recorded to be fast."""
    config = pqn.Config(**(QUICK | changes))
    return train(pqn, env, config=config, seeds=range(3), num_steps=256 * num_iterations, backend="eager")


def best_values(states, obs):
    return torch.vmap(lambda s: values(s, torch.tensor([obs])).max(dim=-1).values)(states)


def test_probe_a_truncated_episode_still_bootstraps():
    states = learn(Truncating(), gamma=0.5).states
    # Taking the time limit for an end would give at most 1 + γ = 1.5.
    assert best_values(states, 1.0).tolist() == pytest.approx([2.0] * 3, abs=0.1)


def test_probe_rewards_are_discounted():
    states = learn(Delayed(), gamma=0.5).states
    assert best_values(states, 0.0).tolist() == pytest.approx([0.5] * 3, abs=0.1)
    assert best_values(states, 1.0).tolist() == pytest.approx([1.0] * 3, abs=0.1)


def test_probe_actions_follow_observations():
    result = learn(Choice())
    for sign, right in ((1.0, 1), (-1.0, 0)):
        chosen = torch.vmap(lambda s, sign=sign: pqn.greedy(s, torch.tensor([sign])))(result.states)
        assert chosen.tolist() == [right] * 3
    assert (result.returns[:, -1] > 0.9).all()


def test_train_fills_in_the_shares_of_the_run():
    config = pqn.Config(num_envs=4, window_length=8, num_minibatches=1)
    filled = make_plan("pqn", Choice(), config=config, num_steps=150).config
    assert float(filled.anneal_steps) == 128.0
    assert float(filled.exploration_steps) == 64.0


IMAGES = envs.make("GridNavigation-v0", size=4)


@pytest.mark.parametrize(("channels", "name"), [((4,), "CNN"), ((), "MLP")])
def test_images_get_convolutions_unless_there_are_none(channels, name):
    state = pqn.init(random.key(0), pqn.Config(channels=channels, hidden=(8,)), IMAGES)
    assert type(state.network).__name__ == name
    assert pqn.greedy(state, torch.zeros(5, 3, 4, 4)).shape == (5,)


def test_every_activation_is_normalised_unless_told_otherwise():
    count = lambda state: sum(isinstance(m, nn.LayerNorm) for m in state.network.modules())
    for normalization, expected in (("layer", 3), ("none", 0)):
        config = pqn.Config(channels=(4, 4), hidden=(8,), normalization=normalization)
        assert count(pqn.init(random.key(0), config, IMAGES)) == expected


def test_own_networks_are_used_and_checked():
    own = nn.Sequential(nn.Linear(4, 16, device="meta"), nn.ReLU(), nn.Linear(16, 2, device="meta"))
    state = pqn.init(random.key(0), pqn.Config(network=own), CASE.env)
    assert sorted(state.params) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert pqn.update(state, CASE.batch()).metrics["loss"].isfinite()
    message = r"pqn\.init: config\.network must map observations \[B, 4\] to \[B, 2\]"
    for wrong in (nn.Linear(4, 3, device="meta"), nn.Sequential()):
        with pytest.raises(ValueError, match=message):
            pqn.init(random.key(0), pqn.Config(network=wrong), CASE.env)


class Spaces:
    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


BOX = spaces.Box(-1, 1, (3,), np.float32)


@pytest.mark.parametrize(
    ("world", "message"),
    [
        (Spaces(BOX, BOX), r"env\.action_space must be Discrete"),
        (Spaces(BOX, spaces.Discrete(2, start=1)), r"env\.action_space must be Discrete"),
        (Spaces(spaces.Text(3), spaces.Discrete(2)), r"env\.observation_space must be one of Box"),
    ],
)
def test_other_spaces_are_refused(world, message):
    with pytest.raises(ValueError, match=r"pqn\.init: " + message):
        pqn.init(random.key(0), pqn.Config(), world)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"gamma": 1.5}, ValueError, r"gamma must lie in \[0, 1\], got 1\.5"),
        ({"td_lambda": -0.1}, ValueError, "td_lambda must lie in"),
        ({"epsilon": 1.1}, ValueError, "epsilon must lie in"),
        ({"initial_epsilon": math.nan}, ValueError, "initial_epsilon must lie in"),
        ({"exploration_steps": -1.0}, ValueError, "exploration_steps must lie in"),
        ({"max_grad_norm": 0.0}, ValueError, "max_grad_norm must lie in"),
        ({"num_envs": 4.0}, TypeError, r"num_envs must be an integer, got 4\.0\. Write 4\."),
        ({"stride": 0}, ValueError, "stride must be at least 1"),
        ({"num_minibatches": 5}, ValueError, "num_minibatches must divide .* 2048, got 5. Write 4"),
        ({"normalization": "batch"}, ValueError, "normalization must be one of 'layer', 'none'"),
    ],
)
def test_settings_are_checked(changes, error, message):
    with pytest.raises(error, match=r"pqn\.Config: " + message):
        pqn.Config(**changes)


def test_rows_of_different_shapes_are_refused():
    state, batch = CASE.init(), CASE.batch()
    with pytest.raises(ValueError, match=r"pqn\.update: batch\.target must have the shape of batch\.action"):
        pqn.update(state, tree.replace(batch, target=batch.target[:, None]))
