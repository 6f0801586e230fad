"""Ranks that learn together, each from its part of every batch, learn what one process does from whole batches."""

import functools

import pytest
import torch

from funcrl import envs
from funcrl.algos import REGISTRY, ppo
from funcrl.core import random, tree
from funcrl.io.checkpoint import read
from funcrl.train import acting, train
from funcrl.train.collect import act_and_step
from tests.algos.table import ON_POLICY
from tests.forked import Forked
from tests.train import learning_together as together


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two ranks have found, and what they have said."""
    folder = tmp_path_factory.mktemp("ranks")
    each = [Forked(functools.partial(together.learn, rank, 2, folder), folder) for rank in range(2)]
    for process in each:
        said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    return [read(folder / f"rank-{rank}.safetensors") for rank in range(2)], [
        (folder / f"rank-{rank}.txt").read_text() for rank in range(2)
    ]


def of(found, name):
    inside = {
        path.removeprefix(f"['{name}']"): x for path, x in found.items() if path.startswith(f"['{name}'][")
    }
    return [inside[path] for path in sorted(inside, key=lambda path: int(path.strip("[]")))]


def close(ones, others, tolerance=1e-5):
    assert len(ones) == len(others) > 0
    for one, other in zip(ones, others, strict=True):
        assert torch.allclose(one, other, atol=tolerance, rtol=tolerance, equal_nan=True)


@pytest.mark.parametrize("name", together.cases())
def test_updates_from_parts_are_updates_from_the_whole(name, ranks):
    found, _ = ranks
    whole = [tree.as_tensor(x) for x in tree.leaves(together.updated(together.cases()[name], 0, 1))]
    for rank in found:
        close(of(rank, name), whole)


@pytest.mark.parametrize("name", together.RUNS)
def test_a_run_of_ranks_is_that_of_one_process(name, ranks):
    found, _ = ranks
    result = train(*together.agent_and_env(name), **together.RUNS[name], **together.ALIKE, backend="eager")
    whole = [*tree.leaves(result.states.params), result.returns]
    for rank in found:
        close(of(rank, f"run {name}"), whole)
    assert all(
        torch.equal(a, b) for a, b in zip(*(of(rank, f"run {name}")[:-1] for rank in found), strict=True)
    )


def test_traced_it_is_as_many_graphs_and_the_same_numbers(ranks):
    found, _ = ranks
    for rank in found:
        *params, graphs = of(rank, "traced")
        assert graphs == 5  # one puts together what ranks have seen
        close(params, of(rank, "run ppo")[:-1], 1e-4)


def test_what_is_restored_goes_on_on_every_rank(ranks):
    found, _ = ranks
    for rank in found:
        for one, other in zip(of(rank, "restored"), of(rank, "gone on"), strict=True):
            assert torch.equal(one, other)


def test_a_batch_that_does_not_divide_is_refused(ranks):
    _, said = ranks
    for text in said:
        batch, environments = text.splitlines()
        assert batch.startswith(
            "train: the batch size must be divisible by the 2 ranks that learn from its parts, got 3"
        )
        assert environments.startswith(
            "train: num_envs must be divisible by the 2 ranks that share them out, got 3"
        )


@pytest.mark.parametrize("case", ON_POLICY, ids=lambda case: case.id)
def test_what_parts_of_the_environments_do_is_what_all_of_them_do(case):
    case = case.with_config(tree.replace(case.config, num_envs=4))
    agent, policy = case.init(), acting.learning(case.algorithm)
    running = envs.reset_all(case.env, random.split(random.key(3), 4))
    whole = (running, policy.initial_carries(agent, 4))
    parts = [tree.index(whole, slice(2 * i, 2 * i + 2)) for i in range(2)]
    for key in random.split(random.key(4), 3):
        *whole, row = act_and_step(policy, case.env, agent, *whole, key)
        found = [act_and_step(policy, case.env, agent, *parts[i], key, (i, 2)) for i in range(2)]
        parts = [part for *part, _ in found]
        rows = tree.map(lambda *x: torch.cat(x), *[row for *_, row in found])
        close(tree.leaves(rows), tree.leaves(row))


@pytest.mark.parametrize("name", sorted(together.NOT_IN_PARTS))
def test_what_cannot_learn_from_parts_is_refused(name, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    env = {"ucb": "bernoulli", "q_learning": "CliffWalking-v1"}[name]
    with pytest.raises(ValueError, match="data_parallel must be left out for this algorithm"):
        train(name, env, seeds=[0], num_steps=1000, data_parallel=True)


def test_ranks_have_to_have_found_each_other():
    with pytest.raises(ValueError, match="data_parallel must be True only where ranks have found each other"):
        train("ppo", "CartPole-v1", config=ppo.Config(num_envs=2), num_steps=2000, data_parallel=True)
    assert set(together.NOT_IN_PARTS) <= REGISTRY.keys()
