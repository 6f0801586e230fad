"""IMPALA's loss against its definition, for experience of another policy."""

import math

import pytest
import torch

from funcrl import nets
from funcrl.algos import impala
from funcrl.algos.policy_gradient import agent
from funcrl.core import random, tree
from funcrl.train import train
from funcrl.train.collect import Window
from funcrl.train.on_policy import minibatches
from tests.algos.table import ON_POLICY
from tests.probes import Choice, Truncating

(CASE,) = (case for case in ON_POLICY if case.id == "impala")


def another_policys():
    """A learner that is not who acted, with an episode that ends and one that is cut off."""
    state, batch = CASE.init(), CASE.batch()
    state = tree.replace(state, params=tree.map(lambda p: 60 * p + 0.1, state.params))
    ends = torch.zeros_like(batch.terminated)
    return state, tree.replace(
        batch,
        terminated=ends.index_put((torch.tensor(0), torch.tensor(2)), torch.tensor(True)),
        truncated=ends.index_put((torch.tensor(1), torch.tensor(3)), torch.tensor(True)),
    )


def test_the_loss_and_its_gradient_are_their_definitions():
    """v_s as the sum (1) over later steps, written out; what is held fixed has no gradient."""
    state, batch = another_policys()
    networks = {
        n: {k: p.double().requires_grad_() for k, p in own.items()} for n, own in state.params.items()
    }
    of = lambda network, obs: nets.apply(getattr(state, network), networks[network], obs.double())
    policy, value = (
        torch.distributions.Categorical(logits=of("actor", batch.obs)),
        of("critic", batch.obs)[..., 0],
    )
    beyond = of("critic", batch.next_obs)[..., 0].detach()
    log_prob = policy.log_prob(batch.action)
    ratio = torch.exp(log_prob - batch.log_prob.double()).detach()
    assert float(ratio.max()) > 1.2
    rho, c, gamma = ratio.clamp(max=1.2), ratio.clamp(max=1.0), 0.99
    num_envs, length = ratio.shape
    total = 0.0
    for n in range(num_envs):
        over = batch.terminated[n] | batch.truncated[n]
        end = lambda s, over=over: next((t for t in range(s, length) if over[t]), length - 1)
        after = lambda t, n=n: 0.0 if batch.terminated[n, t] else float(beyond[n, t])
        now = value[n].detach()
        delta = [
            float(rho[n, t]) * (float(batch.reward[n, t]) + gamma * after(t) - float(now[t]))
            for t in range(length)
        ]
        goal = [
            float(now[s])
            + sum(
                gamma ** (t - s) * math.prod(float(c[n, i]) for i in range(s, t)) * delta[t]
                for t in range(s, end(s) + 1)
            )
            for s in range(length)
        ]
        for s in range(length):
            later = goal[s + 1] if s < end(s) else after(s)
            advantage = float(rho[n, s]) * (float(batch.reward[n, s]) + gamma * later - float(now[s]))
            total = total - advantage * log_prob[n, s] + 0.5 * 0.5 * (goal[s] - value[n, s]) ** 2
    total = total / (num_envs * length) - 0.01 * policy.entropy().mean()
    found, figures = impala.loss(state.params, state, batch)
    assert float(found) == pytest.approx(float(total.detach()), rel=1e-4)
    assert float(figures["rho"]) == pytest.approx(float(rho.mean()), rel=1e-4)
    total.backward()
    grads = torch.func.grad(lambda p: impala.loss(p, state, batch)[0])(state.params)
    for name, own in networks.items():
        for k, p in own.items():
            assert torch.allclose(grads[name][k].double(), p.grad, rtol=1e-3, atol=1e-5), k


def test_a_whole_update_equals_torchs_autograd_and_rmsprop():
    state, batch = another_policys()
    networks = {n: {k: p.clone().requires_grad_() for k, p in own.items()} for n, own in state.params.items()}
    flat = [p for own in networks.values() for p in own.values()]
    impala.loss(networks, state, batch)[0].backward()
    norm = torch.nn.utils.clip_grad_norm_(flat, 0.5)
    torch.optim.RMSprop(flat, lr=3e-3, alpha=0.99, eps=1e-5).step()
    updated = impala.update(state, batch)
    for new, expected in zip(tree.leaves(updated.params), tree.leaves(networks), strict=True):
        assert torch.allclose(new, expected, atol=1e-6)
    assert float(updated.metrics["grad_norm"]) == pytest.approx(float(norm), rel=1e-5)


def test_on_its_own_policys_steps_it_is_a2c():
    """With ratios of 1, v is the return to the end of the window."""
    state, batch = CASE.init(), CASE.batch()
    _, figures = impala.loss(state.params, state, batch)
    assert float(figures["rho"]) == pytest.approx(1.0, abs=1e-6)
    window = CASE.window()
    _, advantage = agent.advantages(state, window, torch.tensor(1.0))
    policy = agent.policy(state, state.params, window.obs)
    expected = -(policy.log_prob(window.action) * advantage).mean()
    assert float(figures["policy_loss"]) == pytest.approx(float(expected), rel=1e-4)
    assert float(figures["value_loss"]) == pytest.approx(float(0.5 * (advantage**2).mean()), rel=1e-4)


def test_minibatches_are_made_of_whole_environments():
    """Each row of a minibatch is one environment's window in order, and each environment is in one of them."""
    window = CASE.window()
    number = torch.arange(6.0)[:, None] + 100 * torch.arange(4.0)
    rows, *_ = minibatches(
        impala,
        CASE.init(),
        Window(tree.replace(window, reward=number), torch.zeros_like(number)),
        random.key(3),
        torch.zeros((), dtype=torch.int32),
    )
    # Two passes of two minibatches of two environments.
    assert rows.reward.shape == (4, 2, 6)
    env = rows.reward[..., 0].sort(dim=-1).values / 100
    assert torch.equal(rows.reward, rows.reward[..., :1] + torch.arange(6.0))
    assert env.reshape(2, 4).sort(dim=-1).values.tolist() == [[0, 1, 2, 3]] * 2


SETTINGS = {
    "num_envs": 64,
    "window_length": 4,
    "num_epochs": 4,
    "hidden": (16,),
    "learning_rate": 0.02,
    "anneal_steps": 0.0,
    "max_grad_norm": 10.0,
}


def learn(env, num_windows, **changes):
    """Many environments and few, large updates: they need not be recorded to be fast."""
    config = impala.Config(**(SETTINGS | changes))
    return train(
        impala, env, config=config, seeds=range(2), num_steps=256 * num_windows, backend="eager"
    ).states


def test_probe_a_truncated_episode_still_bootstraps():
    states = learn(Truncating(), 6, gamma=0.5)
    found = torch.vmap(lambda s: agent.value(s, s.params, torch.tensor([1.0])))(states)
    assert found.tolist() == pytest.approx([2.0] * 2, abs=0.1)


def test_probe_actions_follow_observations():
    states = learn(Choice(), 6)
    for sign, right in ((1.0, 1), (-1.0, 0)):
        chosen = torch.vmap(lambda s, sign=sign: impala.greedy(s, torch.tensor([sign])))(states)
        assert chosen.tolist() == [right] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_minibatches": 3}, "num_minibatches must divide num_envs = 8, got 3. Write 2."),
        ({"clip_rho": 0.0}, "clip_rho must lie in"),
        ({"trace_lambda": 2.0}, "trace_lambda must lie in"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ValueError, match=r"impala\.Config: " + message):
        impala.Config(**changes)
