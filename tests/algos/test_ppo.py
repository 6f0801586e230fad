"""PPO's equations against naive definitions, and PPO on environments whose answers are known."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from funcrl import envs, nets
from funcrl.algos import ppo
from funcrl.core import random, tree
from funcrl.train import acting, train
from funcrl.train.collect import act_and_step
from tests.algos.table import ON_POLICY
from tests.probes import Aim, Choice, Delayed, Lock, Truncating

(CASE,) = (case for case in ON_POLICY if case.id == "ppo")


def rows(seed, num, columns):
    return [random.normal(k, (num,)).double() for k in random.split(random.key(seed), columns)]


@given(st.integers(0, 2**31), st.integers(1, 20), st.floats(0.01, 0.5))
def test_clipped_objective_is_equation_7(seed, num, epsilon):
    new, old, advantage = rows(seed, num, 3)
    total = 0.0
    for i in range(num):
        ratio = math.exp(float(new[i]) - float(old[i]))
        clipped = min(max(ratio, 1 - epsilon), 1 + epsilon)
        total += min(ratio * float(advantage[i]), clipped * float(advantage[i]))
    found = ppo.clipped_objective(new, old, advantage, torch.tensor(epsilon, dtype=torch.float64))
    assert float(found) == pytest.approx(total / num)


@given(st.integers(0, 2**31), st.integers(1, 20), st.floats(0.01, 0.5), st.booleans())
def test_value_loss_is_its_definition(seed, num, epsilon, clip):
    value, old, target = rows(seed, num, 3)
    total = 0.0
    for v, o, r in zip(value.tolist(), old.tolist(), target.tolist(), strict=True):
        error = (v - r) ** 2
        if clip:
            error = max(error, (min(max(v, o - epsilon), o + epsilon) - r) ** 2)
        total += 0.5 * error
    found = ppo.value_loss(value, old, target, torch.tensor(epsilon, dtype=torch.float64), clip)
    assert float(found) == pytest.approx(total / num)


def test_the_gradient_vanishes_where_clipping_says_so():
    """A ratio beyond 1 + ε with a positive advantage, or below 1 - ε with a negative one, is at rest."""
    f = torch.func.grad(ppo.clipped_objective)
    zero, epsilon = torch.zeros(1), torch.tensor(0.2)
    for log_ratio, advantage, at_rest in [
        (0.5, 1.0, True),
        (-0.5, -1.0, True),
        (0.5, -1.0, False),
        (0.1, 1.0, False),
    ]:
        slope = f(torch.tensor([log_ratio]), zero, torch.tensor([advantage]), epsilon)
        assert (float(slope) == 0.0) == at_rest


def test_loss_is_equation_9_from_first_principles():
    state, batch = CASE.init(), CASE.batch()
    _, figures = ppo.loss(state.params, state, batch)
    # The parameters are those that collected the batch: the ratio is one, nothing is clipped.
    assert float(figures["kl"]) == pytest.approx(0.0, abs=1e-6)
    assert float(figures["clip_fraction"]) == 0.0

    params = tree.map(lambda p: 20 * p, state.params)
    found, figures = ppo.loss(params, state, batch)
    logits = nets.apply(state.actor, params["actor"], batch.obs).double()
    value = nets.apply(state.critic, params["critic"], batch.obs).double()[:, 0]
    policy = torch.distributions.Categorical(logits=logits)
    advantage = batch.advantage.double()
    advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
    ratio = torch.exp(policy.log_prob(batch.action) - batch.log_prob.double())
    objective = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    assert abs(float(objective)) > 1e-3
    assert float(figures["policy_loss"]) == pytest.approx(-float(objective), rel=1e-3)
    old, target = batch.value.double(), batch.target.double()
    clipped = old + (value - old).clamp(-0.2, 0.2)
    error = 0.5 * torch.maximum((value - target) ** 2, (clipped - target) ** 2).mean()
    expected = -objective + 0.5 * error - 0.01 * policy.entropy().mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    assert float(figures["clip_fraction"]) == pytest.approx(float(((ratio - 1).abs() > 0.2).double().mean()))
    assert float(figures["kl"]) == pytest.approx(float((ratio - 1 - ratio.log()).mean()), rel=1e-4)


def test_a_whole_update_equals_torchs_autograd_and_adam():
    state, batch = CASE.init(), CASE.batch()
    params = {
        f"{network}.{name}": p.clone().requires_grad_()
        for network, named in state.params.items()
        for name, p in named.items()
    }
    nested = {n: {k.split(".", 1)[1]: p for k, p in params.items() if k.startswith(n)} for n in state.params}
    ppo.loss(nested, state, batch)[0].backward()
    norm = torch.nn.utils.clip_grad_norm_(params.values(), 0.5)
    torch.optim.Adam(params.values(), lr=2.5e-4, eps=1e-5).step()
    updated = ppo.update(state, batch)
    for network, named in updated.params.items():
        for name, p in named.items():
            assert torch.allclose(p, params[f"{network}.{name}"], atol=1e-7)
    assert float(updated.metrics["grad_norm"]) == pytest.approx(float(norm), rel=1e-5)


class RulesOut(nn.Module):
    """Logits of which the first is -inf wherever the first number of an observation is positive."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, obs):
        ruled_out = (obs[..., :1] > 0) & torch.tensor([True, False])
        return self.linear(obs).masked_fill(ruled_out, -torch.inf)


