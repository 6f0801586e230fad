"""The equations of dynamic programming, and the four planners as algorithms."""

import dataclasses
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.utils._pytree as torch_pytree
from hypothesis import given, settings
from hypothesis import strategies as st

from funcrl import envs
from funcrl.algos.planning import (
    REGISTRY,
    Mdp,
    bellman,
    modified_policy_iteration,
    policy_evaluation,
    policy_iteration,
    value_iteration,
)
from funcrl.core import jit, random, tree
from tests.algos.planning.processes import (
    GRID_VALUES,
    grid,
    mdp_of,
    naive_action_values,
    naive_optimum,
    naive_policy_values,
    processes,
)

KEY = random.key(3)
planners = pytest.mark.parametrize("name", sorted(REGISTRY))
gammas = st.sampled_from([0.0, 0.5, 0.9])


def close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=tolerance, rtol=tolerance)


def run(algorithm, mdp, most=5000, **config):
    """Update until converged, by hand."""
    state = algorithm.init(KEY, algorithm.Config(**config), mdp)
    for _ in range(most):
        state = algorithm.update(state, mdp)
        if state.converged:
            return state
    raise AssertionError(f"not converged: {state.metrics}")


def rounds(mdp, policy):
    """Random values and a random policy for a process."""
    rng = np.random.default_rng(policy)
    values = rng.normal(size=mdp.num_states) * 10
    return values, rng.dirichlet(np.ones(mdp.num_actions), mdp.num_states)


@settings(max_examples=60, deadline=None)
@given(processes(), gammas, st.integers(0, 99))
def test_equations_are_their_definition(process, gamma, seed):
    mdp = mdp_of(process)
    values, policy = rounds(mdp, seed)
    expected = naive_action_values(process, values, gamma)
    given_values, given_policy = torch.tensor(values), torch.tensor(policy)
    close(bellman.action_values(mdp, given_values, gamma), expected)
    close(bellman.expectation_backup(mdp, given_values, given_policy, gamma), (policy * expected).sum(1))
    close(bellman.optimality_backup(mdp, given_values, gamma), expected.max(1))
    close(bellman.solve_policy(mdp, given_policy, gamma), naive_policy_values(process, policy, gamma), 1e-10)


@settings(max_examples=40, deadline=None)
@given(processes(), gammas)
def test_planners_find_the_best_of_all_policies(process, gamma):
    mdp = mdp_of(process)
    best = naive_optimum(process, gamma)
    for algorithm in (value_iteration, policy_iteration, modified_policy_iteration):
        state = run(algorithm, mdp, gamma=gamma)
        close(state.values, best, 1e-8)
        close(naive_policy_values(process, state.policy.numpy(), gamma), best, 1e-7)


@settings(max_examples=25, deadline=None)
@given(processes(termination=(0.3, 1.0)).filter(lambda process: process[2].min() > 0.05))
def test_planners_find_the_best_of_all_policies_without_a_discount(process):
    mdp = mdp_of(process)
    best = naive_optimum(process, 1.0)
    for algorithm in (value_iteration, policy_iteration, modified_policy_iteration):
        close(run(algorithm, mdp, gamma=1.0).values, best, 1e-8)


@settings(max_examples=25, deadline=None)
@given(processes(), gammas, st.integers(0, 99))
def test_a_policy_is_evaluated_by_sweeps_and_by_a_solve(process, gamma, seed):
    mdp = mdp_of(process)
    _, policy = rounds(mdp, seed)
    for solver in ("sweeps", "linear"):
        config = policy_evaluation.Config(gamma=gamma, solver=solver)
        state = policy_evaluation.init(KEY, config, mdp, torch.tensor(policy))
        while not state.converged:
            state = policy_evaluation.update(state, mdp)
        close(state.values, naive_policy_values(process, policy, gamma), 1e-9)
        close(state.policy, policy)
        q = naive_action_values(process, state.values.numpy(), gamma)
        assert state.metrics["improvable_states"] == (q.max(1) > state.values.numpy() + 1e-9).sum()
        assert solver == "sweeps" or int(state.step) == 1


