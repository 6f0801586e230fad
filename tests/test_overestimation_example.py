"""The example in which nothing can be won: its environment, its truth, and who overestimates."""

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

from funcrl import envs, nets
from funcrl.algos import double_dqn, dqn, planning
from funcrl.core import ReplayBatch, random, tree
from funcrl.core.jit import jit
from funcrl.envs import tabular
from funcrl.train import Run, solve

EXAMPLE = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "overestimation.py"))
CASINO, SETTINGS = EXAMPLE["Casino"], EXAMPLE["SETTINGS"]


def test_the_environment_is_one():
    envs.check_env(CASINO())


def test_planning_says_to_go_home():
    solution = solve("value_iteration", CASINO(), config=planning.value_iteration.Config(gamma=1.0))
    expected = torch.tensor([0.0, *[-0.1] * 10], dtype=torch.float64).expand(5, 11)
    torch.testing.assert_close(solution.action_values[0, :5], expected)


def test_an_edge_that_pays_is_worth_more_the_more_tables_remain():
    solution = solve("value_iteration", CASINO(edge=-0.1), config=planning.value_iteration.Config(gamma=1.0))
    expected = torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], dtype=torch.float64)
    torch.testing.assert_close(solution.values[0], expected)


def test_both_learn_from_the_same_experience_and_to_different_ends():
    carries = []
    for algorithm in (dqn, double_dqn):
        # Large steps and an early visit of the target network, so that the two soon disagree.
        config = algorithm.Config(**(SETTINGS | {"target_period": 3, "learning_rate": 0.1}))
        env = envs.OneHotObservation(CASINO())
        run = Run(algorithm, env, config, [0, 1], backend="eager", num_cycles=6)
        run.iterate()
        carries.append(run.carry)
    one, other = (tree.leaves(carry.memory.buffer) for carry in carries)
    assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))
    assert int(carries[0].agent.step.min()) > 0
    one, other = (tree.leaves(carry.agent.params) for carry in carries)
    assert not all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def draw_batch(env, key, size):
    """Return bets at tables that are equally likely, drawn anew: no two batches share their errors."""
    k_table, k_action, k_outcome = random.split(key, 3)
    table = random.randint(k_table, (size,), 0, env.num_tables)
    action = random.randint(k_action, (size,), 0, env.num_bets + 1)
    draw = torch.vmap(lambda table, action, key: tabular.draw(key, env.outcomes(table, action)))
    after = draw(table, action, random.split(k_outcome, size))
    seen = torch.eye(env.num_states)
    return ReplayBatch(
        obs=seen[table],
        action=action,
        reward=after.reward,
        discount=1.0 - after.terminated.to(torch.float32),
        next_obs=seen[after.position],
        weight=torch.ones(size),
    )


def estimates(algorithm, num_lanes=16, num_updates=180, size=32):
    """Return max_a Q(first of three tables, a) of each lane, mean of the second half of the updates."""
    env = CASINO(num_tables=3, edge=0.0)
    config = algorithm.Config(
        gamma=1.0,
        learning_rate=0.1,
        target_period=75,
        batch_size=size,
        network=nn.Linear(env.num_states, env.num_bets + 1, device="meta"),
    )
    wrapped = envs.OneHotObservation(env)
    init = lambda key: algorithm.init(key, config, wrapped)
    states = torch.vmap(init)(random.split(random.key(0), num_lanes))
    learn = torch.vmap(lambda state, key: algorithm.update(state, draw_batch(env, key, size)))
    update = jit(lambda states, key: learn(states, random.split(key, num_lanes)), backend="aot_eager")
    first, found = torch.eye(env.num_states)[0], []
    for number, key in enumerate(random.split(random.key(1), num_updates)):
        states = update(states, key)
        if number >= num_updates // 2 and number % 10 == 9:
            values = torch.vmap(nets.apply, in_dims=(None, 0, None))(states.network, states.params, first)
            found.append(values.amax(dim=-1))
    return torch.stack(found).mean(dim=0)


@pytest.fixture(scope="module")
def pair():
    return estimates(dqn), estimates(double_dqn)


def test_dqn_believes_in_winning_where_every_bet_is_fair(pair):
    of_dqn, _ = pair
    assert bool((of_dqn > 0.6).all()), of_dqn


def test_double_dqn_believes_in_less_than_half_of_it(pair):
    of_dqn, of_double = pair
    assert bool((of_double < of_dqn).all()), (of_dqn, of_double)
    assert float(of_double.mean()) < 0.5 * float(of_dqn.mean()), (of_dqn, of_double)
