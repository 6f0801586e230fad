"""Contextual bandits: their equations against naive ones in float64, and whether they learn."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from funcrl import envs, nets
from funcrl.algos.bandits import contexts, linucb, neural_epsilon_greedy, neural_thompson
from funcrl.core import Transition, jit, random, tree
from funcrl.data import LabelledImages
from funcrl.envs.classification_bandit import ClassificationBandit

KEY = random.key(0)
IMAGES = torch.eye(4).reshape(4, 1, 2, 2)
TINY = ClassificationBandit(LabelledImages(IMAGES, [0, 1, 2, 1]))
SMALL = {"num_envs": 4, "batch_size": 8, "memory_size": 64, "channels": (4,), "hidden": (8,)}
CASES = {
    "linucb": (linucb, linucb.Config(num_envs=3)),
    "neural_epsilon_greedy": (
        neural_epsilon_greedy,
        neural_epsilon_greedy.Config(exploration_steps=200.0, learning_rate=0.02, **SMALL),
    ),
    "neural_thompson": (neural_thompson, neural_thompson.Config(learning_rate=0.02, noise=0.3, **SMALL)),
}
cases = pytest.mark.parametrize(("algorithm", "config"), CASES.values(), ids=CASES)


def batch_of(num, seed=0, shape=(1, 2, 2), num_actions=3):
    k_obs, k_action, k_reward = random.split(random.key(seed), 3)
    obs = random.uniform(k_obs, (num, *shape))
    over = torch.ones(num, dtype=torch.bool)
    action, reward = random.randint(k_action, (num,), 0, num_actions), random.normal(k_reward, (num,))
    return Transition(obs, action, reward, over, ~over, obs, {})


def agent(algorithm, config, seed=0, num_updates=0):
    state = algorithm.init(random.key(seed), config, TINY)
    for i in range(num_updates):
        state = algorithm.update(state, batch_of(config.num_envs, seed=100 * seed + i))
    return state


def same(a, b, exact=True):
    pairs = list(zip(tree.leaves(a), tree.leaves(b), strict=True))
    if exact:
        return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)
    return all(torch.allclose(x, y, rtol=1e-4, atol=1e-5, equal_nan=True) for x, y in pairs)


# The memory.


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(0, 99))
def test_the_memory_holds_the_last_and_nothing_else(size, sizes, seed):
    space = TINY.observation_space
    memory, written = contexts.empty(size, space, torch.device("cpu")), []
    for num in (min(n, size) for n in sizes):
        number = torch.arange(len(written), len(written) + num) + 1
        obs = number.float()[:, None, None, None].expand(num, 1, 2, 2)
        memory = contexts.remember(memory, obs, number, 0.5 * number)
        written += number.tolist()
        drawn = contexts.recall(memory, random.fold_in(random.key(seed), len(written)), 200)
        held = set(written[-size:])
        # 200 draws miss one of 12 with probability 3e-8.
        assert set(drawn.action.tolist()) == held
        assert torch.equal(drawn.reward, 0.5 * drawn.action)
        assert torch.equal(drawn.obs, drawn.action.float()[:, None, None, None].expand(200, 1, 2, 2))
        assert int(memory.count) == len(written)


def test_what_is_remembered_keeps_its_dtype():
    space = envs.CartPole().observation_space
    bytes_ = type(space)(0, 255, (2,), np.uint8)
    memory = contexts.empty(3, bytes_, torch.device("cpu"))
    assert memory.data.obs.dtype == torch.uint8
    memory = contexts.remember(memory, torch.full((1, 2), 200.0), torch.zeros(1).long(), torch.ones(1))
    assert memory.data.obs[0].tolist() == [200, 200]


# LinUCB.


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 999))
def test_sherman_morrison_is_the_inverse(size, num, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num, size, generator=generator, dtype=torch.float64)
    inverse = torch.eye(size, dtype=torch.float64) / 0.7
    for x in rows:
        inverse = linucb.sherman_morrison(inverse, x)
    expected = torch.linalg.inv(0.7 * torch.eye(size, dtype=torch.float64) + rows.T @ rows)
    torch.testing.assert_close(inverse, expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(inverse, inverse.T)


class NaiveLinUcb:
    """Algorithm 1, line by line, with an inversion for each p_a."""

    def __init__(self, num_actions, size, alpha, prior_precision):
        self.alpha = alpha
        self.matrix = [prior_precision * np.eye(size) for _ in range(num_actions)]
        self.target = [np.zeros(size) for _ in range(num_actions)]

    def bounds(self, x):
        result = []
        for matrix, target in zip(self.matrix, self.target, strict=True):
            inverse = np.linalg.inv(matrix)
            result.append((inverse @ target) @ x + self.alpha * math.sqrt(x @ inverse @ x))
        return np.array(result)

    def learn(self, x, action, reward):
        self.matrix[action] += np.outer(x, x)
        self.target[action] += reward * x


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(1, 10), st.floats(0, 2), st.floats(0.1, 3), st.integers(0, 999))
def test_linucb_is_algorithm_1(num_envs, num_updates, alpha, prior_precision, seed):
    config = linucb.Config(alpha=alpha, prior_precision=prior_precision, num_envs=num_envs)
    state, naive = linucb.init(KEY, config, TINY), NaiveLinUcb(3, 5, alpha, prior_precision)
    for i in range(num_updates):
        batch = batch_of(num_envs, seed=1000 * seed + i)
        state = linucb.update(state, batch)
        for obs, action, reward in zip(batch.obs, batch.action, batch.reward, strict=True):
            naive.learn(np.append(obs.double().numpy(), 1.0), int(action), float(reward))
    for a in range(3):
        np.testing.assert_allclose(state.inverse[a], np.linalg.inv(naive.matrix[a]), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(state.target[a], naive.target[a], rtol=1e-4, atol=1e-4)
    obs = batch_of(20, seed=seed).obs
    bounds = np.stack([naive.bounds(np.append(x.double().numpy(), 1.0)) for x in obs])
    chosen, _ = linucb.act(state, obs, KEY)
    best = bounds.max(axis=1)
    assert (bounds[np.arange(20), chosen.numpy()] >= best - 1e-3).all()


def test_an_upper_bound_by_hand():
    """Arm 1 has been tried once, with x = (1, 1) and reward 1, λ = 1: A⁻¹ = [[2, -1], [-1, 2]] / 3."""
    state = linucb.init(KEY, linucb.Config(alpha=0.5), envs.FlattenObservation(TINY))
    one, over = torch.ones(1, 4), torch.tensor([True])
    one = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    batch = Transition(one, torch.tensor([1]), torch.tensor([1.0]), over, ~over, one, {})
    state = linucb.update(state, batch)
    value, interval = linucb.estimate(state.inverse, state.target, torch.tensor([[1.0, 0, 0, 0, 1.0]]))
    torch.testing.assert_close(value, torch.tensor([[0.0, 2 / 3, 0.0]]))
    torch.testing.assert_close(interval, torch.tensor([[math.sqrt(2), math.sqrt(2 / 3), math.sqrt(2)]]))
    # 2/3 + α √(2/3) against α √2: the known arm up to α = 1.11, an unknown one beyond.
    for alpha, known in ((1.0, True), (1.2, False)):
        changed = tree.replace(state, config=tree.replace(state.config, alpha=torch.tensor(alpha)))
        assert (int(linucb.act(changed, one[0], KEY)[0]) == 1) == known
    assert int(linucb.greedy(state, one[0])) == 1
    assert float(state.metrics["loss"]) == 1.0


def test_the_inverse_stays_one_for_twenty_thousand_steps():
    """In float32; on contexts in [0, 1], as pixels are."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(2000, 20, generator=generator)
    inverse = torch.eye(20)
    for x in rows.repeat(5, 1):
        inverse = linucb.sherman_morrison(inverse, x)
    wide = rows.double()
    expected = torch.linalg.inv(torch.eye(20, dtype=torch.float64) + 5 * wide.T @ wide)
    assert (inverse - expected).abs().max() < 1e-3 * expected.abs().max()


