"""Returns and advantages against their recursions, written naively in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funcrl import ops
from funcrl.core import random


@st.composite
def windows(draw):
    length, num_envs = draw(st.integers(1, 40)), draw(st.integers(1, 3))
    ks = random.split(random.key(draw(st.integers(0, 2**31))), 5)
    shape = (length, num_envs)
    return {
        "reward": random.normal(ks[0], shape).double(),
        "terminated": random.bernoulli(ks[1], draw(st.sampled_from([0.0, 0.1, 0.6])), shape),
        "truncated": random.bernoulli(ks[2], draw(st.sampled_from([0.0, 0.1, 0.6])), shape),
        "value": random.normal(ks[3], shape).double(),
        "next_value": random.normal(ks[4], shape).double(),
        "gamma": draw(st.floats(0, 1)),
        "lam": draw(st.floats(0, 1)),
    }


def naive_gae(reward, terminated, truncated, value, next_value, gamma, lam):
    advantage, later = torch.zeros_like(reward), torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        bootstrap = torch.where(terminated[t], 0.0, next_value[t])
        delta = reward[t] + gamma * bootstrap - value[t]
        going_on = ~terminated[t] & ~truncated[t]
        later = delta + gamma * lam * torch.where(going_on, later, 0.0)
        advantage[t] = later
    return advantage


def naive_lambda_return(reward, terminated, truncated, next_value, gamma, lam):
    result = torch.zeros_like(reward)
    for t in reversed(range(len(reward))):
        last = t == len(reward) - 1
        for n in range(reward.shape[1]):
            if terminated[t, n]:
                future = 0.0
            elif truncated[t, n] or last:
                future = next_value[t, n]
            else:
                future = (1 - lam) * next_value[t, n] + lam * result[t + 1, n]
            result[t, n] = reward[t, n] + gamma * future
    return result


@given(windows())
def test_gae_equals_its_recursion(window):
    assert torch.allclose(ops.gae(**window), naive_gae(**window))


def naive_v_trace(log_ratio, reward, terminated, truncated, value, next_value, gamma, lam, clip_rho, clip_c):
    """Equation 1 as it stands: a sum over the rest of the episode for every step."""
    targets, advantage = torch.zeros_like(reward), torch.zeros_like(reward)
    ratio = log_ratio.exp()
    rho, c = ratio.clamp(max=clip_rho), lam * ratio.clamp(max=clip_c)
    for n in range(reward.shape[1]):
        for s in reversed(range(len(reward))):
            total, weight = float(value[s, n]), 1.0
            for t in range(s, len(reward)):
                reached = 0.0 if terminated[t, n] else float(next_value[t, n])
                total += weight * rho[t, n] * (reward[t, n] + gamma * reached - value[t, n])
                if terminated[t, n] or truncated[t, n]:
                    break
                weight = weight * gamma * c[t, n]
            targets[s, n] = total
            over = s == len(reward) - 1 or bool(truncated[s, n])
            # In these windows s' is no row's s, so that a correction is what v differs from V by.
            later = next_value[s, n] if over else next_value[s, n] + targets[s + 1, n] - value[s + 1, n]
            later = 0.0 if terminated[s, n] else later
            advantage[s, n] = rho[s, n] * (reward[s, n] + gamma * later - value[s, n])
    return targets, advantage


@given(windows(), st.integers(0, 2**31), st.floats(0.5, 3), st.floats(0.5, 1))
def test_v_trace_equals_its_sum(window, seed, clip_rho, clip_c):
    log_ratio = random.normal(random.key(seed), window["reward"].shape).double()
    given = {**window, "log_ratio": log_ratio, "clip_rho": clip_rho, "clip_c": clip_c}
    for found, wanted in zip(ops.v_trace(**given), naive_v_trace(**given), strict=True):
        assert torch.allclose(found, wanted)


@given(windows())
def test_v_trace_of_the_policy_that_acted_is_gae(window):
    """With ratios of one, v is the λ-return, and with λ = 1 so is the advantage without the baseline."""
    same = torch.zeros_like(window["reward"])
    targets, _ = ops.v_trace(same, **window)
    assert torch.allclose(targets, ops.gae(**window) + window["value"])
    whole = {**window, "lam": 1.0}
    _, advantage = ops.v_trace(same, **whole)
    assert torch.allclose(advantage, ops.gae(**whole))


def test_what_another_policy_would_not_have_done_counts_for_nothing():
    no = torch.tensor([False, False, False])
    log_ratio = torch.tensor([0.0, -torch.inf, 0.0])
    value = torch.tensor([1.0, 2.0, 3.0])
    targets, advantage = ops.v_trace(
        log_ratio, torch.ones(3), no, no, value, torch.tensor([2.0, 3.0, 4.0]), 1.0
    )
    assert targets.tolist() == [3.0, 2.0, 5.0]  # the first sees V of the second, whose action never happened
    assert advantage.tolist() == [2.0, 0.0, 2.0]


@given(windows())
def test_lambda_return_equals_its_recursion(window):
    del window["value"]
    assert torch.allclose(ops.lambda_return(**window), naive_lambda_return(**window))


@given(windows())
def test_gae_plus_value_is_the_lambda_return_where_values_are_consistent(window):
    # V(s'_t) is V(s_{t+1}) inside an episode; then A + V and G are the same thing.
    going_on = ~(window["terminated"] | window["truncated"])[:-1]
    window["next_value"][:-1] = torch.where(going_on, window["value"][1:], window["next_value"][:-1])
    target = ops.gae(**window) + window["value"]
    del window["value"]
    assert torch.allclose(target, ops.lambda_return(**window))


@given(windows())
def test_discounted_return_is_the_lambda_return_of_one(window):
    del window["value"], window["lam"]
    assert torch.allclose(ops.discounted_return(**window), naive_lambda_return(**window, lam=1.0))


def test_by_hand_termination_cuts_and_truncation_bootstraps():
    reward, next_value = torch.ones(4), torch.full((4,), 10.0)
    terminated = torch.tensor([False, True, False, False])
    truncated = torch.tensor([False, False, True, False])
    found = ops.discounted_return(reward, terminated, truncated, next_value, 0.5)
    #        1 + ½·1   1    1 + ½·10  1 + ½·10
    assert found.tolist() == [1.5, 1.0, 6.0, 6.0]


def test_a_terminal_state_at_the_time_limit_has_no_value():
    both = torch.tensor([True])
    assert ops.gae(torch.ones(1), both, both, torch.zeros(1), torch.full((1,), 9.0), 1.0, 1.0).tolist() == [
        1.0
    ]


def test_shapes_must_agree():
    no = torch.zeros(3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"ops\.gae: next_value must have the shape \(3,\) of reward"):
        ops.gae(torch.ones(3), no, no, torch.ones(3), torch.ones(4), 0.9, 0.9)


def test_gamma_and_lambda_may_be_tensors_under_vmap():
    no = torch.zeros(3, 1, dtype=torch.bool)
    gammas = torch.tensor([0.0, 0.5])
    f = lambda gamma: ops.gae(torch.ones(3, 1), no, no, torch.zeros(3, 1), torch.zeros(3, 1), gamma, gamma)
    together = torch.vmap(f)(gammas)
    for i, gamma in enumerate(gammas):
        assert torch.allclose(together[i], f(float(gamma)))


@st.composite
def few_steps(draw):
    ks = random.split(random.key(draw(st.integers(0, 2**31))), 3)
    shape = (draw(st.integers(1, 8)), 5)
    share = st.sampled_from([0.0, 0.2, 0.6])
    return {
        "reward": random.normal(ks[0], shape).double(),
        "terminated": random.bernoulli(ks[1], draw(share), shape),
        "truncated": random.bernoulli(ks[2], draw(share), shape),
        "gamma": draw(st.floats(0, 1)),
    }


def naive_n_step(reward, terminated, truncated, gamma):
    total = 0.0
    for k in range(len(reward)):
        total += gamma**k * float(reward[k])
        if terminated[k]:
            return total, 0.0, k
        if truncated[k]:
            break
    return total, gamma ** (k + 1), k


@given(few_steps())
def test_n_step_equals_its_sum(steps):
    total, discount, last = ops.n_step(**steps)
    assert last.dtype == torch.int64
    for column in range(5):
        rows = (steps[name][:, column] for name in ("reward", "terminated", "truncated"))
        expected = naive_n_step(*rows, steps["gamma"])
        assert total[column].item() == pytest.approx(expected[0])
        assert discount[column].item() == pytest.approx(expected[1])
        assert last[column] == expected[2]


@given(few_steps())
def test_n_step_with_a_value_is_the_discounted_return_of_its_first_step(steps):
    """Where every value is the same, the return of a window of n steps bootstraps from it."""
    total, discount, _ = ops.n_step(**steps)
    expected = ops.discounted_return(**steps, next_value=torch.full_like(steps["reward"], 3.0))[0]
    assert torch.allclose(total + 3.0 * discount, expected)


def test_n_step_by_hand():
    reward = torch.tensor([[1.0], [2.0], [4.0]]).expand(3, 4)
    #                           goes on, terminates in step 1, truncated in step 1, both in step 0
    terminated = torch.tensor([[0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]).bool()
    truncated = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]).bool()
    total, discount, last = ops.n_step(reward, terminated, truncated, 0.5)
    assert total.tolist() == [3.0, 2.0, 2.0, 1.0]
    assert discount.tolist() == [0.125, 0.0, 0.25, 0.0]
    assert last.tolist() == [2, 1, 1, 0]


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_what_comes_after_an_end_is_not_read(end):
    flags = {"terminated": torch.zeros(3, dtype=torch.bool), "truncated": torch.zeros(3, dtype=torch.bool)}
    flags[end][0] = True
    total, discount, _ = ops.n_step(torch.tensor([1.0, torch.nan, torch.inf]), **flags, gamma=0.5)
    assert total == 1.0
    assert discount == (0.5 if end == "truncated" else 0.0)


def test_n_step_takes_one_gamma_a_lane():
    no, gammas = torch.zeros(2, 3, dtype=torch.bool), torch.tensor([0.0, 0.5])
    total, discount, last = torch.vmap(lambda gamma: ops.n_step(torch.ones(2, 3), no, no, gamma))(gammas)
    assert total[:, 0].tolist() == [1.0, 1.5]
    assert discount[:, 0].tolist() == [0.0, 0.25]
    assert last.tolist() == [[1, 1, 1], [1, 1, 1]]