def test_the_grid_of_the_book():
    mdp = grid()
    for solver in ("sweeps", "linear"):
        values = run(policy_evaluation, mdp, gamma=1.0, solver=solver).values
        close(values[1:15], GRID_VALUES[1:15], 1e-9)
    state = run(policy_iteration, mdp, gamma=1.0)
    steps = np.minimum(np.add.outer(range(4), range(4)), 6 - np.add.outer(range(4), range(4))).flatten()
    close(state.values[1:15], -steps[1:15], 1e-9)
    # Figure 4.1: from the cell right of the corner only to the left, in the middle two ways.
    close(state.policy[1], [0, 0, 0, 1])
    close(state.policy[5], [0.5, 0, 0, 0.5])
    close(state.policy[10], [0, 0.5, 0.5, 0])


def test_improvement_shares_ties():
    q = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 1.0], [3.0, 3.0 - 1e-12, 3.0]], dtype=torch.float64)
    close(bellman.improve(q, 1e-9), [[0.5, 0.5, 0], [0, 1, 0], [1 / 3, 1 / 3, 1 / 3]])
    close(bellman.improve(q), [[0.5, 0.5, 0], [0, 1, 0], [0.5, 0, 0.5]])


def test_residuals_shrink_by_the_discount():
    mdp = Mdp.random(random.key(5), 12, 3, branching=4)
    for algorithm in (value_iteration, policy_evaluation):
        state = algorithm.init(KEY, algorithm.Config(gamma=0.8), mdp)
        best = run(algorithm, mdp, gamma=0.8).values
        residual = torch.inf
        for _ in range(40):
            state = algorithm.update(state, mdp)
            assert state.metrics["residual"] <= 0.8 * residual + 1e-14
            residual = state.metrics["residual"]
            assert (state.values - best).abs().amax() <= 0.8 / 0.2 * residual + 1e-14


def test_no_improvement_lowers_a_value():
    mdp = Mdp.random(random.key(6), 40, 5, branching=3)
    state = policy_iteration.init(KEY, policy_iteration.Config(gamma=0.95), mdp)
    values = []
    while not state.converged:
        state = policy_iteration.update(state, mdp)
        values.append(state.values)
    assert len(values) > 2
    for before, after in pairwise(values):
        assert (after >= before - 1e-12).all()
    assert state.metrics["changed_states"] == 0


def test_equally_good_policies_do_not_take_turns():
    """Two ways that differ by rounding only, from a policy that takes the one, and the other."""
    onward = [[0, 0, 0.1, 0.2, 0.7], [0, 0, 0.7, 0.1, 0.2]]
    stay = lambda state: [np.eye(5)[state]] * 2
    transition = [onward, onward[::-1], stay(2), stay(3), stay(4)]
    reward = np.array([[0.0, 0], [0, 0], [0.3, 0.3], [0.3, 0.3], [0.3, 0.3]])
    mdp = Mdp.from_tensors(transition, reward)
    for row in ([1.0, 0.0], [0.0, 1.0], [0.3, 0.7]):
        policy = torch.tensor([row] * 5, dtype=torch.float64)
        state = policy_iteration.init(KEY, policy_iteration.Config(gamma=0.9), mdp, policy)
        state = policy_iteration.update(state, mdp)
        assert state.converged
        assert state.metrics["changed_states"] == 0
        close(state.policy, np.full((5, 2), 0.5))
        close(state.values, [2.7, 2.7, 3, 3, 3])


def test_rewards_of_any_size_converge():
    for size in (1e-6, 1e9):
        mdp = Mdp.random(random.key(7), 8, 3, branching=3)
        mdp = tree.replace(mdp, reward=mdp.reward * size)
        found = [run(REGISTRY[name], mdp, gamma=0.9).values / size for name in sorted(REGISTRY)]
        close(found[0], found[3], 1e-4 if size < 1 else 1e-8)
        close(found[2], found[3], 1e-4 if size < 1 else 1e-8)


@planners
def test_convergence_does_not_depend_on_the_unit_of_rewards(name):
    mdp = Mdp.random(random.key(7), 8, 3, branching=3)
    scaled = [tree.replace(mdp, reward=mdp.reward * size) for size in (2.0**5, 2.0**35)]
    few, many = (run(REGISTRY[name], one, gamma=0.9) for one in scaled)
    assert few.step == many.step
    close(few.policy, many.policy)


