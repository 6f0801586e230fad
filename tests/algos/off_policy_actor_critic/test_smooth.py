"""Smooth exploration of squashed policies."""

import pytest
import torch
from torch import nn

from funcrl.algos import sac, tqc
from funcrl.algos.off_policy_actor_critic import agent, soft
from funcrl.core import random, tree
from tests.algos.off_policy_actor_critic.test_losses import ARM, SMALL, make, make_batch

SMOOTH = {"action_noise": "smooth", "initial_log_std": -1.0}


@pytest.mark.parametrize("name", ["sac", "tqc"])
def test_the_spread_of_a_state_is_made_of_its_features(name):
    state = make(name, **SMOOTH)
    obs = random.normal(random.key(1), (4, 3))
    params = state.params["actor"]
    now = soft.policy(state, params, obs)
    features = now.features.double()
    assert features.shape == (4, 6)
    for row in range(4):
        for d in range(2):
            variance = sum(
                features[row, z] ** 2 * params["log_std"][z, d].double().exp() ** 2 for z in range(6)
            )
            assert now.log_std[row, d].exp().item() == pytest.approx(float(variance + 1e-6) ** 0.5, rel=1e-4)
    assert torch.allclose(params["log_std"], torch.full((6, 2), -1.0))
    expected = features.float() @ params["mean.weight"].T + params["mean.bias"]
    assert torch.allclose(now.mean, expected.clamp(-2, 2), atol=1e-5)


def test_noise_is_one_function_of_the_observation_until_the_next_update():
    state = make("sac", **SMOOTH)
    obs = random.normal(random.key(1), (1, 3)).expand(2, 3)
    # The key of a step does not matter; each environment has a function of its own.
    first, later = (sac.act(state, obs, random.key(seed))[0] for seed in (1, 2))
    assert torch.equal(first, later)
    assert not torch.equal(first[0], first[1])
    after = sac.act(tree.replace(state, step=state.step + 1), obs, random.key(1))[0]
    assert not torch.equal(first, after)


def test_each_sample_by_itself_has_the_distribution_that_is_announced():
    state = make("sac", **SMOOTH)
    obs = random.normal(random.key(1), (1, 3)).expand(20_000, 3)
    now = soft.policy(state, state.params["actor"], obs)
    together = torch.atanh(now.sample(random.key(2)))
    apart = now.sample_before(random.key(3))
    for drawn in (together, apart):
        assert torch.allclose(drawn.mean(dim=0), now.mean[0], atol=0.02)
        assert torch.allclose(drawn.std(dim=0), now.log_std[0].exp(), rtol=0.03)


def test_the_spread_learns_and_gradients_reach_all_of_the_actor():
    state, batch = make("sac", **SMOOTH), make_batch("sac")
    after = sac.update(state, batch)
    for name, leaf in after.params["actor"].items():
        assert not torch.equal(leaf, state.params["actor"][name]), name


def test_the_noise_of_acting_is_none_of_what_updates_draw():
    state = make("sac", **SMOOTH)
    updates = [agent.draw_key(state, purpose) for purpose in range(2)]
    assert not any(torch.equal(agent.exploration_key(state), key) for key in updates)


def test_a_network_of_ones_own_puts_out_the_features():
    config = {**SMALL, **SMOOTH}
    state = sac.init(random.key(0), sac.Config(**config, actor=nn.Linear(3, 6)), ARM)
    assert state.params["actor"]["log_std"].shape == (6, 2)
    with pytest.raises(
        ValueError, match=r"sac.Config: actor must map observations \[B, 3\] to \[B, 6\], got"
    ):
        sac.init(random.key(0), sac.Config(**config, actor=nn.Linear(3, 4)), ARM)


def test_smooth_noise_needs_a_layer_and_a_known_name():
    with pytest.raises(ValueError, match="hidden must name a layer where action_noise is smooth"):
        sac.Config(action_noise="smooth", hidden=())
    with pytest.raises(
        ValueError, match="action_noise must be one of 'independent', 'smooth', got 'state_dependent'"
    ):
        tqc.Config(action_noise="state_dependent")
