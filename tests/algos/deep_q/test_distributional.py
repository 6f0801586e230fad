"""C51 and QR-DQN: losses against naive ones in float64, what they learn of a return that is known, bad input."""

import math

import pytest
import torch
from torch import nn

from funcrl import envs, nets
from funcrl.algos import c51, qr_dqn
from funcrl.core import ReplayBatch, random, tree

CARTPOLE = envs.make("CartPole-v1")
SMALL = {"batch_size": 6, "hidden": (8, 8)}
SIZES = {c51: {"num_atoms": 5, "v_min": -1.0, "v_max": 2.0}, qr_dqn: {"num_quantiles": 5}}
modules = pytest.mark.parametrize("module", SIZES, ids=lambda m: m.__name__.rpartition(".")[2])
WEIGHT = torch.linspace(0.2, 1.0, 6)


def make(module, **settings):
    """An agent whose target network is not its own."""
    state = module.init(random.key(3), module.Config(**SMALL | SIZES[module] | settings), CARTPOLE)
    return tree.replace(state, target_params=nets.begin_whole(state.network, random.key(77)))


def make_batch(size=6):
    k_obs, k_next, k_reward, k_action, k_end = random.split(random.key(8), 5)
    return ReplayBatch(
        obs=random.normal(k_obs, (size, 4)),
        action=random.randint(k_action, (size,), 0, 2),
        reward=random.normal(k_reward, (size,)),
        discount=torch.where(random.bernoulli(k_end, 0.4, (size,)), 0.0, 0.9),
        next_obs=random.normal(k_next, (size, 4)),
        weight=WEIGHT[:size],
    )


def numbers(state, params, obs):
    """θ(s, ·) in float64, a list for each action."""
    wide = {name: p.double() for name, p in params.items()}
    return nets.apply(state.network, wide, obs.double()).reshape(2, -1)


def naive_c51(state, params, batch, i):
    """Algorithm 1 of the paper, for one row: the cross-entropy, and the divergence."""
    z = [-1.0 + 0.75 * k for k in range(5)]
    after = torch.softmax(numbers(state, state.target_params, batch.next_obs[i]), dim=-1).tolist()
    best = max(range(2), key=lambda a: sum(p * x for p, x in zip(after[a], z, strict=True)))
    mass = [0.0] * 5
    for p, x in zip(after[best], z, strict=True):
        place = (min(max(float(batch.reward[i]) + float(batch.discount[i]) * x, -1.0), 2.0) + 1.0) / 0.75
        below = min(math.floor(place), 3)
        mass[below] += p * (below + 1 - place)
        mass[below + 1] += p * (place - below)
    log_p = torch.log_softmax(numbers(state, params, batch.obs[i])[batch.action[i]], dim=-1)
    loss = -sum(m * x for m, x in zip(mass, log_p, strict=True))
    return loss, float(loss.detach()) + sum(m * math.log(m) for m in mass if m > 0)


def naive_qr_dqn(state, params, batch, i, threshold=1.0):
    """Algorithm 1 of the paper, for one row: the loss, and the error of the mean."""
    after = numbers(state, state.target_params, batch.next_obs[i])
    best = max(range(2), key=lambda a: sum(after[a].tolist()))
    goal = [float(batch.reward[i]) + float(batch.discount[i]) * x for x in after[best].tolist()]
    own = numbers(state, params, batch.obs[i])[batch.action[i]]
    loss = 0.0
    for k in range(5):
        for y in goal:
            u = y - own[k]
            size = (
                abs(u) if threshold == 0 else 0.5 * u**2 if abs(u) <= threshold else abs(u) - 0.5 * threshold
            )
            loss = loss + abs((2 * k + 1) / 10 - float(u < 0)) * size / 5
    return loss, abs(sum(goal) - float(own.detach().sum())) / 5


NAIVE = {c51: naive_c51, qr_dqn: naive_qr_dqn}


