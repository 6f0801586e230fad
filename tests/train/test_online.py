"""The online loop: what it reports, that lanes do not know of each other, and how often it compiles."""

import pytest
import torch
from gymnasium import spaces

from funcrl import envs
from funcrl.algos import q_learning
from funcrl.core import jit, random, tree
from funcrl.train import Run, evaluate, make_plan, online, regret_lower_bound, train
from tests.probes import Counter

CLIFF = envs.make("CliffWalking-v1")


def small(seeds=range(3), iterations=4, algorithm="q_learning", **kwargs):
    kwargs = {"num_steps": 100 * iterations, "backend": "aot_eager"} | kwargs
    return train(algorithm, kwargs.pop("env", CLIFF), seeds=seeds, **kwargs)


def same(a, b):
    return all(
        torch.equal(x.nan_to_num(), y.nan_to_num())
        for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True)
    )


@tree.struct
class NumberedCounter(Counter):
    """Counts its steps and shows the number; pays the action."""

    observation_space = spaces.Discrete(20)
    action_space = spaces.Discrete(3)

    def observation(self, state, key):
        return state.to(torch.int64)

    def reward(self, state, action, next_state, key):
        return action.to(torch.float32)

    def regret(self, state, action):
        """Two is the best action; in odd states everything is equally good."""
        return torch.where(state % 2 == 0, 2.0 - action, 0.0)


def test_every_step_is_learnt_from_and_reported():
    result = small(seeds=[5, 3], iterations=2, backend="eager", env=NumberedCounter(end=5))
    assert result.seeds == (5, 3)
    assert result.steps.tolist() == [100, 200]
    assert result.states.step.tolist() == [200, 200]
    assert result.episodes.tolist() == [[20.0] * 2] * 2
    assert set(result.metrics) == {*q_learning.METRICS, "regret", "cumulative_regret"}


def test_returns_and_regret_are_those_of_the_actions():
    """One run is repeated by hand, step by step, from the same keys."""
    env, seed, length = NumberedCounter(end=5), 11, 3
    run = Run("q_learning", env, None, [seed], backend="eager", num_cycles=length)
    agent, running, key = tree.index((run.carry.agent, run.carry.envs, run.carry.collect_key), 0)
    running = tree.index(running, 0)
    cumulative, returns = 0.0, []
    for iteration in range(5):
        report = tree.index(run.iterate(), 0)
        lost, ended = 0.0, []
        for k in random.split(random.fold_in(key, iteration), length):
            k_policy, k_envs = random.split(k, 2)
            action, _ = q_learning.act(agent, running.obs, k_policy)
            lost += float(env.regret(running.inner, action))
            running, step = envs.step(env, running, action, random.split(k_envs, 1)[0])
            fields = {name: getattr(step, name) for name in ("obs", "reward", "terminated", "truncated")}
            agent = q_learning.update(
                agent, q_learning.Transition(action=action, next_obs=step.next_obs, extras={}, **fields)
            )
            ended += [float(step.episode_return)] if step.terminated | step.truncated else []
        cumulative += lost
        returns = ended or returns
        # In the third iteration no episode ends, in the first none has ended yet.
        expected = sum(returns) / len(returns) if returns else float("nan")
        assert float(report.returns) == pytest.approx(expected, nan_ok=True)
        assert float(report.episodes) == len(ended)
        assert float(report.metrics["regret"]) == pytest.approx(lost / length)
        assert float(report.metrics["cumulative_regret"]) == pytest.approx(cumulative)
    assert same(agent.values, run.agent.values[0])
    assert cumulative > 0


@pytest.mark.unrolled
@pytest.mark.parametrize(
    ("backend", "algorithm", "count"),
    [
        ("aot_eager", "n_step_sarsa", 2),
        # As many lanes as a test of Q-learning has, whose steps these are.
        pytest.param("inductor", "q_learning", 100, marks=pytest.mark.compiled),
    ],
)
def test_two_programs_and_no_more_do_what_eager_functions_do(backend, algorithm, count):
    before = jit.stats().num_graphs
    eager, compiled = (
        Run(algorithm, CLIFF, None, range(count), backend=name, num_cycles=20) for name in ("eager", backend)
    )
    for _ in range(3):
        assert torch.allclose(eager.iterate().metrics["td_error"], compiled.iterate().metrics["td_error"])
    assert torch.allclose(eager.agent.values, compiled.agent.values, atol=1e-4)
    assert same(eager.carry.envs.inner.position, compiled.carry.envs.inner.position)
    compiled.restart(range(count, 2 * count))
    compiled.iterate()
    assert compiled.num_graphs == 2
    assert jit.stats().num_graphs - before == 4


