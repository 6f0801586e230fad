"""Population-based training: what moves, what changes, and that it finds what random settings do not."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funcrl import ops
from funcrl.algos import dqn, ppo
from funcrl.core import random, tree
from funcrl.train import search
from funcrl.train.population import Range, draw, exploit, explore
from funcrl.train.search import Trials, make_task, train_population

SMALL = ppo.Config(num_envs=2, window_length=5, hidden=(4,), num_minibatches=2, num_epochs=1)
RANGES = {"learning_rate": Range(1e-5, 1e-2, log=True), "entropy_weight": Range(0.0, 0.1)}


@given(st.lists(st.one_of(st.floats(-9, 9, width=32), st.just(float("nan"))), min_size=4, max_size=40))
def test_the_worst_go_on_from_the_best_and_all_others_from_themselves(values):
    scores = torch.tensor(values, dtype=torch.float32)
    parents = exploit(random.key(1), scores, 0.25)
    moved = min(max(1, len(values) // 4), len(values) // 2)
    order = torch.where(scores.isfinite(), scores, -torch.inf).argsort(descending=True, stable=True).tolist()
    best, worst = set(order[:moved]), set(order[-moved:])
    for lane, parent in enumerate(parents.tolist()):
        assert parent in best if lane in worst else parent == lane


def test_each_of_the_best_is_drawn_equally_often():
    scores, counts = torch.arange(40.0), torch.zeros(40)
    for seed in range(400):
        counts += exploit(random.key(seed), scores, 0.2)[:8].bincount(minlength=40)
    assert counts[:32].sum() == 0
    assert ((counts[32:] / 400 - 1.0).abs() < 0.25).all()


def test_settings_of_those_that_moved_are_their_parents_by_a_factor_or_new():
    parents = torch.arange(2000)
    parents[1000:] = 7
    values = {"learning_rate": torch.full((2000,), 1e-3), "entropy_weight": torch.full((2000,), 0.05)}
    values["learning_rate"][7], values["entropy_weight"][7] = 2e-3, 0.09
    after = explore(random.key(0), values, RANGES, parents)
    for name, where in RANGES.items():
        assert torch.equal(after[name][:1000], values[name][:1000])
        moved, before = after[name][1000:], values[name][7]
        assert moved.min() >= where.low
        assert moved.max() <= where.high
        up = (moved == (before * 1.2).clamp(max=where.high)).float().mean()
        down = torch.isclose(moved, before / 1.2).float().mean()
        assert (up - 0.375).abs() < 0.06
        assert (down - 0.375).abs() < 0.06
    assert not torch.equal(after["learning_rate"] == 2.4e-3, after["entropy_weight"] == 0.1)


def test_ranges_are_drawn_from_evenly_in_their_own_measure():
    values = draw(random.key(0), RANGES, 4000)
    logs = values["learning_rate"].log10()
    assert torch.allclose(
        logs.quantile(torch.tensor([0.25, 0.5, 0.75])), torch.tensor([-4.25, -3.5, -2.75]), atol=0.1
    )
    assert (values["entropy_weight"].mean() - 0.05).abs() < 0.003
    for low, high, log in (
        (1.0, 1.0, False),
        (2.0, 1.0, False),
        (0.0, 1.0, True),
        (0.0, float("inf"), False),
    ):
        with pytest.raises(ValueError, match="Range: low must be"):
            Range(low, high, log)


def test_a_population_finds_better_settings_than_random_ones_in_as_many_steps():
    """Four settings whose best values are 0.7, noisy scores, and lanes that go a tenth of the way to their settings in a step."""
    where = {name: Range(0.0, 2.0) for name in "abcd"}
    gained = []
    for repetition in range(10):
        key = random.key(repetition)
        values = chance = draw(random.fold_in(key, 0), where, 16)
        x, y = torch.zeros(4, 16), torch.zeros(4, 16)
        for generation in range(1, 31):
            for _ in range(10):
                x = x + 0.1 * (torch.stack(list(values.values())) - x)
                y = y + 0.1 * (torch.stack(list(chance.values())) - y)
            k_noise, k_exploit, k_explore = random.split(random.fold_in(key, generation), 3)
            noise = 0.05 * random.normal(k_noise, (2, 16))
            scores, at_random = (-((z - 0.7) ** 2).sum(0) for z in (x, y))
            if generation < 30:
                parents = exploit(k_exploit, scores + noise[0])
                values, x = explore(k_explore, values, where, parents), x[:, parents]
        gained.append(scores[(scores + noise[0]).argmax()] - at_random[(at_random + noise[1]).argmax()])
    low, _ = ops.bootstrap_interval(random.key(0), torch.stack(gained), statistic=ops.mean)
    assert low > 0.0


@pytest.fixture(scope="module")
def evolve():
    """Train a population, all or the rest of it."""
    given = {"config": SMALL, "population": 5, "num_generations": 4, "num_steps": 80, "backend": "eager"}
    return functools.partial(train_population, "ppo", "CartPole-v1", RANGES, **given)


@pytest.fixture(scope="module")
def whole(evolve):
    """Return a population that was not cut off."""
    return evolve()


@pytest.mark.parametrize("stop", [1, 2])
def test_a_population_that_was_cut_off_goes_on_with_the_same_bits(stop, evolve, whole):
    half = evolve(callback=lambda found: len(found.generations) == stop)
    assert len(half.generations) == stop
    rest = evolve(start=half)
    for one, other in zip(tree.leaves(whole.carry), tree.leaves(rest.carry), strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num())
    assert torch.equal(whole.figures.returns.nan_to_num(), rest.figures.returns.nan_to_num())
    for one, other in zip(whole.generations, rest.generations, strict=True):
        assert torch.equal(one.parents, other.parents)
        assert all(torch.equal(one.values[name], other.values[name]) for name in RANGES)


@pytest.mark.parametrize(
    ("algorithm", "config"),
    [(ppo, SMALL), (dqn, dqn.Config(hidden=(4,), buffer_size=50, warmup_steps=8, batch_size=4))],
)
def test_lanes_take_over_what_was_learnt_and_keep_their_own_worlds(algorithm, config):
    name = algorithm.__name__.rpartition(".")[2]
    task = make_task(
        "search",
        name,
        "CartPole-v1",
        {"learning_rate": RANGES["learning_rate"]},
        config,
        200,
        backend="eager",
    )
    trials = Trials(task, {"learning_rate": torch.tensor([1e-3, 1e-4, 1e-5])}, [0, 1, 2])
    trials.advance(2)
    before = trials.carry
    parents, values = torch.tensor([0, 1, 0]), {"learning_rate": torch.tensor([1e-3, 1e-4, 2e-3])}
    after = search._moved(before, parents, values)
    assert torch.equal(after.agent.config.learning_rate, values["learning_rate"])
    for one, other in zip(tree.leaves(after.agent.params), tree.leaves(before.agent.params), strict=True):
        assert torch.equal(one, other[parents])
    for one, other in zip(tree.leaves(after.memory), tree.leaves(before.memory), strict=True):
        assert torch.equal(one, other[parents])
    assert torch.equal(after.collect_key, before.collect_key)
    assert torch.equal(after.envs.obs, before.envs.obs)


def test_lanes_that_are_kept_go_on_as_among_the_others():
    task = make_task("search", "ppo", "CartPole-v1", RANGES, SMALL, 60, backend="eager")
    values = draw(random.key(3), RANGES, 4)
    trials = Trials(task, values, [0, 1, 0, 1])
    trials.advance(2)
    narrow = trials.keep([3, 1])
    assert narrow.iteration == 2
    trials.advance(4)
    narrow.advance(4)
    assert torch.allclose(narrow.scores(), trials.scores()[[3, 1]], equal_nan=True)
    params, kept = trials.carry.agent.params, narrow.carry.agent.params
    for one, other in zip(tree.leaves(kept), tree.leaves(params), strict=True):
        assert torch.allclose(one, other[[3, 1]], atol=1e-4)
    assert narrow.carry.agent.config.learning_rate.tolist() == values["learning_rate"][[3, 1]].tolist()


def test_what_cannot_be_searched_is_refused():
    given = {"config": SMALL, "num_steps": 80, "backend": "eager"}

    def refused(message, ranges=RANGES, **more):
        with pytest.raises(ValueError, match=message):
            train_population("ppo", "CartPole-v1", ranges, **{**given, **more})

    refused("ranges must name at least one field", {})
    refused("hidden must be a number among the settings of ppo", {"hidden": Range(0.0, 1.0)})
    refused(
        "env.half_length must be a number among the settings of ppo", {"env.half_length": Range(0.1, 1.0)}
    )
    refused("population must be at least 4", population=3)
    refused("share must lie above 0 and up to 0.5", share=0.7)
    refused("num_generations must be at most 8, the iterations", num_generations=9)