@modules
def test_an_update_is_a_step_of_adam_on_the_papers_loss(module):
    state, batch = make(module, learning_rate=0.01), make_batch()
    params = {name: p.double().requires_grad_() for name, p in state.params.items()}
    rows = [NAIVE[module](state, params, batch, i) for i in range(6)]
    loss = sum(float(w) * row for w, (row, _) in zip(WEIGHT, rows, strict=True)) / 6
    optimizer = torch.optim.Adam(list(params.values()), lr=0.01, eps=1e-8)
    loss.backward()
    optimizer.step()
    after = module.update(state, batch)
    assert float(after.metrics["loss"]) == pytest.approx(float(loss.detach()), rel=1e-4)
    assert after.td_error.tolist() == pytest.approx([error for _, error in rows], rel=1e-3, abs=1e-5)
    for name, p in params.items():
        assert torch.allclose(after.params[name].double(), p, atol=1e-4), name


def test_without_a_threshold_qr_dqn_has_the_plain_quantile_loss():
    state, batch = make(qr_dqn, huber_threshold=0.0), make_batch()
    rows = [float(naive_qr_dqn(state, state.params, batch, i, threshold=0.0)[0]) for i in range(6)]
    expected = sum(float(w) * row for w, row in zip(WEIGHT, rows, strict=True)) / 6
    assert float(qr_dqn.update(state, batch).metrics["loss"]) == pytest.approx(expected, rel=1e-4)


@modules
def test_actions_and_q_are_those_of_the_means(module):
    state, obs = make(module), random.normal(random.key(1), (50, 4))
    mean = []
    for row in obs:
        found = numbers(state, state.params, row)
        if module is c51:
            found = torch.softmax(found, -1) * 5 * torch.linspace(-1, 2, 5).double()
        mean.append(found.mean(-1))
    assert torch.equal(module.greedy(state, obs), torch.stack(mean).argmax(-1))
    cold = make(module, exploration="boltzmann", initial_temperature=1e-6, temperature=1e-6)
    assert torch.equal(module.act(cold, obs, random.key(2))[0], torch.stack(mean).argmax(-1))
    batch = tree.replace(make_batch(), obs=obs[:6])
    expected = torch.stack(mean)[torch.arange(6), batch.action].mean()
    assert float(module.update(state, batch).metrics["q"]) == pytest.approx(float(expected), rel=1e-4)


def one_state(reward, discount):
    """Rows that all begin and end in the same state and took the first action."""
    size = len(reward)
    obs = torch.ones(size, 4)
    return ReplayBatch(
        obs=obs,
        action=torch.zeros(size, dtype=torch.int64),
        reward=torch.tensor(reward),
        discount=torch.full((size,), discount),
        next_obs=obs,
        weight=torch.ones(size),
    )


def learn(module, batch, num_updates, **settings):
    settings = {"batch_size": 8, "learning_rate": 0.1, "target_period": 5, "hidden": ()} | settings
    state = make(module, **settings)
    for _ in range(num_updates):
        state = module.update(state, batch)
    return state


def test_c51_learns_how_often_each_reward_comes():
    state = learn(c51, one_state([0.5] * 2 + [2.0] * 6, 0.0), 100)
    found = torch.softmax(numbers(state, state.params, torch.ones(4))[0], -1)
    assert found.tolist() == pytest.approx([0.0, 0.0, 0.25, 0.0, 0.75], abs=0.02)
    # The loss is then the entropy of the rewards, and there is nothing left to learn.
    assert float(state.metrics["loss"]) == pytest.approx(
        -0.25 * math.log(0.25) - 0.75 * math.log(0.75), abs=0.01
    )
    assert float(state.td_error.max()) > 1.0  # of rows that each know one reward only
    assert float(learn(c51, one_state([0.5] * 8, 0.0), 100).td_error.max()) < 0.01


