"""The policy-gradient theorem on a process whose gradient is known, and what follows from it."""

import functools

import pytest
import torch

from funcrl import envs
from funcrl.algos import a2c, actor_critic, ppo, reinforce
from funcrl.algos.planning import Mdp
from funcrl.algos.policy_gradient import agent
from funcrl.core import random, tree
from funcrl.train import acting
from funcrl.train.collect import act_and_step
from tests.algos.table import ON_POLICY

# Slippery, two ways to end, four states: every episode ends, and but for one in a million within the window.
ENV = envs.make(
    "FrozenLake-v1", desc=("SF", "HG"), goal_reward=2.0, frozen_reward=-1.0, max_episode_steps=1000
)
MDP = Mdp.from_env(ENV)
LENGTH, EPISODES = 24, 2000
# A linear policy, undiscounted: then the factor γᵗ, which is left out, is 1.
SETTINGS = {"num_envs": 1, "hidden": (), "gamma": 1.0, "entropy_weight": 0.0, "value_weight": 0.0}


def make(algorithm, **settings):
    """An agent whose policy prefers something everywhere, and whose values are some numbers."""
    if algorithm is not actor_critic:
        settings["window_length"] = LENGTH
    if algorithm is reinforce:
        settings["lookahead"] = 1
    state = algorithm.init(random.key(0), algorithm.Config(**SETTINGS, **settings), ENV)
    k_actor, k_critic = random.split(random.key(1), 2)
    shapes = state.params["actor"]["body.layers.0.weight"].shape
    actor = state.params["actor"] | {"body.layers.0.weight": random.normal(k_actor, shapes)}
    critic = state.params["critic"] | {"body.layers.0.weight": random.normal(k_critic, (1, 4))}
    return tree.replace(state, params=state.params | {"actor": actor, "critic": critic})


def returns_of(actor):
    """v_π of every state, [4] float64, of the policy of a linear actor."""
    pi = torch.softmax(actor["body.layers.0.weight"].T + actor["body.layers.0.bias"], dim=-1)
    going_on = torch.einsum("sa,sat->st", pi, MDP.transition - MDP.terminated)
    reward = (pi * MDP.reward).sum(dim=-1)
    return torch.linalg.solve(torch.eye(4, dtype=torch.float64) - going_on, reward)


def exact_gradient(state):
    """∇_θ v_π(start), by solving for the values."""
    actor = tree.map(lambda p: p.double(), state.params["actor"])
    return torch.func.grad(lambda actor: returns_of(actor)[0])(actor)


def with_values(state):
    """The agent with the true values of its policy as its critic."""
    values = returns_of(tree.map(lambda p: p.double(), state.params["actor"]))
    critic = {"body.layers.0.weight": values.float()[None], "body.layers.0.bias": torch.zeros(1)}
    return tree.replace(state, params=state.params | {"critic": critic})


def window_of(algorithm, state, key):
    """A window that begins with an episode, and which of its steps are those of this first one, [T, 1]."""
    k_reset, *keys = random.split(key, 1 + LENGTH)
    running, rows = envs.reset_all(ENV, random.split(k_reset, 1)), []
    for now in keys:
        running, _, row = act_and_step(acting.learning(algorithm), ENV, state, running, (), now)
        rows.append(row.transition)
    window = tree.stack(rows)
    ended = (window.terminated | window.truncated).long()
    return window, (ended.cumsum(0) - ended == 0).float()


def loss_of(algorithm, state, window, first):
    """The algorithm's loss, summed over the steps of the first episode, as a function of the parameters."""
    if algorithm is actor_critic:
        steps = lambda params, step, weight: actor_critic.loss(
            params, tree.replace(state, weight=weight), step
        )[0]
        return lambda params: torch.vmap(steps, (None, 0, 0))(params, window, first).sum()
    batch = algorithm.prepare(state, window)
    if algorithm is reinforce:
        batch = tree.replace(batch, weight=batch.weight * first.flatten())
        return lambda params: batch.weight.sum() * reinforce.loss(params, state, batch)[0]
    batch = tree.replace(batch, advantage=batch.advantage * first.flatten())
    return lambda params: LENGTH * a2c.loss(params, state, batch)[0]