@pytest.mark.unrolled
@pytest.mark.parametrize("drawn", [1, 8, 100_000])
def test_it_does_not_matter_how_many_random_numbers_are_drawn_at_once(monkeypatch, drawn):
    """With two lanes a step needs four or so of a kind: from a step at a time to all twenty."""
    eager = Run("double_q_learning", CLIFF, None, [0, 1], backend="eager", num_cycles=20)
    expected = [eager.iterate() for _ in range(2)]
    monkeypatch.setattr(online, "MAX_DRAWN", drawn)
    run = Run("double_q_learning", CLIFF, None, [0, 1], backend="aot_eager", num_cycles=20)
    for before in expected:
        assert torch.allclose(run.iterate().metrics["td_error"], before.metrics["td_error"])
    assert torch.allclose(run.agent.values, eager.agent.values)
    assert run.num_graphs == 2


def test_lanes_do_not_know_of_each_other():
    given = {"num_steps": 60, "backend": "eager"}
    together = small(seeds=[0, 1, 2, 3], **given)
    assert together.states.values.flatten(1).any(dim=1).all()
    for seed in (2, 0):
        alone = small(seeds=[seed], **given)
        assert same(alone.states.values[0], together.states.values[seed])
    grouped = small(seeds=[0, 1, 2, 3], lanes_per_group=3, **given)
    assert same(grouped.states.values, together.states.values)


def test_a_run_continues_from_its_carry_with_the_same_bits():
    whole, other = (
        Run("dyna_q", CLIFF, None, seeds, backend="eager", num_cycles=10) for seeds in ([0, 1], [8, 9])
    )
    for _ in range(2):
        whole.iterate()
    carry = whole.carry
    expected = [whole.iterate() for _ in range(2)]
    other.restore(carry)
    assert same([other.iterate() for _ in range(2)], expected)
    assert same(other.carry, whole.carry)


def test_settings_and_environments_may_differ_between_lanes():
    config = q_learning.Config(learning_rate=[0.0, 0.5, 0.5])
    env = envs.make("CliffWalking-v1", step_reward=[-1.0, -1.0, -2.0])
    given = {"num_steps": 60, "backend": "eager"}
    values = small(config=config, env=env, **given).states.values
    alone = small(seeds=[2], env=envs.make("CliffWalking-v1", step_reward=-2.0), **given).states.values
    assert values[0].abs().max() == 0.0
    assert same(values[2], alone[0])


def test_annealing_spans_the_run():
    config = q_learning.Config(anneal_steps=0.0, learning_rate=0.4)
    rates = small(iterations=3, config=config).metrics["learning_rate"][0]
    assert rates.tolist() == pytest.approx([0.4 * (1 - step / 300) for step in (99, 199, 299)])


def test_the_number_of_steps_has_a_default_of_the_algorithms_own():
    assert make_plan("q_learning", CLIFF).num_steps == 50_000
    assert make_plan("ppo", "CartPole-v1").num_steps == 499_712
    assert make_plan("q_learning", CLIFF, num_steps=7).steps_per_iteration == 7
    assert make_plan("q_learning", CLIFF, num_steps=250).num_steps == 200


@pytest.mark.parametrize("length", [0, 2.5])
def test_a_length_must_be_a_count(length):
    with pytest.raises((ValueError, TypeError), match=r"Run: num_cycles must"):
        Run("q_learning", CLIFF, None, [0], num_cycles=length)


def test_wrapped_environments_keep_their_regret():
    wrapped = envs.ScaleReward(NumberedCounter(end=5), scale=10.0)
    plain, scaled = (
        small(env=env, backend="eager", num_steps=20, config=q_learning.Config(learning_rate=0.0))
        for env in (NumberedCounter(end=5), wrapped)
    )
    assert same(plain.metrics["regret"], scaled.metrics["regret"])