@pytest.mark.parametrize("entropy_weight", [0.0, 0.01])
def test_an_action_that_the_actor_rules_out_leaves_the_agent_finite(entropy_weight):
    """An update with a logit of -inf is the one with -1e9 in its place, bit for bit."""

    class Unlikely(RulesOut):
        def forward(self, obs):
            return super().forward(obs).clamp(min=-1e9)

    found = []
    for actor in (RulesOut(), Unlikely()):
        config = tree.replace(CASE.config, actor=actor, entropy_weight=entropy_weight)
        case = CASE.with_config(config)
        batch = case.batch()
        impossible = batch.obs[:, 0] > 0
        assert 0 < int(impossible.sum()) < len(impossible)
        assert (batch.action[impossible] == 1).all()
        state = case.init()
        for _ in range(3):
            state = ppo.update(state, batch)
        found.append((state.params, state.metrics))
    for own, likely in zip(*map(tree.leaves, found), strict=True):
        assert own.isfinite().all()
        assert torch.equal(own, likely)


def controlled(kl_control, **changes):
    """PPO whose steps on a window are so long that its KL grows fast."""
    own = {"kl_control": kl_control, "learning_rate": 0.05, "anneal_steps": math.inf} | changes
    case = CASE.with_config(tree.replace(CASE.config, **own))
    state, batch = case.init(), case.batch()
    # Two minibatches and four passes: eight steps on a window.
    return state, [tree.index(batch, slice(12 * (i % 2), 12 * (i % 2) + 12)) for i in range(16)]


def test_a_window_is_stopped_at_once_its_kl_is_too_large_and_the_next_one_begins_anew():
    plain, batches = controlled("none")
    state, _ = controlled("stop", target_kl=0.02)
    limit, stopped = 1.5 * 0.02, []
    for i, batch in enumerate(batches):
        before = state.params
        state = ppo.update(state, batch)
        stopped.append(all(map(torch.equal, tree.leaves(before), tree.leaves(state.params))))
        if not any(stopped):
            plain = ppo.update(plain, batch)
            assert all(map(torch.equal, tree.leaves(plain.params), tree.leaves(state.params)))
        if i in (0, 8):
            # The KL of old policies, those of the batch: at a window's beginning it is not always small here.
            assert stopped[i] == (float(state.metrics["kl"]) > limit)
    assert state.step == 16
    first = stopped.index(True)
    assert 0 < first < 7
    assert all(stopped[first:8])