@settings(max_examples=25, deadline=None)
@given(processes(), gammas, st.integers(0, 99), st.integers(0, 4))
def test_a_round_of_modified_policy_iteration(process, gamma, seed, num_sweeps):
    mdp = mdp_of(process)
    values, _ = rounds(mdp, seed)
    config = modified_policy_iteration.Config(gamma=gamma, num_sweeps=num_sweeps)
    state = modified_policy_iteration.init(KEY, config, mdp)
    found = modified_policy_iteration.update(tree.replace(state, values=torch.tensor(values)), mdp)
    q = naive_action_values(process, values, gamma)
    best = q >= q.max(1, keepdims=True)
    policy, expected = best / best.sum(1, keepdims=True), q.max(1)
    for _ in range(num_sweeps):
        expected = (policy * naive_action_values(process, expected, gamma)).sum(1)
    # Where ties are rounding's, either of them will do.
    if np.isclose(q, q.max(1, keepdims=True)).sum() == best.sum():
        close(found.values, expected, 1e-11)
    close(found.metrics["residual"], np.abs(q.max(1) - values).max())


def ice():
    """A frozen lake on which one does not slip: without a discount all ways to the goal are best."""
    return Mdp.from_env(envs.make("FrozenLake-v1", is_slippery=False))


def test_circles_that_cost_nothing_are_left():
    mdp = ice()
    for name in ("policy_iteration", "value_iteration", "modified_policy_iteration"):
        state = run(REGISTRY[name], mdp, gamma=1.0)
        holes = torch.tensor([5, 7, 11, 12, 15])
        expected = torch.ones(16, dtype=torch.float64).index_fill(0, holes, 0.0)
        close(state.values, expected, 1e-9)
        # Going left in the corner is as good as any; what is handed out still arrives.
        assert state.policy[0, 0] > 0
        close(bellman.solve_policy(mdp, state.policy, 1.0), expected, 1e-9)


@pytest.mark.parametrize("ways", [1, 2])
def test_rounding_closes_no_circle(ways):
    """In 40 states staying is as good as any way of going on, as far as rounding lets one see."""
    transition, reward = np.zeros((44, 1 + ways, 44)), np.zeros((44, 1 + ways))
    transition[:40, 0, :40] = np.eye(40)
    transition[:40, 1:, 40:43] = np.random.default_rng(0).dirichlet(np.ones(3), (40, ways))
    transition[40:, :, 43] = 1
    reward[40:43] = 0.3
    reward[43, 1] = -1  # beside them, a state that has something to improve
    terminated = transition * (np.arange(44) >= 40)[:, None, None]
    mdp = Mdp.from_tensors(transition, reward, terminated > 0)
    for name in ("policy_iteration", "value_iteration", "modified_policy_iteration"):
        state = run(REGISTRY[name], mdp, gamma=1.0)
        close(state.values[:40], np.full(40, 0.3))
        close(state.policy[:40], np.full((40, 1 + ways), 1 / (1 + ways)))
        assert name != "policy_iteration" or int(state.step) == 2


def test_the_final_policy_keeps_what_was_good_enough():
    mdp = Mdp.from_tensors([[[1.0], [1.0], [1.0]]], [[1.0, 0.9, 0.2]], [True])
    policy = torch.tensor([[0.5, 0.5, 0.0]])
    config = policy_iteration.Config(threshold=0.06, tie_tolerance=0.0)
    state = policy_iteration.update(policy_iteration.init(KEY, config, mdp, policy), mdp)
    assert state.converged
    close(state.policy, [[0.5, 0.5, 0]])