# The networks' loss.


def linear_network():
    return nn.Sequential(nn.Flatten(-3), nn.Linear(4, 3, device="meta"))


def test_only_the_chosen_action_is_in_the_loss():
    network = linear_network()
    params = nets.init(network, KEY)
    batch = batch_of(6)
    batch = contexts.Interactions(batch.obs, torch.tensor([0, 2, 0, 2, 2, 0]), batch.reward)
    weight, bias = (params[name].double() for name in ("1.weight", "1.bias"))
    errors = [
        float(weight[a] @ x.double().flatten() + bias[a] - r)
        for x, a, r in zip(batch.obs, batch.action.tolist(), batch.reward.tolist(), strict=True)
    ]
    found, chosen = neural_epsilon_greedy.loss(params, network, batch)
    assert float(found) == pytest.approx(np.mean(np.square(errors)), rel=1e-5)
    np.testing.assert_allclose(chosen - batch.reward, errors, rtol=1e-4, atol=1e-6)
    gradient, _ = torch.func.grad(neural_epsilon_greedy.loss, has_aux=True)(params, network, batch)
    assert not gradient["1.weight"][1].any()
    assert gradient["1.weight"][0].all()
    head = nets.mlp((3,), (), 3)
    both = {"features": params, "head": nets.init(head, KEY)}
    _, (chosen, phi) = neural_thompson.loss(both, network, head, batch)
    assert phi.shape == (6, 4)
    assert torch.equal(phi[:, -1], torch.ones(6))
    value = nets.apply(head, both["head"], phi[:, :-1])
    torch.testing.assert_close(chosen, value[torch.arange(6), batch.action])
    gradient, _ = torch.func.grad(neural_thompson.loss, has_aux=True)(both, network, head, batch)
    assert not gradient["head"]["layers.0.weight"][1].any()