def test_the_penalty_is_equation_8_and_doubles_or_halves_after_a_window():
    state, batches = controlled("penalty", entropy_weight=0.0, value_weight=0.0, normalize_advantage=False)
    params = tree.map(lambda p: 20 * p, state.params)
    state = tree.replace(state, kl_control=torch.tensor(3.0))
    batch = batches[0]
    logits = nets.apply(state.actor, params["actor"], batch.obs).double()
    total = 0.0
    for i in range(12):
        log_ratio = float(torch.log_softmax(logits[i], -1)[batch.action[i]]) - float(batch.log_prob[i])
        ratio = math.exp(log_ratio)
        total += ratio * float(batch.advantage[i]) - 3.0 * (ratio - 1 - log_ratio)
    assert float(ppo.loss(params, state, batch)[0]) == pytest.approx(-total / 12, rel=1e-4)
    for target, factor in ((1e-6, 2.0), (1e6, 0.5)):
        agent, seen = (
            tree.replace(state, config=tree.replace(state.config, target_kl=torch.tensor(target))),
            [],
        )
        for batch in batches:
            agent = ppo.update(agent, batch)
            seen.append(float(agent.kl_control))
        assert seen == [3.0] * 7 + [3.0 * factor] * 8 + [3.0 * factor**2]


def test_the_clip_range_may_fall_with_the_learning_rate():
    settings = {"anneal_clip_range": True, "anneal_steps": 4 * 24.0}
    state, batch = CASE.init(config=tree.replace(CASE.config, **settings)), CASE.batch()
    params = tree.map(lambda p: 20 * p, state.params)
    # Three of four windows of 24 steps, 8 updates each, are over.
    late = tree.replace(state, step=state.step + 3 * 8)
    quarter = CASE.init(config=tree.replace(CASE.config, clip_range=0.05))
    (found, figures), (expected, other) = (ppo.loss(params, s, batch) for s in (late, quarter))
    assert torch.equal(found, expected)
    assert torch.equal(figures["clip_fraction"], other["clip_fraction"])
    assert not torch.equal(found, ppo.loss(params, state, batch)[0])


def test_prepare_bootstraps_from_where_a_truncated_step_led():
    state, window = CASE.init(), CASE.window()
    cut = tree.replace(
        window, truncated=torch.ones_like(window.truncated), terminated=torch.zeros_like(window.terminated)
    )
    value = lambda obs: nets.apply(state.critic, state.params["critic"], obs)[..., 0]
    expected = cut.reward + 0.99 * value(cut.next_obs)
    assert torch.allclose(ppo.prepare(state, cut).target, expected.flatten(), atol=1e-5)
    died = tree.replace(cut, terminated=cut.truncated)
    assert torch.allclose(ppo.prepare(state, died).target, died.reward.flatten(), atol=1e-5)


def test_the_learning_rate_falls_window_by_window_to_zero():
    config = ppo.Config(num_envs=2, window_length=4, num_epochs=2, num_minibatches=2, anneal_steps=24.0)
    state, rates = CASE.init(config=config), []
    batch = tree.index(CASE.batch(), slice(0, 4))
    for _ in range(14):
        state = ppo.update(state, batch)
        rates.append(float(state.metrics["learning_rate"]) / 2.5e-4)
    assert rates == pytest.approx([1.0] * 4 + [2 / 3] * 4 + [1 / 3] * 4 + [0.0] * 2, abs=1e-6)


@pytest.mark.parametrize("anneal_steps", [0.0, math.inf])
def test_without_a_length_the_learning_rate_stays(anneal_steps):
    state = CASE.init(config=tree.replace(CASE.config, anneal_steps=anneal_steps))
    for _ in range(40):
        state = ppo.update(state, CASE.batch())
    assert float(state.metrics["learning_rate"]) == pytest.approx(2.5e-4)


