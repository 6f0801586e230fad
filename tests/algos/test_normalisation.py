"""What agents know of their observations and rewards, against naive sums, and what they make of it."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from funcrl import envs
from funcrl.algos import a2c, ppo, reinforce
from funcrl.algos.policy_gradient import agent
from funcrl.core import Transition, random, tree
from funcrl.train import evaluate, train

BOTH = {"normalize_observation": True, "normalize_reward": True}
SMALL = {"num_envs": 2, "window_length": 6, "hidden": (8,), "gamma": 0.5}


def windows(num=3, seed=0):
    """Observations around 100 and rewards around 7, with ends of both kinds."""
    for key in random.split(random.key(seed), num):
        k_obs, k_reward, k_end, k_cut = random.split(key, 4)
        obs = 100 + 3 * random.normal(k_obs, (6, 2, 4))
        end, cut = random.bernoulli(k_end, 0.2, (6, 2)), random.bernoulli(k_cut, 0.2, (6, 2))
        reward = 7 + random.normal(k_reward, (6, 2))
        extras = {"log_prob": torch.full((6, 2), -0.7)}
        yield Transition(obs, torch.zeros(6, 2, dtype=torch.int64), reward, end, cut & ~end, obs + 1, extras)


def make(module, **settings):
    return module.init(random.key(0), module.Config(**SMALL, **settings), envs.make("CartPole-v1"))


def test_moments_are_those_of_all_steps_of_all_windows():
    state, seen, sums, running = make(ppo, **BOTH), [], [], [0.0, 0.0]
    for window in windows():
        state = ppo.observe(state, window)
        seen.append(window.obs.flatten(0, 1).double())
        for t in range(6):
            for n in range(2):
                running[n] = 0.5 * running[n] + float(window.reward[t, n])
                sums.append(running[n])
                if window.terminated[t, n] or window.truncated[t, n]:
                    running[n] = 0.0
    (held,), rows = state.known.observation, torch.cat(seen)
    assert torch.allclose(held.mean.double(), rows.mean(0), atol=1e-4)
    assert torch.allclose(held.variance.double(), rows.var(0, correction=0), rtol=1e-4)
    assert float(state.known.reward.variance) == pytest.approx(np.var(sums), rel=1e-4)
    assert state.known.discounted.tolist() == pytest.approx(running, rel=1e-5)
    # Networks see it in these units, at most ten of them.
    one = tree.replace(state, known=())
    obs = torch.stack([rows[0], rows[1] + 1e6]).float()
    own = ((obs - held.mean) / held.variance.sqrt()).clamp(-10, 10)
    assert torch.allclose(agent.value(state, state.params, obs), agent.value(one, one.params, own), atol=1e-5)
    assert torch.allclose(
        agent.policy(state, state.params, obs).logits, agent.policy(one, one.params, own).logits, atol=1e-5
    )


@pytest.mark.parametrize("module", [ppo, a2c, reinforce])
def test_what_is_learnt_from_is_in_units_of_the_returns(module):
    first, second = windows(2)
    state = module.observe(make(module, normalize_reward=True), first)
    plain = tree.replace(state, known=())
    scale = float(state.known.reward.variance) ** 0.5
    assert scale > 1.5
    scaled = tree.replace(second, reward=second.reward / scale)
    assert torch.allclose(
        module.prepare(state, second).target, module.prepare(plain, scaled).target, atol=1e-4
    )


def test_the_ratio_of_probabilities_begins_at_one_in_every_window():
    """A window is prepared and learnt from with the moments that it was collected with."""
    config = ppo.Config(**SMALL, **BOTH, num_epochs=1, num_minibatches=1)
    result = train("ppo", "CartPole-v1", config=config, seeds=[0, 1], num_steps=60, backend="eager")
    assert result.metrics["kl"].abs().max() < 1e-6
    assert (result.metrics["clip_fraction"] == 0).all()
    assert result.states.known.reward.count.tolist() == [60.0] * 2


def test_lanes_have_moments_of_their_own():
    config = ppo.Config(**SMALL, **BOTH)
    given = {"config": config, "num_steps": 60, "backend": "eager"}
    together = train("ppo", "CartPole-v1", seeds=[0, 1, 2], **given)
    alone = train("ppo", "CartPole-v1", seeds=[2], **given)
    pairs = zip(
        tree.leaves(tree.index(together.states, 2)), tree.leaves(tree.index(alone.states, 0)), strict=True
    )
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)
    returns = evaluate("ppo", "CartPole-v1", together.states, num_episodes=2, backend="eager")
    assert torch.equal(
        evaluate("ppo", "CartPole-v1", alone.states, num_episodes=2, backend="eager")[0], returns[2]
    )


def test_only_floats_are_brought_to_one_scale():
    class Spaces:
        action_space = spaces.Discrete(2)
        observation_space = spaces.Dict(
            here=spaces.Box(-1, 1, (2,)),
            image=spaces.Box(0, 255, (9, 9, 3), np.uint8),
            pair=spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, ()))),
        )

    state = ppo.init(random.key(0), ppo.Config(**SMALL, normalize_observation=True), Spaces())
    assert state.known.paths == (("here",), ("pair", 1))
    assert state.known.reward == ()
    assert [held.mean.shape for held in state.known.observation] == [(2,), ()]


def test_without_it_there_is_nothing_and_no_program_more():
    assert make(ppo).known == ()
    assert not ppo.observes(make(ppo))
    assert ppo.observes(make(ppo, normalize_reward=True))
