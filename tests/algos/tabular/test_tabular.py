"""Tabular algorithms against the book's, written naively in float64, and on worlds whose values are known."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from funcrl import envs
from funcrl.algos import (
    REGISTRY,
    double_q_learning,
    dyna_q,
    expected_sarsa,
    n_step_sarsa,
    q_learning,
    sarsa,
)
from funcrl.algos.tabular import agent
from funcrl.core import Transition, random, tree
from funcrl.train import evaluate, train

NAMES = ["q_learning", "sarsa", "expected_sarsa", "double_q_learning", "n_step_sarsa", "dyna_q"]
STATES, ACTIONS = 4, 3
ALPHA, GAMMA, EPSILON = 0.3, 0.8, 0.2


class Spaces:
    observation_space = spaces.Discrete(STATES)
    action_space = spaces.Discrete(ACTIONS)


def life(seed, length=60):
    """Steps of some policy in some world: (s, a, r, s', terminated, truncated), episodes in a row."""
    generator = np.random.default_rng(seed)
    steps, obs = [], int(generator.integers(STATES))
    for _ in range(length):
        action, next_obs = int(generator.integers(ACTIONS)), int(generator.integers(STATES))
        reward = float(generator.normal())
        end = generator.random()
        terminated, truncated = end < 0.1, 0.1 <= end < 0.2
        steps.append((obs, action, reward, next_obs, terminated, truncated))
        obs = int(generator.integers(STATES)) if terminated or truncated else next_obs
    return steps


def learnt(algorithm, steps, extras=None, **config):
    config = algorithm.Config(learning_rate=ALPHA, gamma=GAMMA, epsilon=EPSILON, **config)
    state = algorithm.init(random.key(0), config, Spaces())
    for i, (obs, action, reward, next_obs, terminated, truncated) in enumerate(steps):
        batch = Transition(
            obs=torch.tensor(obs),
            action=torch.tensor(action),
            reward=torch.tensor(reward, dtype=torch.float32),
            terminated=torch.tensor(terminated),
            truncated=torch.tensor(truncated),
            next_obs=torch.tensor(next_obs),
            extras={} if extras is None else {name: values[i] for name, values in extras.items()},
        )
        state = algorithm.update(state, batch)
    return state


def soft(values):
    """Expected value under the ε-greedy policy, ties shared."""
    best = values == values.max()
    policy = EPSILON / ACTIONS + (1 - EPSILON) * best / best.sum()
    return float((policy * values).sum())


def assert_equal(state, values):
    assert state.values.numpy() == pytest.approx(values, abs=2e-5)


seeds = given(st.integers(0, 2**31))


@seeds
@settings(max_examples=15, deadline=None)
def test_q_learning_is_equation_6_8(seed):
    steps = life(seed)
    q = np.zeros((STATES, ACTIONS))
    for s, a, r, s2, terminated, _ in steps:
        q[s, a] += ALPHA * (r + (0.0 if terminated else GAMMA * q[s2].max()) - q[s, a])
    assert_equal(learnt(q_learning, steps), q)


@seeds
@settings(max_examples=15, deadline=None)
def test_expected_sarsa_is_equation_6_9(seed):
    steps = life(seed)
    q = np.zeros((STATES, ACTIONS))
    for s, a, r, s2, terminated, _ in steps:
        q[s, a] += ALPHA * (r + (0.0 if terminated else GAMMA * soft(q[s2])) - q[s, a])
    assert_equal(learnt(expected_sarsa, steps), q)


def test_an_action_that_is_never_taken_adds_nothing_to_the_expected_value():
    config = expected_sarsa.Config(exploration="boltzmann", temperature=0.5)
    state = expected_sarsa.init(random.key(0), config, Spaces())
    found = agent.expected_value(state, torch.tensor([1.0, -torch.inf, 1.0]))
    assert float(found) == 1.0


def book_n_step(steps, n):
    """The box of section 7.2, episode by episode, with the actions that were taken as the policy's.

    The last episode may not be over; its steps are learnt from as far as their actions are known.
    """
    q = np.zeros((STATES, ACTIONS))
    begin = 0
    while begin < len(steps):
        ends = (i for i in range(begin, len(steps)) if steps[i][4] or steps[i][5])
        end = next(ends, None)
        episode = steps[begin : len(steps) if end is None else end + 1]
        begin += len(episode)
        length = len(episode) if end is not None else np.inf
        reached = None
        for t in range(len(episode) + n):
            tau = t - n + 1
            if tau < 0:
                continue
            last = min(tau + n, length)
            if last > len(episode) or (last == len(episode) and end is None) or tau >= len(episode):
                break
            target = sum(GAMMA ** (i - tau) * episode[i][2] for i in range(tau, int(last)))
            if tau + n < length:
                target += GAMMA**n * q[episode[tau + n][0], episode[tau + n][1]]
            else:
                if reached is None:
                    reached = 0.0 if episode[-1][4] else soft(q[episode[-1][3]])
                target += GAMMA ** (int(length) - tau) * reached
            s, a = episode[tau][:2]
            q[s, a] += ALPHA * (target - q[s, a])
    return q


@given(st.integers(0, 2**31), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_n_step_sarsa_is_the_books_algorithm(seed, n):
    steps = life(seed)
    assert_equal(learnt(n_step_sarsa, steps, num_steps=n), book_n_step(steps, n))


@seeds
@settings(max_examples=15, deadline=None)
def test_sarsa_is_n_step_sarsa_of_one_step(seed):
    steps = life(seed)
    assert_equal(learnt(sarsa, steps), book_n_step(steps, 1))


@seeds
@settings(max_examples=15, deadline=None)
def test_double_q_learning_is_equation_6_10(seed):
    steps = life(seed)
    second = np.random.default_rng(seed + 1).random(len(steps)) < 0.5
    q = np.zeros((2, STATES, ACTIONS))
    for (s, a, r, s2, terminated, _), i in zip(steps, second.astype(int), strict=True):
        value = 0.0 if terminated else q[1 - i, s2, q[i, s2].argmax()]
        q[i, s, a] += ALPHA * (r + GAMMA * value - q[i, s, a])
    state = learnt(double_q_learning, steps, {"second": torch.tensor(second)})
    assert state.memory.numpy() == pytest.approx(q, abs=2e-5)
    assert_equal(state, q.mean(axis=0))


@seeds
@settings(max_examples=15, deadline=None)
def test_dyna_q_is_the_books_algorithm(seed):
    steps, n = life(seed, 30), 3
    uniform = np.random.default_rng(seed + 1).random((len(steps), n, 2)).astype(np.float32)
    q, model, order = np.zeros((STATES, ACTIONS)), {}, []
    for (s, a, r, s2, terminated, _), numbers in zip(steps, uniform, strict=True):
        q[s, a] += ALPHA * (r + (0.0 if terminated else GAMMA * q[s2].max()) - q[s, a])
        model[s, a] = r, s2, terminated
        order += [s] if s not in order else []
        for u, v in numbers:
            seen = order[int(u * len(order))]
            tried = sorted(b for (x, b) in model if x == seen)
            action = tried[int(v * len(tried))]
            reward, follows, over = model[seen, action]
            target = reward + (0.0 if over else GAMMA * q[follows].max())
            q[seen, action] += ALPHA * (target - q[seen, action])
    assert_equal(
        learnt(dyna_q, steps, {"imagination": torch.tensor(uniform)}, num_imagined=n),
        q,
    )


def test_dyna_q_imagines_every_step_that_it_has_taken_and_no_other():
    steps = [(0, 1, 0.0, 2, False, False), (2, 0, 0.0, 3, False, False), (0, 2, 0.0, 0, False, False)]
    extras = {"imagination": torch.zeros(3, 1, 2)}
    model = learnt(dyna_q, steps, extras, num_imagined=1).memory
    numbers = random.uniform(random.key(0), (4000, 2))
    obs, action = torch.vmap(lambda u: dyna_q.imagine(model, u))(numbers)
    share = dict.fromkeys([(0, 1), (0, 2), (2, 0)], 0.0)
    for pair in zip(obs.tolist(), action.tolist(), strict=True):
        share[pair] += 1 / 4000
    # First a state, each equally likely, then one of its actions.
    assert share == pytest.approx({(0, 1): 0.25, (0, 2): 0.25, (2, 0): 0.5}, abs=0.03)


@tree.struct
class Cut:
    """One state that pays 1 for ever and is cut off after three steps: Q = 1 / (1 - γ) everywhere."""

    max_episode_steps: int | None = tree.static(default=3)
    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)

    def initial(self, key):
        return torch.zeros((), dtype=torch.int64, device=key.device)

    def transition(self, state, action, key):
        return state

    def observation(self, state, key):
        return state

    def reward(self, state, action, next_state, key):
        return torch.ones((), device=state.device)

    def terminal(self, state, key):
        return torch.zeros((), dtype=torch.bool, device=state.device)


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_episode_bootstraps(name):
    config = REGISTRY[name].Config(gamma=0.5, epsilon=1.0, learning_rate=0.9)
    result = train(name, Cut(), config=config, seeds=[0, 1], num_steps=80, backend="eager")
    assert result.states.values[:, 0].flatten().tolist() == pytest.approx([2.0] * 4, abs=0.01)
    assert result.states.values[:, 1].abs().max() == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_a_terminated_episode_does_not(name):
    env = envs.make("FrozenLake-v1", desc=("SG",), is_slippery=False, hole_reward=0.0)
    config = REGISTRY[name].Config(gamma=1.0, initial_value=5.0, epsilon=1.0, learning_rate=0.9)
    result = train(name, env, config=config, seeds=[0], num_steps=100, backend="eager")
    assert float(result.states.values[0, 0, 2]) == pytest.approx(1.0, abs=0.01)
    assert result.states.values[0, 1].tolist() == [5.0] * 4


def test_exploration_and_learning_rate_fall_as_they_are_told():
    config = q_learning.Config(
        learning_rate=0.5, anneal_steps=10.0, epsilon=0.2, initial_epsilon=1.0, exploration_steps=4.0
    )
    state = q_learning.init(random.key(0), config, Spaces())
    for step, (epsilon, rate) in {0: (1.0, 0.5), 2: (0.6, 0.4), 4: (0.2, 0.3), 20: (0.2, 0.0)}.items():
        now = tree.replace(state, step=torch.tensor(step, dtype=torch.int32))
        probabilities = agent.policy(now, torch.tensor([0.0, 1.0, 0.0]))
        assert probabilities.tolist() == pytest.approx([epsilon / 3, 1 - epsilon * 2 / 3, epsilon / 3])
        assert float(agent.learning_rate(now)) == pytest.approx(rate)
    constant = tree.replace(state, config=tree.replace(state.config, anneal_steps=torch.tensor(0.0)))
    assert float(agent.learning_rate(tree.replace(constant, step=torch.tensor(99)))) == 0.5


def test_the_boltzmann_policy_falls_too():
    config = sarsa.Config(
        exploration="boltzmann", temperature=0.5, initial_temperature=2.5, exploration_steps=4.0
    )
    state = sarsa.init(random.key(0), config, Spaces())
    for step, temperature in {0: 2.5, 2: 1.5, 4: 0.5}.items():
        now = tree.replace(state, step=torch.tensor(step, dtype=torch.int32))
        found = agent.policy(now, torch.tensor([0.0, 1.0, -1.0]))
        weights = np.exp(np.array([0.0, 1.0, -1.0]) / temperature)
        assert found.tolist() == pytest.approx((weights / weights.sum()).tolist())


def test_actions_are_drawn_from_the_policy():
    state = q_learning.init(random.key(0), q_learning.Config(epsilon=0.3), Spaces())
    values = state.values.index_put((torch.tensor([1, 1]), torch.tensor([0, 2])), torch.tensor(1.0))
    actions, _ = q_learning.act(tree.replace(state, values=values), torch.ones(20_000).long(), random.key(1))
    share = torch.bincount(actions, minlength=3) / 20_000
    assert share.tolist() == pytest.approx([0.45, 0.1, 0.45], abs=0.015)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"learning_rate": 1.5}, r"learning_rate must lie in \[0, 1\], got 1.5"),
        ({"epsilon": -0.1}, r"epsilon must lie in \[0, 1\], got -0.1"),
        ({"temperature": 0.0}, r"temperature must lie in \(0, inf\), got 0"),
        ({"exploration": "softmax"}, r"exploration must be one of 'boltzmann', 'epsilon_greedy'"),
        ({"gamma": float("nan")}, r"gamma must lie in \[0, 1\], got nan"),
        ({"initial_value": float("nan")}, r"initial_value must"),
    ],
)
def test_bad_settings_are_refused(name, setting, message):
    with pytest.raises(ValueError, match=rf"{name}.Config: {message}"):
        REGISTRY[name].Config(**setting)


def test_bad_counts_are_refused():
    with pytest.raises(ValueError, match=r"n_step_sarsa.Config: num_steps must be at least 1, got 0"):
        n_step_sarsa.Config(num_steps=0)
    with pytest.raises(TypeError, match=r"dyna_q.Config: num_imagined must be an integer, got 2.5"):
        dyna_q.Config(num_imagined=2.5)


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_numbered_states_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name}.init: env.observation_space must be Discrete"):
        train(name, "CartPole-v1", seeds=[0])
    with pytest.raises(ValueError, match="must live on the device"):
        train(name, "gymnasium:CliffWalking-v1", seeds=[0])


@pytest.mark.compiled
def test_q_learning_finds_the_shortest_path_along_the_cliff_in_every_seed():
    # In one process, so that the steps are those of the test of the loop, compiled once for both.
    result = train("q_learning", "CliffWalking-v1", seeds=range(100), num_steps=8000, processes=1)
    returns = evaluate(
        "q_learning", "CliffWalking-v1", result.states, num_episodes=1, max_steps=100, backend="eager"
    )
    assert returns.tolist() == [[-13.0]] * 100