def test_the_policy_has_the_networks_probabilities():
    state = CASE.init()
    params = tree.map(lambda p: 30 * p, state.params["actor"])
    state = tree.replace(state, params=state.params | {"actor": params})
    obs = torch.tensor([0.5, -0.2, 0.1, 0.3])
    keys = random.split(random.key(0), 4000)
    action, extras = torch.vmap(lambda k: ppo.act(state, obs, k))(keys)
    probability = torch.softmax(nets.apply(state.actor, params, obs), -1)
    assert float(action.float().mean()) == pytest.approx(float(probability[1]), abs=0.03)
    assert torch.allclose(extras["log_prob"].exp(), probability[action])
    assert int(ppo.greedy(state, obs)) == int(probability.argmax())


QUICK = {
    "num_envs": 64,
    "window_length": 4,
    "num_epochs": 8,
    "num_minibatches": 1,
    "hidden": (16,),
    "learning_rate": 0.05,
    "anneal_steps": 0.0,
    "clip_value_loss": False,
    "max_grad_norm": 10.0,
}


def learn(env, num_iterations=5, **changes):
    """Many environments and few, large updates: they need not be recorded to be fast."""
    config = ppo.Config(**(QUICK | changes))
    return train(ppo, env, config=config, seeds=range(3), num_steps=256 * num_iterations, backend="eager")


def values(states, obs):
    return torch.vmap(lambda s: nets.apply(s.critic, s.params["critic"], torch.tensor([obs])))(states)[:, 0]


def test_probe_a_truncated_episode_still_bootstraps():
    states = learn(Truncating(), gamma=0.5).states
    # Taking the time limit for an end would give at most 1 + γ = 1.5.
    assert values(states, 1.0).tolist() == pytest.approx([2.0] * 3, abs=0.1)


def test_probe_rewards_are_discounted():
    states = learn(Delayed(), gamma=0.5).states
    assert values(states, 0.0).tolist() == pytest.approx([0.5] * 3, abs=0.1)
    assert values(states, 1.0).tolist() == pytest.approx([1.0] * 3, abs=0.1)


def test_probe_actions_follow_observations():
    result = learn(Choice())
    for sign, right in ((1.0, 1), (-1.0, 0)):
        chosen = torch.vmap(lambda s, sign=sign: ppo.greedy(s, torch.tensor([sign])))(result.states)
        assert chosen.tolist() == [right] * 3
    assert (result.returns[:, -1] > 0.9).all()


BOX = spaces.Box(-1, 1, (3,), np.float32)
ANY = spaces.Box(-np.inf, np.inf, (3,), np.float32)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_probe_several_choices_at_once(sign, locks):
    chosen = torch.vmap(lambda s: ppo.greedy(s, torch.tensor([sign])))(locks)
    assert chosen.tolist() == [[6, 2] if sign > 0 else [5, 0]] * 3


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_probe_real_actions_within_bounds_of_their_own(sign, aims):
    aimed = torch.vmap(lambda s: ppo.greedy(s, torch.tensor([sign])))(aims)
    # Within a tenth of each dimension's width.
    assert torch.allclose(aimed[:, 0], torch.tensor(0.5 * sign), atol=0.2)
    assert torch.allclose(aimed[:, 1], torch.tensor(500.0 + 300.0 * sign), atol=100.0)


@pytest.fixture(scope="module")
def locks():
    return learn(Lock()).states


@pytest.fixture(scope="module")
def aims():
    return learn(Aim(), 12).states


@pytest.mark.parametrize(
    "action_space",
    [
        spaces.Discrete(3, start=-4),
        spaces.MultiBinary((2, 2)),
        spaces.Box(-np.inf, np.inf, (), np.float32),
        spaces.Tuple([spaces.Discrete(2), ANY]),
        spaces.Dict({"steer": ANY, "gear": spaces.Discrete(3, start=1)}),
    ],
    ids=repr,
)
def test_every_action_space_is_acted_in_and_learnt_in(action_space):
    class Acting(Choice):
        def reward(self, state, action, next_state, key):
            return state[0]

    env = Acting()
    object.__setattr__(env, "action_space", action_space)
    config = ppo.Config(num_envs=2, window_length=4, num_minibatches=1, hidden=(8,))
    state = ppo.init(random.key(0), config, env)
    running = envs.reset_all(env, random.split(random.key(1), 2))
    rows = []
    for key in random.split(random.key(2), 4):
        running, _, row = act_and_step(acting.learning(ppo), env, state, running, (), key)
        rows.append(row.transition)
        one = tree.map(lambda x: x[0].numpy(), row.transition.action)
        assert action_space.contains(one), one
    batch = ppo.prepare(state, tree.stack(rows))
    updated = ppo.update(state, batch)
    assert all(x.isfinite().all() for x in tree.leaves(updated.metrics))
    for name in ("actor", "head"):
        for before, after in zip(*(tree.leaves(x.params[name]) for x in (state, updated)), strict=True):
            assert not torch.equal(before, after)