@functools.cache
def estimates(case):
    """What single episodes say the gradient of the return is, [EPISODES] for each parameter of the actor."""
    algorithm, state = MODULES[case.partition(",")[0]], CASES_AND_WRONG[case]()

    def one(key):
        window, first = window_of(algorithm, state, key)
        grads = torch.func.grad(loss_of(algorithm, state, window, first))(state.params)
        return tree.map(lambda g: -g, grads["actor"])

    return torch.vmap(one)(random.split(random.key(7), EPISODES))


def variance(found):
    return sum(float(x.var(dim=0).sum()) for x in tree.leaves(found))


CASES = {
    "reinforce": lambda: make(reinforce, baseline=False),
    "reinforce, some baseline": lambda: make(reinforce),
    "reinforce, true values": lambda: with_values(make(reinforce)),
    "a2c": lambda: make(a2c),
    "a2c, one step, true values": lambda: with_values(make(a2c, gae_lambda=0.0)),
    "actor-critic, true values": lambda: with_values(make(actor_critic)),
}
WRONG = "actor-critic, wrong values"
CASES_AND_WRONG = CASES | {WRONG: lambda: make(actor_critic)}
MODULES = {"reinforce": reinforce, "a2c": a2c, "actor-critic": actor_critic}


@pytest.mark.parametrize("case", CASES)
def test_the_mean_of_many_estimates_is_the_gradient_of_the_return(case):
    exact, found = exact_gradient(CASES_AND_WRONG[case]()), estimates(case)
    assert max(float(x.abs().max()) for x in tree.leaves(exact)) > 0.1
    for name, samples in found.items():
        error = samples.double().std(dim=0) / EPISODES**0.5
        assert ((samples.double().mean(dim=0) - exact[name]).abs() <= 4 * error + 1e-6).all(), name


def test_values_that_are_wrong_bend_the_one_step_gradient():
    """What the test above would see if an estimate were biased."""
    exact, found = exact_gradient(CASES_AND_WRONG[WRONG]()), estimates(WRONG)
    samples = found["body.layers.0.weight"].double()
    error = samples.std(dim=0) / EPISODES**0.5
    assert ((samples.mean(dim=0) - exact["body.layers.0.weight"]).abs() > 4 * error).any()


def test_a_baseline_lowers_the_variance():
    assert variance(estimates("reinforce, true values")) < 0.7 * variance(estimates("reinforce"))


def case_of(name):
    return next(case for case in ON_POLICY if case.id == name)


def test_generalised_advantages_with_lambda_1_are_monte_carlo_returns_minus_the_baseline():
    case = case_of("reinforce")
    window = case.window()
    returns = reinforce.prepare(case.init(), window)
    config = a2c.Config(num_envs=3, window_length=24, hidden=case.config.hidden, gae_lambda=1.0)
    critic = tree.replace(a2c.init(random.key(0), config, case.env), params=case.init().params)
    advantage = a2c.prepare(critic, window).advantage
    known = returns.weight == 1
    assert 0 < int(known.sum()) < len(known)
    expected = returns.target - agent.value(critic, critic.params, returns.obs)
    assert torch.allclose(advantage[known], expected[known], atol=1e-5)


def test_ppos_gradient_where_the_ratio_is_1_is_a2cs():
    alike = {"num_envs": 3, "window_length": 8, "hidden": (8,), "entropy_weight": 0.01, "gae_lambda": 0.9}
    case = case_of("ppo")
    first = ppo.init(random.key(0), ppo.Config(**alike, num_minibatches=1, clip_value_loss=False), case.env)
    second = tree.replace(
        a2c.init(random.key(0), a2c.Config(**alike, normalize_advantage=True), case.env), params=first.params
    )
    window = case.window()
    grads = [
        torch.func.grad(lambda p, f=f, s=s: f.loss(p, s, f.prepare(s, window))[0])(first.params)
        for f, s in ((ppo, first), (a2c, second))
    ]
    for one, other in zip(*map(tree.leaves, grads), strict=True):
        assert one.abs().max() > 1e-6
        assert torch.allclose(one, other, atol=1e-6)