@pytest.mark.parametrize("algorithm", [neural_epsilon_greedy, neural_thompson])
def test_an_update_is_one_step_of_adam_on_what_was_remembered(algorithm):
    """The memory holds one interaction only, so what is drawn from it is known."""
    config = algorithm.Config(num_envs=1, batch_size=4, memory_size=1, channels=(2,), hidden=(3,))
    state, batch = agent(algorithm, config, num_updates=2), batch_of(1, seed=7)
    after = algorithm.update(state, batch)
    drawn = contexts.Interactions(batch.obs, batch.action, batch.reward)
    networks = (state.network,) if algorithm is neural_epsilon_greedy else (state.network, state.head)
    leaves = [p.clone().requires_grad_() for p in tree.leaves(state.params)]
    rest = iter(leaves)
    algorithm.loss(tree.map(lambda _: next(rest), state.params), *networks, drawn)[0].backward()
    for before, leaf, found, moments in zip(
        tree.leaves(state.params),
        leaves,
        tree.leaves(after.params),
        zip(tree.leaves(state.optimizer.mean), tree.leaves(state.optimizer.square), strict=True),
        strict=True,
    ):
        mean = (0.9 * moments[0] + 0.1 * leaf.grad) / (1 - 0.9**3)
        square = (0.999 * moments[1] + 0.001 * leaf.grad**2) / (1 - 0.999**3)
        torch.testing.assert_close(found, before - 2e-3 * mean / (square.sqrt() + 1e-8), rtol=1e-4, atol=1e-6)


# ε-greedy.


def test_epsilon_falls_with_interactions_and_says_how_often_chance_chooses():
    config = neural_epsilon_greedy.Config(
        initial_epsilon=0.9, epsilon=0.3, exploration_steps=16.0, learning_rate=0.0, **SMALL
    )
    state = agent(neural_epsilon_greedy, config)
    obs = IMAGES[:1].expand(30_000, 1, 2, 2)
    for updates, epsilon in enumerate([0.9, 0.75, 0.6, 0.45, 0.3, 0.3]):
        action, extras = neural_epsilon_greedy.act(state, obs, random.key(updates))
        assert extras == {}
        best = neural_epsilon_greedy.greedy(state, obs[0])
        share = float((action == best).float().mean())
        assert share == pytest.approx(1 - epsilon + epsilon / 3, abs=0.015)
        state = neural_epsilon_greedy.update(state, batch_of(4, seed=updates))
        assert float(state.metrics["epsilon"]) == pytest.approx(epsilon, abs=1e-6)


# NeuralLinear.


def naive_posterior(phi, action, reward, num_actions, prior_precision):
    means, covariances = [], []
    for a in range(num_actions):
        rows, paid = phi[action == a], reward[action == a]
        precision = prior_precision * np.eye(phi.shape[1]) + sum(np.outer(x, x) for x in rows)
        covariances.append(np.linalg.inv(precision))
        means.append(
            covariances[-1] @ sum((r * x for x, r in zip(rows, paid, strict=True)), np.zeros(len(precision)))
        )
    return np.stack(means), np.stack(covariances)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 4), st.floats(0.1, 5), st.integers(0, 999))
