"""Planning to the end: published values, lanes, bounds, and what is refused."""

import functools

import gymnasium
import numpy as np
import pytest
import torch

from funcrl import envs
from funcrl.algos import ppo
from funcrl.algos.planning import (
    REGISTRY,
    Mdp,
    bellman,
    modified_policy_iteration,
    policy_evaluation,
    policy_iteration,
    value_iteration,
)
from funcrl.core import random, tree
from funcrl.train.planning import solve

ITERATIONS = ["value_iteration", "policy_iteration", "modified_policy_iteration"]
iterations = pytest.mark.parametrize("name", ITERATIONS)

TARGETS = {
    "CliffWalking-v1": {1.0: -13, 0.99: -12.247898, 0.9: -7.458134},
    "CliffWalkingSlippery-v1": {1.0: -64.709176, 0.99: -46.352672, 0.9: -9.936417},
    "FrozenLake-v1": {1.0: 0.823529, 0.99: 0.542026},
}
"""optimal value of the start by discount, from shared TARGETS.md, computed from Gymnasium's tables"""


def some(num_lanes=3, **kwargs):
    make = lambda k: Mdp.random(k, 7, 3, branching=3, **kwargs)
    return torch.vmap(make)(random.split(random.key(4), num_lanes))


def close(a, b, tolerance=1e-9):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=tolerance, rtol=0)


@iterations
@pytest.mark.parametrize("env", TARGETS)
def test_published_values(env, name):
    gammas, values = list(TARGETS[env]), list(TARGETS[env].values())
    config = REGISTRY[name].Config(gamma=gammas)
    mdp = Mdp.from_env(envs.make(env))
    # Gymnasium's tables are as good for all, and policy iteration has done with them first.
    for source in (env, gymnasium.make(env)) if name == "policy_iteration" else (env,):
        solution = solve(name, source, config=config)
        assert solution.converged.all()
        close(solution.start_values, values, 1e-6)
        for lane, gamma in enumerate(gammas):
            # The policy earns what is promised.
            policy_values = bellman.solve_policy(mdp, solution.policy[lane], gamma)
            close(policy_values, solution.values[lane], 1e-7)


def test_closed_forms():
    length, gamma = 10, 0.9
    solution = solve("policy_iteration", "Corridor-v0", config=policy_iteration.Config(gamma=gamma))
    expected = gamma**8 * 1.0 - 0.1 * (1 - gamma**8) / (1 - gamma)
    close(solution.start_values, [expected], 1e-12)
    assert solution.policy[0, : length - 1].tolist() == [[0, 1]] * (length - 1)
    lake = solve("value_iteration", "FrozenLake-v1", config=value_iteration.Config(gamma=1.0))
    close(lake.start_values, [14 / 17], 1e-10)


def test_shapes_and_what_they_mean():
    seen = []
    config = value_iteration.Config(gamma=[0.9, 0.5])
    solution = solve("value_iteration", some(2), config=config, callback=lambda x: seen.append(x))
    num_sweeps = int(solution.sweeps.max())
    assert solution.values.shape == (2, 7)
    assert solution.action_values.shape == solution.policy.shape == (2, 7, 3)
    assert solution.residuals.shape == (2, num_sweeps)
    assert [sweep.number for sweep in seen] == list(range(1, num_sweeps + 1))
    close(solution.action_values.amax(-1), solution.values, 1e-10)
    close(solution.start_values, solution.values.mean(1))
    for lane in range(2):
        count = int(solution.sweeps[lane])
        assert solution.residuals[lane].isfinite().tolist() == [i < count for i in range(num_sweeps)]
        assert solution.residuals[lane, count - 1] <= 1e-12 * max(1, solution.values[lane].abs().max())
        shown = torch.stack([sweep.states.metrics["residual"][lane] for sweep in seen])
        close(shown[:count], solution.residuals[lane, :count], 0)
    assert solution.sweeps[1] < solution.sweeps[0]
    one = solve(value_iteration, Mdp.random(random.key(0), 4, 2))
    assert one.values.shape == (1, 4)
    assert one.start_values.shape == (1,)
    half = value_iteration.Config(gamma=torch.tensor(0.5))
    assert solve("value_iteration", some(2), config=half).values.shape == (2, 7)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_lanes_do_not_know_of_each_other(name):
    config = REGISTRY[name].Config
    gammas, mdps = [0.7, 0.3, 0.6], some()
    both = solve(name, mdps, config=config(gamma=gammas), backend="eager")
    one_config = solve(name, mdps, config=config(gamma=0.6), backend="eager")
    one_mdp = solve(name, tree.index(mdps, 0), config=config(gamma=gammas), backend="eager")

    @functools.cache
    def by_itself(process, discount):
        return solve(name, tree.index(mdps, process), config=config(gamma=discount), backend="eager")

    for lane, gamma in enumerate(gammas):
        for together, process, discount in (
            (both, lane, gamma),
            (one_config, lane, 0.6),
            (one_mdp, 0, gamma),
        ):
            alone = by_itself(process, discount)
            close(together.values[lane], alone.values[0], 1e-12)
            close(together.policy[lane], alone.policy[0], 1e-12)
            assert together.sweeps[lane] == alone.sweeps[0]
    found = solve(name, mdps, config=config(gamma=gammas), backend="aot_eager")
    close(found.values, both.values, 1e-12)


