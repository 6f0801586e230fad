"""Comparing tabular environments with Gymnasium's: table for table and step for step."""

from collections import defaultdict

import numpy as np
import scipy.stats
import torch

from funcrl import envs
from funcrl.core import jit, random, tree


class Chooser:
    """Stands in for Gymnasium's generator and makes the choice that it is told to make."""

    def __init__(self):
        self.number = 0.5
        self.choices = []

    def random(self):
        return self.number

    def choice(self, options):
        chosen = self.choices.pop(0)
        assert chosen in options
        return chosen

    def pick(self, probabilities, index):
        """Make categorical_sample return `index`."""
        self.number = sum(probabilities[:index]) + probabilities[index] / 2


def pairs(env):
    """Return all positions and actions, `[S A]` each."""
    grid = torch.cartesian_prod(torch.arange(env.num_states), torch.arange(int(env.action_space.n)))
    return grid[:, 0], grid[:, 1]


def merged(rows):
    """Add up the probability of equal (next position, reward, terminated); none of it is lost."""
    table = defaultdict(float)
    for probability, position, reward, terminated in rows:
        table[int(position), round(float(reward), 5), bool(terminated)] += float(probability)
    return {outcome: probability for outcome, probability in table.items() if probability > 0}


def table_of(env):
    """Return {(position, action): {(next position, reward, terminated): probability}}."""
    positions, actions = pairs(env)
    all_outcomes = torch.vmap(env.outcomes)(positions, actions)
    assert all_outcomes.probability.dtype == all_outcomes.reward.dtype == torch.float32
    assert all_outcomes.position.dtype == torch.int64
    assert all_outcomes.terminated.dtype == torch.bool
    columns = (all_outcomes.probability, all_outcomes.position, all_outcomes.reward, all_outcomes.terminated)
    columns = [column.tolist() for column in columns]
    keys = zip(positions.tolist(), actions.tolist(), strict=True)
    return {key: merged(zip(*rows, strict=True)) for key, *rows in zip(keys, *columns, strict=True)}