class Spaces:
    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


@pytest.mark.parametrize("action_space", [spaces.Text(3), spaces.Box(0, 9, (3,), np.int64)])
def test_other_action_spaces_are_refused(action_space):
    with pytest.raises(ValueError, match=r"ppo\.init: env\.action_space must be Discrete, MultiDiscrete"):
        ppo.init(random.key(0), ppo.Config(), Spaces(BOX, action_space))


def test_other_observation_spaces_are_refused():
    with pytest.raises(ValueError, match=r"ppo\.init: env\.observation_space must be one of Box"):
        ppo.init(random.key(0), ppo.Config(), Spaces(spaces.Text(3), spaces.Discrete(2)))


def test_own_networks_are_used_and_checked():
    own = nn.Sequential(nn.Linear(4, 16, device="meta"), nn.ReLU(), nn.Linear(16, 2, device="meta"))
    state = ppo.init(random.key(0), ppo.Config(actor=own), envs.make("CartPole-v1"))
    assert sorted(state.params["actor"]) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert ppo.update(state, CASE.batch()).metrics["entropy"].isfinite()
    wrong = nn.Linear(4, 3, device="meta")
    with pytest.raises(
        ValueError, match=r"ppo\.init: config\.actor must map observations \[B, 4\] to \[B, 2\]"
    ):
        ppo.init(random.key(0), ppo.Config(actor=wrong), envs.make("CartPole-v1"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"gamma": 1.5}, ValueError, r"gamma must lie in \[0, 1\], got 1\.5"),
        ({"gamma": math.nan}, ValueError, "gamma must lie in"),
        ({"gae_lambda": -0.1}, ValueError, "gae_lambda must lie in"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate must lie in"),
        ({"clip_range": 0.0}, ValueError, "clip_range must lie in"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number, got 'fast'"),
        ({"num_envs": 4.0}, TypeError, r"num_envs must be an integer, got 4\.0\. Write 4\."),
        ({"num_envs": 0}, ValueError, "num_envs must be at least 1"),
        ({"num_minibatches": 5}, ValueError, "num_minibatches must divide .* 512, got 5. Write 4"),
        ({"normalize_advantage": "no"}, TypeError, "normalize_advantage must be True or False, got 'no'"),
        ({"hidden": 64.5}, TypeError, "hidden must be a tuple"),
        ({"hidden": (64, 0)}, ValueError, "hidden must be at least 1"),
        ({"num_minibatches": True}, TypeError, "num_minibatches must be an integer"),
    ],
)
def test_settings_are_checked(changes, error, message):
    with pytest.raises(error, match=r"ppo\.Config: " + message):
        ppo.Config(**changes)


@pytest.mark.parametrize(
    "actor",
    [nn.Flatten(), nn.Sequential(), lambda x: x, nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(3, 2))],
)
def test_networks_that_cannot_serve_are_refused(actor):
    with pytest.raises((ValueError, TypeError), match=r"ppo\.init: config\.actor must"):
        ppo.init(random.key(0), ppo.Config(actor=actor), envs.make("CartPole-v1"))


def test_rows_of_different_shapes_are_refused():
    state, batch = CASE.init(), CASE.batch()
    with pytest.raises(
        ValueError, match=r"ppo\.update: batch\.advantage must have one number for each action"
    ):
        ppo.update(state, tree.replace(batch, advantage=batch.advantage[:, None]))