def test_the_posterior_is_bayesian_linear_regression(num, size, num_actions, prior_precision, seed):
    """Where the average is over all n interactions, and the features are what they were."""
    generator = np.random.default_rng(seed)
    phi, reward = generator.normal(size=(num, size)), generator.normal(size=num)
    action = generator.integers(num_actions, size=num)
    nothing = neural_thompson.Moments(
        torch.zeros(num_actions, size, size), torch.zeros(num_actions, size), torch.zeros(())
    )
    data = (
        torch.tensor(phi, dtype=torch.float32),
        torch.tensor(action),
        torch.tensor(reward, dtype=torch.float32),
    )
    average = nothing
    # The same data in each update: every weighting of them is the same average.
    for _ in range(3):
        average = neural_thompson.moments(average, *data, torch.tensor(0.6))
    belief = neural_thompson.posterior(average, torch.tensor(num), torch.tensor(prior_precision))
    mean, covariance = naive_posterior(phi, action, reward, num_actions, prior_precision)
    np.testing.assert_allclose(belief.mean, mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(belief.covariance, covariance, rtol=1e-3, atol=1e-4)
    value, spread = neural_thompson.predict(belief, data[0])
    np.testing.assert_allclose(value, phi @ mean.T, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        spread, np.sqrt(np.einsum("bi,aij,bj->ba", phi, covariance, phi)), rtol=1e-3, atol=1e-3
    )


def test_moving_averages_are_those_of_their_definition():
    generator = np.random.default_rng(0)
    average = neural_thompson.Moments(torch.zeros(2, 3, 3), torch.zeros(2, 3), torch.zeros(()))
    square, reward_sum, weight = np.zeros((2, 3, 3)), np.zeros((2, 3)), 0.0
    for _ in range(5):
        phi, reward, action = (
            generator.normal(size=(4, 3)),
            generator.normal(size=4),
            generator.integers(2, size=4),
        )
        square, reward_sum, weight = 0.8 * square, 0.8 * reward_sum, 0.8 * weight + 0.2
        for x, a, r in zip(phi, action, reward, strict=True):
            square[a] += 0.2 * np.outer(x, x) / 4
            reward_sum[a] += 0.2 * r * x / 4
        phi, reward = (torch.tensor(x, dtype=torch.float32) for x in (phi, reward))
        average = neural_thompson.moments(average, phi, torch.tensor(action), reward, torch.tensor(0.8))
    np.testing.assert_allclose(average.square, square, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(average.reward, reward_sum, rtol=1e-4, atol=1e-6)
    assert float(average.weight) == pytest.approx(weight)


def test_an_update_refits_on_what_was_remembered_with_the_features_of_the_time():
    """The memory holds one interaction only, so what is drawn from it is known."""
    config = neural_thompson.Config(
        num_envs=1, batch_size=4, memory_size=1, channels=(2,), hidden=(3,), forgetting=0.5
    )
    state, batch = agent(neural_thompson, config, num_updates=2), batch_of(1, seed=3)
    batch = tree.replace(batch, reward=torch.tensor([-0.7]))
    after = neural_thompson.update(state, batch)
    phi = neural_thompson._features(state, batch.obs)[0].double().numpy()
    square, reward = (0.5 * x.double().numpy() for x in (state.moments.square, state.moments.reward))
    a = int(batch.action)
    square[a] += 0.5 * np.outer(phi, phi)
    reward[a] -= 0.5 * 0.7 * phi
    np.testing.assert_allclose(after.moments.square, square, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after.moments.reward, reward, rtol=1e-4, atol=1e-6)
    # Three interactions so far, weights that sum to 1 - 1/8.
    covariance = np.linalg.inv(np.eye(4) + 3 / (7 / 8) * square)
    np.testing.assert_allclose(after.posterior.covariance, covariance, rtol=1e-3, atol=1e-5)
    mean = np.einsum("aij,aj->ai", covariance, 3 / (7 / 8) * reward)
    np.testing.assert_allclose(after.posterior.mean, mean, rtol=1e-3, atol=1e-5)


def test_a_posterior_of_many_interactions_survives_nearly_equal_features():
    """Λ's eigenvalues span seven digits here; in float32 the factorisation fails."""
    phi = torch.cat(
        [torch.full((50, 30), 30.0) + 1e-3 * random.normal(KEY, (50, 30)), torch.ones(50, 1)], dim=1
    )
    nothing = neural_thompson.Moments(torch.zeros(1, 31, 31), torch.zeros(1, 31), torch.zeros(()))
    average = neural_thompson.moments(nothing, phi, torch.zeros(50).long(), torch.ones(50), torch.tensor(0.9))
    belief = neural_thompson.posterior(average, torch.tensor(20_000), torch.tensor(1.0))
    value, spread = neural_thompson.predict(belief, phi)
    assert (value - 1).abs().max() < 0.05
    assert spread.max() < 0.1


def test_thompson_chooses_as_often_as_an_action_is_the_best():
    """Two actions are known, the third is hopeless: P(1 beats 0) = Φ((m₁ - m₀) / (ν √(s₀² + s₁²)))."""
    state = agent(neural_thompson, CASES["neural_thompson"][1])
    _, spread = neural_thompson.predict(state.posterior, neural_thompson._features(state, IMAGES[0]))
    variance = float(spread[0] ** 2)
    mean = torch.zeros_like(state.posterior.mean)
    mean[:, -1] = torch.tensor([0.2, 0.5, -100.0])
    state = tree.replace(state, posterior=tree.replace(state.posterior, mean=mean))
    action, _ = neural_thompson.act(state, IMAGES[:1].expand(40_000, 1, 2, 2), KEY)
    expected = scipy.stats.norm.cdf(0.3 / (0.3 * math.sqrt(2 * variance)))
    assert 0.6 < expected < 0.995
    assert float((action == 1).float().mean()) == pytest.approx(expected, abs=0.01)
    assert not (action == 2).any()
    assert int(neural_thompson.greedy(state, IMAGES[0])) == 1


# Together.


@cases
def test_an_agent_that_knows_nothing_takes_every_action_equally_often(algorithm, config):
    state = agent(algorithm, config)
    action, _ = algorithm.act(state, IMAGES[:1].expand(6000, 1, 2, 2), KEY)
    counts = torch.bincount(action, minlength=3).numpy()
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def choices(algorithm, config, num_updates, backend="aot_eager", seeds=3):
    """Train on TINY; return the states and the share of right choices in each update, `[S, updates]`."""
    num = config.num_envs

    def begin(key):
        k_agent, k_env = random.split(key, 2)
        return algorithm.init(k_agent, config, TINY), envs.reset_all(TINY, random.split(k_env, num))

    def step(state, states, key):
        k_act, *k_step = random.split(key, num + 1)
        action, extras = algorithm.act(state, states.obs, k_act)
        states, row = envs.step_all(TINY, states, action, torch.stack(k_step))
        batch = Transition(row.obs, action, row.reward, row.terminated, row.truncated, row.next_obs, extras)
        return algorithm.update(state, batch), states, row.reward.mean()

    keys = torch.stack([random.key(seed) for seed in range(seeds)])
    state, states = tree.map(lambda x: x.contiguous().clone(), torch.vmap(begin)(keys))
    program = jit.jit(torch.vmap(step), donate=(0, 1), backend=backend)
    shares = []
    for t in range(num_updates):
        fold = torch.stack([random.fold_in(key, t) for key in keys])
        state, states, share = program(state, states, fold)
        shares.append(share)
    assert program.num_graphs == 1
    return state, torch.stack(shares, dim=1)


@cases
def test_four_images_are_learnt_traced_and_donated(algorithm, config):
    state, shares = choices(algorithm, config, num_updates=120)
    assert (shares[:, -30:].mean(dim=1) > 0.9).all()
    best = torch.vmap(algorithm.greedy, in_dims=(0, None))(state, IMAGES)
    assert best.tolist() == [[0, 1, 2, 1]] * 3
    assert all(value.isfinite().all() for value in state.metrics.values())


@pytest.mark.compiled
def test_compiled_a_lane_does_alone_what_it_does_uncompiled_among_others():
    """One lane is a program that torch's compiler writes otherwise than that of several."""
    algorithm, config = CASES["neural_thompson"]
    # Convolutions and the steps of the environment are compiled by tests of their own, and so are several lanes.
    config = tree.replace(config, channels=(), hidden=(3,), num_envs=2, memory_size=16, batch_size=4)

    def act_and_learn(state, batch, key):
        action, _ = algorithm.act(state, batch.obs, key)
        return algorithm.update(state, tree.replace(batch, action=action)), action

    def learnt(backend, seeds):
        program = jit.jit(torch.vmap(act_and_learn), donate=(0,), backend=backend)
        state, actions = tree.stack([agent(algorithm, config, seed=seed) for seed in seeds]), []
        for t in range(3):
            batches = tree.stack([batch_of(config.num_envs, seed=10 * t + seed) for seed in seeds])
            keys = torch.stack([random.fold_in(random.key(t), seed) for seed in seeds])
            state, action = program(state, batches, keys)
            actions.append(action)
        assert program.num_graphs == 1
        return state, actions

    assert same(learnt("inductor", [2]), tree.index(learnt("aot_eager", [0, 1, 2]), slice(2, 3)), exact=False)


@cases
def test_no_input_is_changed_and_layout_is_kept(algorithm, config):
    state, batch = agent(algorithm, config), batch_of(config.num_envs)
    before = tree.map(torch.clone, (state, batch))
    algorithm.act(state, IMAGES, KEY)
    algorithm.greedy(state, IMAGES)
    after = algorithm.update(state, batch)
    assert same(before, (state, batch))
    assert same(after, algorithm.update(state, batch))
    layout = lambda x: [(y.shape, y.dtype) for y in tree.leaves(x)]
    assert layout(after) == layout(state)
    assert list(after.metrics) == list(algorithm.METRICS)
    assert all(value.isnan() for value in state.metrics.values())
    assert all(value.isfinite() for value in after.metrics.values())


@cases
def test_one_context_or_several(algorithm, config):
    state = agent(algorithm, config, num_updates=3)
    together = algorithm.greedy(state, IMAGES)
    assert together.dtype == torch.int64
    for i in range(4):
        alone = algorithm.greedy(state, IMAGES[i])
        assert alone.shape == ()
        assert alone == together[i]
    action, _ = algorithm.act(state, IMAGES[0], KEY)
    assert (action.shape, action.dtype) == ((), torch.int64)


@cases
def test_lanes_equal_a_loop_and_every_float_can_be_swept(algorithm, config):
    names = [f.name for f in dataclasses.fields(config) if not f.metadata.get("static", False)]
    assert names
    values = {name: torch.tensor([1.0, 0.9, 0.7]) * float(getattr(config, name)) for name in names}
    batches = tree.stack([batch_of(config.num_envs, seed=i) for i in range(3)])

    def lane(key, numbers, batch):
        state = algorithm.init(key, tree.replace(config, **numbers), TINY)
        state = algorithm.update(algorithm.update(state, batch), batch)
        return state, algorithm.act(state, IMAGES, key)[0], algorithm.greedy(state, IMAGES)

    keys = random.split(KEY, 3)
    together = torch.vmap(lane)(keys, values, batches)
    for i in range(3):
        numbers = {name: float(value[i]) for name, value in values.items()}
        assert same(tree.index(together, i), lane(keys[i], numbers, tree.index(batches, i)), exact=False)
        assert getattr(together[0].config, names[0]).dtype == torch.float32


@cases
def test_updates_draw_differently_and_so_do_agents(algorithm, config):
    first, other = agent(algorithm, config, seed=0), agent(algorithm, config, seed=1)
    if algorithm is not linucb:
        assert not same(first.params, other.params)
        assert not same(first.key, other.key)
    obs = IMAGES.repeat(10, 1, 1, 1)
    assert not torch.equal(
        algorithm.act(first, obs, random.key(1))[0], algorithm.act(first, obs, random.key(2))[0]
    )


@pytest.mark.parametrize("name", ["neural_epsilon_greedy", "neural_thompson"])
def test_minibatches_differ_from_update_to_update(name):
    algorithm, config = CASES[name]
    state = agent(algorithm, tree.replace(config, learning_rate=0.0, memory_size=4))
    losses = set()
    for _ in range(4):
        # A memory full of the same interactions, and the same network: only the draw differs.
        state = algorithm.update(state, batch_of(4, seed=4))
        losses.add(round(float(state.metrics["loss"]), 6))
    assert len(losses) > 1


def test_a_diverged_lane_touches_no_other():
    algorithm, config = CASES["neural_thompson"]
    states = tree.stack([agent(algorithm, config, seed) for seed in range(3)])
    batches = tree.stack([batch_of(4, seed=seed) for seed in range(3)])
    rate = torch.tensor([0.02, torch.inf, 0.02])
    broken = tree.replace(states, config=tree.replace(states.config, learning_rate=rate))
    for _ in range(3):
        states, broken = (torch.vmap(algorithm.update)(x, batches) for x in (states, broken))
    assert not broken.posterior.mean[1].isfinite().all()
    for i in (0, 2):
        assert same(tree.index(broken.posterior, i), tree.index(states.posterior, i))
        assert tree.index(states.posterior, i).mean.isfinite().all()


def test_vectors_get_a_perceptron_and_own_networks_are_used():
    flat = envs.FlattenObservation(TINY)
    state = neural_epsilon_greedy.init(KEY, CASES["neural_epsilon_greedy"][1], flat)
    assert type(state.network).__name__ == "MLP"
    own = linear_network()
    state = neural_epsilon_greedy.init(KEY, neural_epsilon_greedy.Config(network=own), TINY)
    assert repr(state.network.training) == repr(own)
    state = neural_thompson.init(KEY, neural_thompson.Config(network=own), TINY)
    assert state.posterior.mean.shape == (3, 4)
    state = agent(neural_thompson, tree.replace(CASES["neural_thompson"][1], network=own), num_updates=1)
    assert state.metrics["loss"].isfinite()
    state = neural_thompson.init(KEY, CASES["neural_thompson"][1], flat)
    phi = nets.apply(state.network, state.params["features"], torch.randn(50, 4))
    assert phi.shape == (50, 8)
    assert (phi >= 0).all()
    assert phi.any()


@cases
def test_impossible_worlds_and_batches_are_refused(algorithm, config):
    name = algorithm.__name__.rpartition(".")[2]
    with pytest.raises(ValueError, match=f"{name}.init: env.action_space must be Discrete"):
        algorithm.init(KEY, config, envs.make("Pendulum-v1"))
    words = SimpleNamespace(observation_space=spaces.Text(3), action_space=spaces.Discrete(2))
    with pytest.raises(ValueError, match=f"{name}.init: env.observation_space must be one of Box"):
        algorithm.init(KEY, config, words)
    with pytest.raises(
        ValueError, match=f"{name}.update: batch.action must hold one for each of config.num_envs"
    ):
        algorithm.update(agent(algorithm, config), batch_of(config.num_envs + 1))
    batch = batch_of(config.num_envs)
    with pytest.raises(ValueError, match=f"{name}.update: batch.obs must hold one for each"):
        algorithm.update(agent(algorithm, config), tree.replace(batch, obs=batch.obs[:1]))


@pytest.mark.parametrize(
    ("algorithm", "settings_", "error", "message"),
    [
        (linucb, {"alpha": -1.0}, ValueError, "alpha must lie in"),
        (linucb, {"prior_precision": 0.0}, ValueError, "prior_precision must lie in"),
        (linucb, {"num_envs": 0}, ValueError, "num_envs must be at least 1"),
        (neural_epsilon_greedy, {"epsilon": 1.5}, ValueError, "epsilon must lie in"),
        (neural_epsilon_greedy, {"memory_size": 8}, ValueError, "memory_size must be at least num_envs = 16"),
        (neural_epsilon_greedy, {"batch_size": 4.0}, TypeError, "batch_size must be an integer"),
        (neural_thompson, {"forgetting": 1.0}, ValueError, "forgetting must be below 1"),
        (neural_thompson, {"hidden": ()}, ValueError, "hidden must hold at least one width"),
        (neural_thompson, {"memory_size": 8}, ValueError, "memory_size must be at least num_envs = 16"),
        (neural_thompson, {"noise": -1.0}, ValueError, "noise must lie in"),
    ],
)
def test_impossible_settings_are_refused(algorithm, settings_, error, message):
    name = algorithm.__name__.rpartition(".")[2]
    with pytest.raises(error, match=f"{name}.Config: {message}"):
        algorithm.Config(**settings_)


@pytest.mark.parametrize("algorithm", [neural_epsilon_greedy, neural_thompson])
def test_own_networks_that_do_not_fit_are_refused(algorithm):
    name = algorithm.__name__.rpartition(".")[2]
    for network in (nn.Linear(7, 3, device="meta"), nn.Flatten(0)):
        with pytest.raises(
            ValueError, match=rf"{name}.init: config.network must map observations \[B, 1, 2, 2\]"
        ):
            algorithm.init(KEY, algorithm.Config(network=network), TINY)