@pytest.mark.compiled
def test_compiled_is_eager():
    mdps = some()
    compiled = solve("value_iteration", mdps, config=value_iteration.Config(gamma=0.5), backend="inductor")
    close(compiled.values, solve("value_iteration", mdps, config=value_iteration.Config(gamma=0.5)).values)


def test_lanes_of_an_environment():
    env = envs.make("CliffWalking-v1", cliff_reward=[-100.0, -1.0])
    solution = solve("policy_iteration", env, config=policy_iteration.Config(gamma=1.0))
    close(solution.start_values, [-13, -13])
    fall = solution.action_values[:, 36, 1]
    close(fall, [-113, -14])


def test_a_policy_to_evaluate_or_to_begin_with():
    mdp = Mdp.from_env(envs.make("CliffWalking-v1"))
    right = torch.zeros(48, 4).index_fill(1, torch.tensor(1), 1.0)
    config = policy_evaluation.Config(gamma=0.5, solver="linear")
    close(solve("policy_evaluation", mdp, config=config, policy=right).start_values, [-200])
    other = right.clone()
    other[36] = torch.tensor([1.0, 0, 0, 0])
    both = solve("policy_evaluation", mdp, config=config, policy=torch.stack([right, other]).tolist())
    close(both.start_values, [-200, -2])
    started = solve("policy_iteration", mdp, policy=solve("policy_iteration", mdp).policy[0])
    assert started.sweeps.tolist() == [1]
    # Every action equally often: Howard's first step, by hand for one state.
    mdp = Mdp.from_tensors([[[1.0], [1.0]]], [[1.0, 3.0]])
    close(solve("policy_evaluation", mdp, config=policy_evaluation.Config(gamma=0.5)).values, [[4]])


def test_a_bound_that_is_too_small_is_said():
    with pytest.warns(RuntimeWarning, match="1 of 2 lanes have not converged after 50 sweeps.*lanes .1"):
        solution = solve(
            "value_iteration", some(2), config=value_iteration.Config(gamma=[0.0, 0.99]), max_sweeps=50
        )
    assert solution.converged.tolist() == [True, False]
    assert solution.sweeps.tolist() == [2, 50]
    assert solution.residuals.shape == (2, 50)


def test_a_callback_stops_and_changes_nothing():
    def spoil(sweep):
        sweep.states.values.zero_()
        return sweep.number == 5

    with pytest.warns(RuntimeWarning):
        stopped = solve("value_iteration", "FrozenLake-v1", callback=spoil)
    with pytest.warns(RuntimeWarning):
        bounded = solve("value_iteration", "FrozenLake-v1", max_sweeps=5)
    close(stopped.values, bounded.values, 0)


def test_a_lane_without_values_stops_alone():
    """A circle with a gain and no discount; beside it the same circle with one."""
    mdp = Mdp.random(random.key(1), 30, 4, branching=3, termination=0.1)
    at_0 = torch.zeros(30, 4, 30, dtype=torch.float64)
    at_0[0, 0, 0] = 1
    rows = (at_0.sum(-1) > 0).unsqueeze(-1)
    circle = tree.replace(
        mdp,
        transition=torch.where(rows, at_0, mdp.transition),
        terminated=torch.where(rows, 0.0, mdp.terminated),
        reward=torch.where(rows[..., 0], 5.0, mdp.reward),
    )
    with pytest.warns(RuntimeWarning, match="1 of 2 lanes"):
        solution = solve("policy_iteration", circle, config=policy_iteration.Config(gamma=[1.0, 0.9]))
    assert solution.values[0].isnan().all()
    close(solution.values[1, 0], 50)
    assert solution.converged.tolist() == [False, True]
    assert solution.sweeps[0] == 2
    assert solution.sweeps[1] > 2