def test_qr_dqn_learns_the_quantiles_of_the_rewards():
    # τ̂ = 0.1, 0.3, 0.5, 0.7, 0.9 of -1 (a quarter), 1 (a half) and 3 (a quarter).
    batch = one_state([-1.0] * 2 + [1.0] * 4 + [3.0] * 2, 0.0)
    state = learn(qr_dqn, batch, 200, huber_threshold=0.0, learning_rate=0.02)
    found = numbers(state, state.params, torch.ones(4))[0]
    assert found.tolist() == pytest.approx([-1.0, 1.0, 1.0, 1.0, 3.0], abs=0.2)


@modules
def test_what_pays_one_for_ever_is_worth_one_over_one_minus_gamma(module):
    """γ = ½ and no end: each distribution is one atom at 2."""
    settings = {"v_max": 3.0} if module is c51 else {}
    state = learn(module, one_state([1.0] * 8, 0.5), 150, **settings)
    assert float(state.metrics["q"]) == pytest.approx(2.0, abs=0.1)


def test_the_atoms_of_lanes_may_differ():
    widths, batch = torch.tensor([1.0, 20.0]), make_batch()
    lane = lambda width: c51.update(make(c51, v_max=width), batch)
    together = torch.vmap(lane)(widths)
    for i in range(2):
        assert torch.allclose(together.td_error[i], lane(widths[i]).td_error, atol=1e-5)
    assert not torch.allclose(together.td_error[0], together.td_error[1], atol=1e-2)


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (c51, {"num_atoms": 1}, "c51.Config: num_atoms must be at least 2, got 1"),
        (c51, {"v_min": 5.0, "v_max": 5.0}, "c51.Config: v_max must be greater than v_min = 5, got 5.0"),
        (c51, {"v_max": math.inf}, "c51.Config: v_max must be finite, got inf"),
        (c51, {"v_min": math.nan}, "c51.Config: v_min must be finite, got nan"),
        (qr_dqn, {"num_quantiles": 0}, "qr_dqn.Config: num_quantiles must be at least 1, got 0"),
        (
            qr_dqn,
            {"huber_threshold": -1.0},
            r"qr_dqn.Config: huber_threshold must lie in \[0, inf\), got -1.0",
        ),
    ],
)
def test_bad_settings_are_refused(module, settings, message):
    with pytest.raises(ValueError, match=message):
        module.Config(**settings)


@modules
def test_other_spaces_batches_and_networks_are_refused(module):
    name = module.__name__.rpartition(".")[2]
    with pytest.raises(ValueError, match=rf"{name}.init: env.action_space must be Discrete"):
        module.init(random.key(0), module.Config(), envs.make("Pendulum-v1"))
    with pytest.raises(ValueError, match=rf"{name}.update: batch.action must hold config.batch_size rows"):
        module.update(make(module), make_batch(size=5))
    with pytest.raises(ValueError, match=rf"{name}.init: config.network must map .* to \[B, 10\], got"):
        make(module, network=nn.Linear(4, 2, device="meta"))
    assert set(make(module, network=nn.Linear(4, 10, device="meta")).params) == {"weight", "bias"}


def test_an_atom_that_network_and_target_rule_out_costs_nothing():
    numbers = torch.tensor([[[0.5, 1.0, -torch.inf]]])
    goal, atoms = torch.tensor([[0.25, 0.75, 0.0]]), torch.tensor([0.0, 1.0, 2.0])
    found = c51.errors(numbers, torch.tensor([0]), goal, atoms)
    short = c51.errors(numbers[..., :2], torch.tensor([0]), goal[:, :2], atoms[:2])
    for own, other in zip(found, short, strict=True):
        assert torch.allclose(own, other)
    slope = torch.func.grad(lambda x: c51.errors(x, torch.tensor([0]), goal, atoms).loss.sum())(numbers)
    assert torch.allclose(slope[0, 0, :2], torch.softmax(numbers[0, 0, :2], dim=-1) - goal[0, :2])
    assert float(slope[0, 0, 2]) == 0.0
