"""Learning with a memory, against a naive loop over the steps of a window."""

import pytest
import torch

from funcrl import envs, nets, ops
from funcrl.algos import a2c, ppo
from funcrl.algos.policy_gradient import agent, descent
from funcrl.core import random, tree
from funcrl.train import acting
from funcrl.train.collect import act_and_step

ENV = envs.make("PositionOnlyCartPole-v0", max_episode_steps=5, angle_threshold=0.07)
NUM, LENGTH = 3, 12


def config(algorithm=ppo, cell="gru", sequence=4, **settings):
    settings = {"num_epochs": 1, "num_minibatches": 1} | settings if algorithm is ppo else settings
    return algorithm.Config(
        num_envs=NUM,
        window_length=LENGTH,
        hidden=(8,),
        recurrent_cell=cell,
        recurrent_size=6,
        sequence_length=sequence,
        **settings,
    )


def collected(algorithm, settings, seed=0, windows=2):
    """An agent that makes a difference of what it remembers, and its last window: episodes begin in another one."""
    state = algorithm.init(random.key(seed), settings, ENV)
    state = tree.replace(state, params=tree.map(lambda x: 2 * x + 0.1, state.params))
    policy = acting.learning(algorithm)
    running = envs.reset_all(ENV, random.split(random.key(1), NUM))
    carry = policy.initial_carries(state, NUM)
    for key in random.split(random.key(2), windows):
        rows = []
        for now in random.split(key, LENGTH):
            running, carry, row = act_and_step(policy, ENV, state, running, carry, now)
            rows.append(row.transition)
    window = tree.stack(rows)
    over = window.terminated | window.truncated
    assert over[:-1].any()
    assert not over.all()
    assert window.terminated.any()
    return state, window


def by_hand(state, params, window):
    """`[T, N]` distributions' log-probabilities of what was done, values, and values of what followed, step by step."""
    carry = tree.index(window.extras["carry"], 0)
    begins = torch.zeros(NUM, dtype=torch.bool)
    found = []
    for step in range(LENGTH):
        rows = tree.index(window, step)
        carry = tree.where(begins, tree.map(torch.zeros_like, carry), carry)
        for held, stored in zip(carry, rows.extras["carry"], strict=True):
            assert torch.allclose(held, stored, atol=1e-6)
        carry = nets.apply(state.recurrent, params["recurrent"], rows.obs, carry)
        after = nets.apply(state.recurrent, params["recurrent"], rows.next_obs, carry)
        logits = nets.apply(state.actor, params["actor"], carry[0])
        log_prob = torch.log_softmax(logits, -1).gather(-1, rows.action.unsqueeze(-1)).squeeze(-1)
        value, following = (
            nets.apply(state.critic, params["critic"], c[0]).squeeze(-1) for c in (carry, after)
        )
        found.append((log_prob, value, following))
        begins = rows.terminated | rows.truncated
    return tuple(torch.stack(column) for column in zip(*found, strict=True))


def cut(x, length):
    """`[T, N]` as sequences, one environment's after the other within each stretch of time."""
    rows = [x[t : t + length, n] for t in range(0, LENGTH, length) for n in range(NUM)]
    return torch.stack(rows)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("length", [1, 4, 12])
def test_rows_are_sequences_with_what_was_remembered_when_they_began(cell, length):
    state, window = collected(ppo, config(cell=cell, sequence=length))
    log_prob, value, following = by_hand(state, state.params, window)
    assert torch.allclose(window.extras["log_prob"], log_prob, atol=1e-5)
    batch = ppo.prepare(state, window)
    given = (window.reward, window.terminated, window.truncated, value, following)
    advantage = ops.gae(*given, state.config.gamma, state.config.gae_lambda)
    expected = {"log_prob": log_prob, "value": value, "advantage": advantage, "target": advantage + value}
    for name, x in expected.items():
        assert torch.allclose(getattr(batch, name), cut(x, length), atol=1e-5), name
    assert torch.equal(batch.action, cut(window.action, length))
    assert torch.equal(batch.obs, cut(window.obs, length))
    for held, stored in zip(batch.carry, window.extras["carry"], strict=True):
        assert torch.equal(held, cut(stored, length)[:, 0])
    # The parameters are still those that collected it.
    _, figures = ppo.loss(state.params, state, batch)
    assert abs(float(figures["kl"])) < 1e-6
    assert float(figures["clip_fraction"]) == 0.0


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("algorithm", [ppo, a2c])
def test_the_gradient_of_whole_windows_is_that_of_the_loop(algorithm, cell):
    state, window = collected(algorithm, config(algorithm, cell, sequence=LENGTH, entropy_weight=0.0))
    batch = algorithm.prepare(state, window)
    found = torch.func.grad(lambda params: algorithm.loss(params, state, batch)[0])(state.params)

    def naive(params):
        log_prob, value, _ = by_hand(state, params, window)
        advantage, target = cut(torch.zeros_like(value), LENGTH), cut(torch.zeros_like(value), LENGTH)
        advantage, target = batch.advantage + advantage, batch.target + target
        critic = 0.5 * ((cut(value, LENGTH) - target) ** 2).mean()
        if algorithm is a2c:
            return -(cut(log_prob, LENGTH) * advantage).mean() + 0.5 * critic
        ratio = torch.exp(cut(log_prob, LENGTH) - batch.log_prob)
        return -(ratio * descent.normalized(advantage)).mean() + 0.5 * critic

    expected = torch.func.grad(naive)(state.params)
    for name, leaf in tree.named_leaves(expected).items():
        assert torch.allclose(tree.named_leaves(found)[name], leaf, atol=1e-5), name
    assert float(found["recurrent"]["cell.weight_hh"].abs().max()) > 1e-4