def test_a_process_that_never_ends_needs_a_discount():
    loop = Mdp.from_tensors([[[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]], [[1.0], [1.0], [0.0]])
    message = r"solve: config.gamma must be below 1 where no policy ends the episode, got 1.0. From state 0"
    for name in sorted(REGISTRY):
        for gamma in (1.0, [0.5, 1.0]):
            with pytest.raises(ValueError, match=message):
                solve(name, loop, config=REGISTRY[name].Config(gamma=gamma))
    both = tree.stack([Mdp.from_tensors(loop.transition, loop.reward, [False, True, False]), loop])
    with pytest.raises(ValueError, match="From state 0"):
        solve("value_iteration", both, config=value_iteration.Config(gamma=1.0))
    solution = solve("value_iteration", both, config=value_iteration.Config(gamma=[1.0, 0.5]))
    close(solution.values, [[1, 2, 0], [2, 2, 0]])


def test_a_policy_that_never_ends_needs_a_discount():
    up = torch.zeros(48, 4).index_fill(1, torch.tensor(0), 1.0)
    message = "must be below 1 where the policy never ends the episode, got 1.0. From state 0 it would go on"
    for name in ("policy_evaluation", "policy_iteration"):
        config = REGISTRY[name].Config(gamma=1.0)
        with pytest.raises(ValueError, match=message):
            solve(name, "CliffWalking-v1", config=config, policy=up)
        uniform = torch.full((48, 4), 0.25)
        with pytest.raises(ValueError, match=message):
            solve(name, "CliffWalking-v1", config=config, policy=torch.stack([uniform, up]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"algorithm": "value_iterations"}, ValueError, "Did you mean 'value_iteration'"),
        (
            {"algorithm": ppo},
            TypeError,
            "algorithm must be a planner, got <module 'funcrl.algos.policy_gradient.ppo'",
        ),
        ({"mdp": "CliffWalkin-v1"}, ValueError, "Did you mean 'CliffWalking-v1'"),
        ({"mdp": "CartPole-v1"}, TypeError, "must be an environment that lists its outcomes"),
        ({"mdp": "gymnasium:CartPole-v1"}, TypeError, "must have its table of outcomes"),
        ({"config": policy_iteration.Config()}, TypeError, "config must be a value_iteration.Config"),
        ({"config": value_iteration.Config(gamma=[0.5, 1.5])}, ValueError, r"gamma must lie in \[0, 1\]"),
        ({"config": value_iteration.Config(gamma=[])}, ValueError, "at least one, got {'config': 0}"),
        ({"config": value_iteration.Config(gamma=[0.5, 0.9], threshold=[1e-9] * 3)}, ValueError, "2 lanes"),
        ({"policy": torch.ones(48, 4) / 4}, ValueError, "policy must be None for a planner"),
        ({"max_sweeps": 0}, ValueError, "max_sweeps must be at least 1"),
        ({"backend": "numpy"}, ValueError, "backend must be one of"),
        ({"device": "tpu"}, ValueError, "device must be cpu or cuda"),
        ({"callback": 3}, TypeError, "callback must be a function of a Sweep"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    arguments = {"algorithm": "value_iteration", "mdp": "CliffWalking-v1"} | change
    with pytest.raises(error, match=message):
        solve(arguments.pop("algorithm"), arguments.pop("mdp"), **arguments)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.full((48, 4), 0.2), r"solve: policy\[0\] must sum to one, got 0.8. This is the row of state 0."),
        (np.full((2, 48, 4), 0.2), r"policy\[0, 0\] must sum to one, got 0.8. .* state 0 of lane 0."),
        (np.full((4, 48), 0.25), r"policy must have the shape \[48, 4\], or \[L, 48, 4\], got \[4, 48\]"),
    ],
)
def test_bad_policies_are_refused(policy, message):
    with pytest.raises(ValueError, match=message):
        solve("policy_iteration", "CliffWalking-v1", policy=policy)
    uniform = np.full((2, 48, 4), 0.25)
    config = policy_iteration.Config(gamma=[0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"lanes must be as many .* got {'policy': 2, 'config': 3}"):
        solve("policy_iteration", "CliffWalking-v1", policy=uniform, config=config)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("transition", lambda x: x * 0.9, r"solve: mdp.transition\[0, 0\] must sum to one, got 0.9"),
        ("terminated", lambda x: x + 2, r"mdp.terminated\[0, 0, 0\] must be a part of mdp.transition"),
        ("terminated", lambda x: x - 1, r"mdp.terminated\[0, 0, 0\] must be a part of mdp.transition"),
        ("reward", lambda x: x[:2], r"mdp.reward must have the shape \[7, 3\]"),
        ("reward", lambda x: x.float(), "mdp.reward must be float64"),
        ("reward", lambda x: x * torch.nan, r"mdp.reward\[0, 0\] must be finite"),
        ("initial", lambda x: 2 * x, r"mdp.initial must sum to one, got 2"),
        ("transition", lambda x: x[0], "mdp.transition must have the shape"),
    ],
)
def test_a_process_put_together_by_hand_is_checked(name, change, message):
    mdp = tree.index(some(1), 0)
    mdp = tree.replace(mdp, **{name: change(getattr(mdp, name))})
    with pytest.raises(ValueError, match=message):
        solve("value_iteration", mdp)


def test_processes_and_discounts_must_be_as_many():
    with pytest.raises(ValueError, match=r"lanes must be as many .* got {'mdp': 3, 'config': 2}"):
        solve("value_iteration", some(3), config=value_iteration.Config(gamma=[0.5, 0.9]))


def test_planners_agree_on_many_random_processes():
    mdps = some(64, termination=0.05)
    for gamma in (1.0, 0.95):
        found = [solve(name, mdps, config=REGISTRY[name].Config(gamma=gamma)) for name in ITERATIONS]
        for other in found[1:]:
            close(other.values, found[0].values, 1e-8)
            close(other.policy, found[0].policy)
    assert isinstance(found[2].states, modified_policy_iteration.State)