def test_a_bandit_is_evaluated_on_the_arms_that_it_learnt():
    env = envs.GaussianBandit(num_arms=5, std=0.01)
    result = small(algorithm="epsilon_greedy", env=env, iterations=2, backend="eager")
    with pytest.raises(ValueError, match=r"evaluate: env_states must be given .* drew its arms once"):
        evaluate("epsilon_greedy", env, result.states, max_steps=1, backend="eager")
    returns = evaluate(
        "epsilon_greedy",
        env,
        result.states,
        env_states=result.env_states,
        num_episodes=4,
        max_steps=1,
        backend="eager",
    )
    best = result.env_states.inner.means[:, 0].amax(dim=-1, keepdim=True)
    assert torch.allclose(returns, best.expand(3, 4), atol=0.05)


def test_the_lower_bound_is_the_mean_over_lanes():
    env = envs.GaussianBandit(num_arms=3, std=[1.0, 2.0, 1.0])
    result = small(algorithm="ucb", env=env, num_steps=10, backend="eager")
    means = result.env_states.inner.means[:, 0]
    constants = [
        sum(2 * std**2 / gap for gap in (lane.max() - lane).tolist() if gap > 0)
        for lane, std in zip(means.double(), (1.0, 2.0, 1.0), strict=True)
    ]
    assert regret_lower_bound(env, result.env_states) == pytest.approx(sum(constants) / 3, rel=1e-4)
    assert regret_lower_bound(CLIFF, result.env_states) is None
    drifting = envs.make("drifting")
    walked = small(algorithm="ucb", env=drifting, num_steps=10, backend="eager")
    assert regret_lower_bound(drifting, walked.env_states) is None


def test_agents_of_another_environment_or_algorithm_are_refused():
    states = small(num_steps=10, backend="eager").states
    here = {"max_steps": 5, "backend": "eager"}
    with pytest.raises(ValueError, match=r"evaluate: states must be agents for .*Discrete\(500\)"):
        evaluate("q_learning", "Taxi-v3", states, **here)
    with pytest.raises(
        ValueError, match=r"evaluate: states must be agents .*values.* \(48, 4\) for \(16, 4\)"
    ):
        evaluate("q_learning", "FrozenLake-v1", states, **here)
    with pytest.raises(TypeError, match=r"evaluate: states must be of n_step_sarsa, got those of q_learning"):
        evaluate("n_step_sarsa", CLIFF, states, **here)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda state, action: torch.ones(2), r"SunnyArms.regret must .*\[2\]"),
        (lambda state, action: 1.0, r"SunnyArms.regret must return a tensor"),
        (lambda state, action: torch.tensor(-1.0), r"SunnyArms.regret must not be negative, got -1.0"),
        (lambda state: torch.tensor(1.0), r"SunnyArms.regret must take \(state, action\)"),
    ],
)
def test_a_regret_of_ones_own_is_checked(wrong, message):
    @tree.struct
    class SunnyArms(NumberedCounter):
        regret = staticmethod(wrong)

    with pytest.raises((ValueError, TypeError), match=message):
        envs.check_env(SunnyArms(), num_steps=20, backend="eager")


def test_several_environments_a_lane_report_as_often_as_one():
    plan = make_plan("neural_epsilon_greedy", "digits", num_steps=2000)
    assert (plan.steps_per_iteration, plan.num_iterations) == (96, 20)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("algorithm", ["dyna_q", "thompson_beta", "neural_thompson"])
def test_a_gpu_learns_online_what_a_cpu_learns(algorithm):
    env = {"dyna_q": "CliffWalking-v1", "thompson_beta": "bernoulli"}.get(algorithm, "digits")
    gpu = Run(algorithm, env, None, range(4), device="cuda", num_cycles=5)
    cpu = Run(algorithm, env, None, range(4), backend="eager", num_cycles=5)
    seen = []
    for _ in range(3):
        a, b = gpu.iterate(), cpu.iterate()
        assert torch.equal(a.episodes.cpu(), b.episodes)
        for name, values in b.metrics.items():
            assert torch.allclose(a.metrics[name].cpu(), values, atol=1e-3, rtol=1e-2), name
        seen.append(gpu.carry.iteration)
    assert [int(count[0]) for count in seen] == [1, 2, 3]