def test_gradients_go_back_to_the_first_step_of_a_sequence_and_no_further():
    """What a sequence begins with is a number, and an episode that begins in it knows nothing of before."""
    state, window = collected(ppo, config(sequence=6))
    batch = ppo.prepare(state, window)
    for begins in (torch.zeros_like(batch.begins), batch.begins):

        def last(obs, begins=begins):
            carry = agent.recall(state, state.params, obs, batch.carry, begins)
            return agent.value(state, state.params, obs, carry)[:, -1]

        slope = torch.func.jacrev(last)(batch.obs).abs().sum(-1)
        for row in range(6):
            (starts,) = begins[row].nonzero(as_tuple=True)
            first = max([0, *starts.tolist()])
            assert bool((slope[row, row, first:] > 0).all())
            slope[row, row, first:] = 0.0
        assert not slope.any()


def test_the_value_of_a_truncated_end_is_that_of_what_was_remembered():
    """Seen at the end of its own episode, and not at the beginning of the next one."""
    state, window = collected(ppo, config())
    _, value, following = by_hand(state, state.params, window)
    for step in range(LENGTH - 1):
        goes_on = ~(window.terminated | window.truncated)[step]
        assert torch.allclose(following[step][goes_on], value[step + 1][goes_on], atol=1e-6)
    cut_off = window.truncated & ~window.terminated
    assert cut_off.any()
    _, advantage = agent.advantages(state, window, torch.tensor(0.0))
    expected = window.reward + state.config.gamma * following * (~window.terminated) - value
    assert torch.allclose(advantage, expected, atol=1e-5)


def test_moments_and_masks_go_with_a_memory():
    env = envs.MaskActions(envs.make("Taxi-v3"))
    settings = config(normalize_observation=True, normalize_reward=True)
    state = ppo.init(random.key(0), settings, env)
    obs = envs.reset_all(env, random.split(random.key(1), 50)).obs
    policy = acting.learning(ppo)
    carry = policy.remember(state, obs, policy.initial_carries(state, 50), random.key(0))
    action, _ = ppo.act(state, obs, random.key(2), carry)
    assert obs["action_mask"].gather(1, action.unsqueeze(1)).all()
    seen, _ = collected(ppo, config(normalize_observation=True))
    _, window = collected(ppo, config(normalize_observation=True))
    moved = ppo.observe(seen, window)
    first = acting.learning(ppo).initial_carries(seen, NUM)
    before, after = (ppo.remember(s, window.obs[0], first) for s in (seen, moved))
    assert not torch.allclose(before[0], after[0])


def test_an_agent_without_a_memory_remembers_nothing():
    state = ppo.init(random.key(0), ppo.Config(hidden=(8,)), ENV)
    obs = torch.zeros(2, 2)
    assert ppo.initial_carry(state) == ()
    assert ppo.remember(state, obs, ()) == ()
    assert "recurrent" not in state.params


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sequence": 5}, r"ppo\.Config: sequence_length must divide window_length = 12, got 5\. Write 4\."),
        (
            {"num_minibatches": 2},
            r"num_minibatches must divide num_envs · window_length / sequence_length, the number of sequences = 9,"
            r" got 2\. Write 1\.",
        ),
        (
            {"cell": "gruu"},
            "recurrent_cell must be one of 'gru', 'lstm', 'none', 'rnn', got 'gruu'. Did you mean 'gru'",
        ),
        ({"sequence": 24}, r"sequence_length must divide window_length = 12, got 24\. Write 12\."),
        ({"num_minibatches": 64}, r"num_minibatches must divide .* = 9, got 64\. Write 9\."),
        ({"sequence": 0}, "sequence_length must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        config(**settings)


def test_a_carry_that_is_missing_or_of_another_shape_is_refused():
    state = ppo.init(random.key(0), config(), ENV)
    obs, key = torch.zeros(2, 2), random.key(0)
    for verb in (lambda: ppo.act(state, obs, key), lambda: ppo.greedy(state, obs)):
        with pytest.raises(
            ValueError, match=r"act: carry must hold \(2, 6\), one row for each observation, got \[\]"
        ):
            verb()
    one = ppo.remember(state, obs[0], ppo.initial_carry(state))
    with pytest.raises(ValueError, match=r"act: carry must hold \(2, 6\), one row .*, got \[\(6,\)\]"):
        ppo.greedy(state, obs, one)
    assert ppo.greedy(state, obs[0], one).shape == ()
    forgetful = ppo.init(random.key(0), ppo.Config(hidden=(8,)), ENV)
    with pytest.raises(ValueError, match=r"act: carry must be \(\) in an agent that does not remember"):
        ppo.greedy(forgetful, obs, one)
    with pytest.raises(ValueError, match=r"remember: carry must hold \(2, 6\), one row for each observation"):
        ppo.remember(state, obs, ppo.initial_carry(state))
    batch = ppo.prepare(*collected(ppo, config()))
    with pytest.raises(ValueError, match=r"remember: carry must hold \(9, 6\)"):
        ppo.update(state, tree.replace(batch, carry=(batch.carry[0][:4],)))
    for begins in ((), batch.begins[:, 1:], batch.begins.float()):
        with pytest.raises(ValueError, match=r"remember: begins must be boolean, \(9, 4\)"):
            ppo.update(state, tree.replace(batch, begins=begins))
    _, window = collected(ppo, config())
    with pytest.raises(
        ValueError, match=r"ppo\.prepare: window must have a multiple of sequence_length = 4 steps, got 10"
    ):
        ppo.prepare(state, tree.index(window, slice(10)))