def chain(reward, stay_pays=0.0):
    """State 0: stay, or go on and end; state 1 stays where it is for ever."""
    transition = [[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]
    return Mdp.from_tensors(transition, [[stay_pays, reward], [0.0, 0.0]])


def test_a_state_of_rest_is_worth_nothing_without_a_discount():
    for reward in (2.0, -2.0):
        mdp = chain(reward)
        assert bellman.can_end(mdp).tolist() == [True, True]
        go = torch.tensor([[0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
        close(bellman.solve_policy(mdp, go, 1.0), [reward, 0])
        stay = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
        close(bellman.solve_policy(mdp, stay, 1.0), [0, 0])
        assert bellman.can_end(mdp, stay).all()
    assert bellman.can_end(chain(1.0, -1.0), stay).tolist() == [False, True]
    away = Mdp.from_tensors([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]], [[0.0, 0.0], [1.0, 1.0]])
    assert not bellman.can_end(away).any()
    close(run(policy_iteration, chain(2.0), gamma=1.0).values, [2, 0])
    # A circle that earns nothing is not entered to avoid what the end costs.
    close(run(policy_iteration, chain(-2.0), gamma=1.0).values, [-2, 0])


def test_a_circle_with_a_gain_has_no_values():
    mdp = chain(1.0, stay_pays=1.0)
    stay = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    assert bellman.solve_policy(mdp, stay, 1.0).isnan().all()
    state = policy_iteration.init(KEY, policy_iteration.Config(gamma=1.0), mdp)
    for _ in range(4):
        state = policy_iteration.update(state, mdp)
    assert state.values.isnan().all()
    assert not state.converged
    # A circle of two states, where rounding hides that the matrix is singular.
    third = 1 / 3
    turns = [[[third, 2 * third, 0]], [[2 * third, third, 0]], [[0, 0, 1.0]]]
    mdp = Mdp.from_tensors(turns, [[0.1], [0.7], [0.0]])
    assert bellman.solve_policy(mdp, torch.ones(3, 1).double(), 1.0).isnan().all()


def test_ends_are_found_through_many_states():
    size = 30
    transition = np.eye(size, k=1)[:, None]
    transition[-1, 0, -1] = 1
    ends = np.arange(size) == size - 1
    assert bellman.can_end(Mdp.from_tensors(transition, np.ones((size, 1)), ends)).all()
    mdp = Mdp.from_tensors(transition, np.ones((size, 1)))
    assert not bellman.can_end(mdp).any()
    both = tree.stack([mdp, Mdp.from_tensors(transition, np.ones((size, 1)), ends)])
    assert bellman.can_end(both).all(dim=1).tolist() == [False, True]


@planners
def test_it_is_an_algorithm_like_any_other(name):
    algorithm, mdp = REGISTRY[name], Mdp.random(random.key(8), 6, 3)
    state = algorithm.init(KEY, algorithm.Config(), mdp)
    assert list(state.metrics) == list(algorithm.METRICS)
    assert all(metric.isnan() for metric in state.metrics.values())
    assert all(leaf.dtype == torch.float64 and leaf.shape == () for leaf in tree.leaves(state.config))
    before = tree.map(torch.clone, (state, mdp))
    after = algorithm.update(state, mdp)
    for x, y in zip(tree.leaves(before), tree.leaves((state, mdp)), strict=True):
        assert torch.equal(x.nan_to_num(), y.nan_to_num())
    layout = lambda x: (torch_pytree.tree_structure(x), [(y.shape, y.dtype) for y in tree.leaves(x)])
    assert layout(after) == layout(state)
    assert all(metric.isfinite() and metric.shape == () for metric in after.metrics.values())
    assert int(after.step) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.values = None
    # Spaces are enough to begin with.
    assert (
        layout(algorithm.init(KEY, algorithm.Config(), envs.make("CliffWalking-v1")))[0] == layout(state)[0]
    )


@planners
def test_it_acts_on_its_policy(name):
    algorithm, mdp = REGISTRY[name], grid()
    state = run(algorithm, mdp, gamma=0.9)
    state = tree.replace(state, policy=run(value_iteration, mdp, gamma=0.9).policy)
    obs = torch.full((2000,), 5)
    action, extras = algorithm.act(state, obs, KEY)
    assert extras == {}
    assert action.dtype == torch.int64
    share = torch.bincount(action, minlength=4) / 2000
    assert share[1:3].sum() == 0
    assert abs(float(share[0]) - 0.5) < 0.05
    assert algorithm.greedy(state, obs[:3]).tolist() == [0, 0, 0]
    assert algorithm.greedy(state, obs[0]).shape == algorithm.act(state, obs[0], KEY)[0].shape == ()
    assert int(algorithm.greedy(state, torch.tensor(1))) == 3
    states = tree.stack([state, state])
    drawn, _ = torch.vmap(algorithm.act)(states, obs.reshape(2, 1000), random.split(KEY, 2))
    assert drawn.shape == (2, 1000)
    compiled = jit.jit(algorithm.act, backend="aot_eager")
    assert torch.equal(compiled(state, obs, KEY)[0], action)


@planners
def test_lanes_and_programs_equal_a_loop(name):
    algorithm = REGISTRY[name]
    mdps = torch.vmap(lambda k: Mdp.random(k, 6, 3, branching=2))(random.split(random.key(9), 3))
    fields = [x.name for x in dataclasses.fields(algorithm.Config) if not x.metadata.get("static", False)]
    values = torch.tensor([0.9, 0.5, 0.0], dtype=torch.float64)

    def two(mdp, x, field):
        config = tree.replace(algorithm.Config(), **{field: x})
        state = algorithm.init(KEY, config, mdp)
        return algorithm.update(algorithm.update(state, mdp), mdp)

    for field in fields:
        lanes = torch.vmap(lambda mdp, x, field=field: two(mdp, x, field))
        together, compiled = lanes(mdps, values), jit.jit(lanes, backend="aot_eager")(mdps, values)
        nested = torch.vmap(lanes)(tree.map(lambda x: x[None], mdps), values[None])
        for lane in range(3):
            alone = two(tree.index(mdps, lane), values[lane], field)
            for found in (together, compiled, tree.index(nested, 0)):
                for x, y in zip(tree.leaves(tree.index(found, lane)), tree.leaves(alone), strict=True):
                    close(x, y, 1e-10)


@pytest.mark.compiled
def test_the_compiler_agrees():
    mdps = torch.vmap(lambda k: Mdp.random(k, 6, 3))(random.split(random.key(9), 3))
    one = policy_iteration.init(KEY, policy_iteration.Config(gamma=0.9), tree.index(mdps, 0))
    states = tree.stack([one, one, one])
    expected = torch.vmap(policy_iteration.update)(states, mdps)
    compiled = jit.jit(torch.vmap(policy_iteration.update))
    found = compiled(states, mdps)
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        close(x, y, 1e-10)
    compiled(found, mdps)
    assert compiled.num_graphs == 1


@pytest.mark.parametrize(
    ("name", "settings", "error"),
    [
        ("value_iteration", {"gamma": 1.5}, r"value_iteration.Config: gamma must lie in \[0, 1\]"),
        ("policy_iteration", {"threshold": -1.0}, r"policy_iteration.Config: threshold must lie in"),
        ("policy_iteration", {"tie_tolerance": -1.0}, "tie_tolerance must lie in"),
        ("policy_evaluation", {"solver": "sweep"}, "Did you mean 'sweeps'?"),
        ("modified_policy_iteration", {"num_sweeps": -1}, "num_sweeps must be at least 0"),
    ],
)
def test_bad_settings_are_refused(name, settings, error):
    with pytest.raises(ValueError, match=error):
        REGISTRY[name].Config(**settings)


@planners
def test_spaces_and_policies_that_do_not_fit_are_refused(name):
    algorithm = REGISTRY[name]
    with pytest.raises(ValueError, match=rf"{name}.init: env.observation_space must be Discrete"):
        algorithm.init(KEY, algorithm.Config(), envs.make("Corridor-v0"))
    walk, pendulum = envs.make("CliffWalking-v1"), envs.make("Pendulum-v1")
    env = SimpleNamespace(observation_space=walk.observation_space, action_space=pendulum.action_space)
    with pytest.raises(ValueError, match=rf"{name}.init: env.action_space must be Discrete"):
        algorithm.init(KEY, algorithm.Config(), env)
    if name in ("policy_evaluation", "policy_iteration"):
        with pytest.raises(ValueError, match=r"policy must have the shape \[16, 4\]"):
            algorithm.init(KEY, algorithm.Config(), grid(), torch.ones(4, 16))