def assert_same_tables(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        assert ours[key].keys() == expected.keys(), key
        for outcome, probability in expected.items():
            assert abs(ours[key][outcome] - probability) < 1e-6, (key, outcome)


def assert_table_is_gymnasiums(env, reference):
    table = reference.unwrapped.P
    theirs = {(s, a): merged(rows) for s, actions in table.items() for a, rows in actions.items()}
    assert_same_tables(table_of(env), theirs)


def assert_surroundings_are_gymnasiums(env, reference):
    assert env.observation_space == reference.observation_space
    assert env.action_space == reference.action_space
    assert env.max_episode_steps == reference.spec.max_episode_steps
    begin = env.initial_distribution()
    assert begin.dtype == torch.float32
    np.testing.assert_allclose(begin.numpy(), reference.unwrapped.initial_state_distrib, atol=1e-6)


def best_actions(env):
    """Return the optimal action in each position, by value iteration over the table of outcomes."""
    positions, actions = pairs(env)
    table = torch.vmap(env.outcomes)(positions, actions)
    values = torch.zeros(env.num_states)
    for _ in range(60):
        following = torch.where(table.terminated, 0.0, 0.99 * values[table.position])
        returns = (table.probability * (table.reward + following)).sum(dim=1).reshape(env.num_states, -1)
        values = returns.amax(dim=1)
    return returns.argmax(dim=1)


def rollout(env, num_envs, num_steps, seed=0, policy=None):
    """Return the states before each step, the actions and the time steps, `[T, N]`, and the keys."""
    k_reset, k_steps = random.split(random.key(seed), 2)
    states = torch.vmap(lambda k: envs.reset(env, k))(random.split(k_reset, num_envs))
    step = torch.vmap(lambda s, a, k: envs.step(env, s, a, k))
    generator = np.random.default_rng(seed)
    before, taken, rows, keys = [], [], [], []
    for key in random.split(k_steps, num_steps):
        drawn = generator.integers(env.action_space.n, size=num_envs)
        actions = torch.from_numpy(drawn) if policy is None else policy(states, drawn)
        before.append(states)
        taken.append(actions)
        keys.append(random.split(key, num_envs))
        states, row = step(states, actions, keys[-1])
        rows.append(row)
    return tree.stack(before), torch.stack(taken), tree.stack(rows), torch.stack(keys)


def assert_steps_are_gymnasiums(env, reference, num_envs=64, num_steps=200, seed=0, policy=None):
    """Follow our random episodes with Gymnasium, choosing what chance chose for us.

    Returns how many steps agreed, how many of them terminated, and how many truncated.
    """
    states, actions, rows, _ = rollout(env, num_envs, num_steps, seed, policy)
    chooser = Chooser()
    inside = reference.unwrapped
    inside.np_random = chooser
    columns = (states.inner.position, states.obs, actions, rows.next_obs, rows.reward)
    columns = [column.T.tolist() for column in (*columns, rows.terminated, rows.truncated)]
    # What Gymnasium lists, taken apart once a pair instead of once a step.
    ways = {
        (s, a): ([p for p, *_ in rows], [s for _, s, *_ in rows], [(s, r, t) for _, s, r, t in rows])
        for s, actions in inside.P.items()
        for a, rows in actions.items()
    }
    count = 0
    for lane in zip(*columns, strict=True):
        beginning = True
        for position, obs, action, next_obs, reward, terminated, truncated in zip(*lane, strict=True):
            if beginning:
                reference.reset()
                assert inside.initial_state_distrib[obs] > 0
                inside.s = obs
                if hasattr(inside, "fickle_step"):
                    inside.fickle_step = position >= 500
            assert inside.s == obs
            if hasattr(inside, "fickle_step"):
                assert inside.fickle_step == (position >= 500)
                chooser.choices = [next_obs % 4]
            probabilities, leads_to, outcomes = ways[obs, action]
            changes_mind = len(chooser.choices) > 0 and next_obs % 4 != obs % 4
            planned = next_obs // 4 * 4 + obs % 4 if changes_mind else next_obs
            if changes_mind:
                chooser.pick(probabilities, leads_to.index(planned))
            else:  # several may lead there, and pay differently
                chooser.pick(probabilities, outcomes.index((next_obs, reward, terminated)))
            found = reference.step(action)[:4]
            assert found == (next_obs, reward, terminated, truncated), (obs, action)
            beginning = terminated or truncated
            count += 1
    return count, int(rows.terminated.sum()), int(rows.truncated.sum())


def assert_draws_have_the_stated_frequencies(env, num_draws=600, every=1, seed=0):
    """Pooled chi-squared test over all positions and actions (or every so many of them)."""
    positions, actions = (x[::every] for x in pairs(env))
    keys = random.split(random.key(seed), len(positions) * num_draws).reshape(-1, num_draws, 2)
    draw = lambda p, a, k: env.transition(envs.tabular.begin(p), a, k)
    drawn = torch.vmap(torch.vmap(draw, (None, None, 0)))(positions, actions, keys)
    columns = [x.tolist() for x in (drawn.position, drawn.reward, drawn.terminated)]
    table = table_of(env)
    statistic, freedom = 0.0, 0
    for s, a, *columns_of_pair in zip(positions.tolist(), actions.tolist(), *columns, strict=True):
        observed = merged((1, *outcome) for outcome in zip(*columns_of_pair, strict=True))
        expected = table[s, a]
        assert observed.keys() <= expected.keys()
        statistic += sum(
            (observed.get(x, 0) - num_draws * p) ** 2 / (num_draws * p) for x, p in expected.items()
        )
        freedom += len(expected) - 1
    if freedom == 0:  # everything is certain, and nothing else was observed
        return
    assert 0.005 < scipy.stats.chi2.sf(statistic, freedom) < 0.995


def assert_beginnings_have_the_stated_frequencies(env, num_draws=20_000, seed=0):
    begun = torch.vmap(env.initial)(random.split(random.key(seed), num_draws))
    assert not begun.terminated.any()
    assert (begun.reward == 0).all()
    observed = torch.bincount(begun.position, minlength=env.num_states).numpy()
    expected = env.initial_distribution().double().numpy()
    possible = expected > 0
    assert observed[~possible].sum() == 0
    if possible.sum() > 1:
        expected = expected[possible] / expected[possible].sum() * num_draws
        assert scipy.stats.chisquare(observed[possible], expected).pvalue > 0.005


def assert_everything_stays_on_the_device(env):
    """On the device without values, which refuses to work together with another."""
    keys = torch.zeros(3, 2, dtype=torch.int32, device="meta")
    actions = torch.zeros(3, dtype=torch.int64, device="meta")
    states = torch.vmap(lambda k: envs.reset(env, k))(keys)
    after = torch.vmap(lambda s, a, k: envs.step(env, s, a, k))(states, actions, keys)
    assert all(leaf.device.type == "meta" for leaf in tree.leaves((states, after)))


def assert_compiled_is_eager(env, num_envs=50):
    step = torch.vmap(lambda s, a, k: envs.step(env, s, a, k))
    states = torch.vmap(lambda k: envs.reset(env, k))(random.split(random.key(0), num_envs))
    states = tree.map(lambda x: x.contiguous(), states)
    compiled = jit.jit(step, backend="aot_eager")
    for key in random.split(random.key(1), 10):
        actions = random.randint(key, (num_envs,), 0, int(env.action_space.n))
        keys = random.split(random.fold_in(key, 1), num_envs)
        expected, found = step(states, actions, keys), compiled(states, actions, keys)
        assert_equal_trees(found, expected)
        states = expected[0]


def assert_equal_trees(found, expected):
    found, expected = tree.named_leaves(found), tree.named_leaves(expected)
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        assert torch.equal(found[name], leaf), name


def assert_numbers_can_differ(env, other):
    """Two environments that differ in all their numbers, as lanes of one, compiled and not."""
    assert all(x != y for x, y in zip(tree.leaves(env), tree.leaves(other), strict=True))
    both = tree.stack([env, other])
    positions, actions = pairs(env)
    keys = random.split(random.key(0), len(positions))
    all_of = lambda env: (
        torch.vmap(env.outcomes)(positions, actions),
        torch.vmap(lambda p, a, k: env.transition(envs.tabular.begin(p), a, k))(positions, actions, keys),
        torch.vmap(env.initial)(keys),
        env.initial_distribution(),
    )
    together = torch.vmap(all_of)(both)
    compiled = jit.jit(torch.vmap(all_of), backend="aot_eager")(both)
    for lane, alone in enumerate([all_of(env), all_of(other)]):
        for lanes in (together, compiled):
            for x, y in zip(tree.leaves(tree.index(lanes, lane)), tree.leaves(alone), strict=True):
                assert x.dtype == y.dtype
                assert torch.allclose(x.double(), y.double(), atol=1e-6)
