"""Which steps REINFORCE learns from, and what it takes their returns for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funcrl import nets
from funcrl.algos import reinforce
from funcrl.core import Transition, random, tree
from tests.probes import Choice


def agent(**settings):
    config = reinforce.Config(**({"num_envs": 2, "hidden": (), "gamma": 0.9} | settings))
    return reinforce.init(random.key(3), config, Choice())


def window_of(reward, terminated, truncated):
    k_obs, k_next = random.split(random.key(4), 2)
    return Transition(
        obs=random.normal(k_obs, (*reward.shape, 1)),
        action=torch.zeros_like(reward, dtype=torch.int64),
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        next_obs=random.normal(k_next, (*reward.shape, 1)),
        extras={},
    )


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(0, 11), st.booleans())
def test_returns_and_weights_are_their_definitions(seed, length, lookahead, baseline):
    lookahead = min(lookahead, length - 1)
    left_out = lookahead or length // 2
    draws = np.random.default_rng(seed)
    ends = draws.choice(3, (length, 2), p=(0.6, 0.2, 0.2))
    terminated, truncated = ends == 1, ends == 2
    reward = draws.normal(size=(length, 2))
    state = agent(window_length=length, lookahead=lookahead, baseline=baseline)
    window = window_of(torch.tensor(reward).float(), torch.tensor(terminated), torch.tensor(truncated))
    found = reinforce.prepare(state, window)
    beyond = nets.apply(state.critic, state.params["critic"], window.next_obs)[..., 0]
    for t in range(length):
        for n in range(2):
            end = next((k for k in range(t, length) if ends[k, n]), None)
            counts = end is not None and t < length - left_out
            assert float(found.weight[2 * t + n]) == counts
            if not counts:
                continue
            total = sum(0.9 ** (k - t) * reward[k, n] for k in range(t, end + 1))
            if truncated[end, n] and baseline:
                total += 0.9 ** (end + 1 - t) * float(beyond[end, n])
            assert float(found.target[2 * t + n]) == pytest.approx(total, abs=1e-4)


LONGEST = 6


def going_on_or_not(length, num_envs, p):
    """Windows of a game of going on, which pays 1, or stopping, which ends it; it ends after 6 steps in any case."""
    uniform = random.uniform(random.key(8), (length, num_envs))
    action = (uniform < p).to(torch.int64)
    age, ages, ended = torch.zeros(num_envs), [], []
    for t in range(length):
        ages.append(age)
        ended.append((action[t] == 0) | (age == LONGEST - 1))
        age = torch.where(ended[-1], 0.0, age + 1)
    over = torch.stack(ended)
    window = window_of(action.to(torch.float32), over, torch.zeros_like(over))
    return tree.replace(window, action=action), torch.stack(ages)


@pytest.mark.parametrize(("lookahead", "biased"), [(LONGEST, False), (0, False), (1, True)])
def test_what_became_of_a_step_does_not_decide_whether_it_counts(lookahead, biased):
    """At the window's end short episodes are known and long ones are not: to stop would look better than it is."""
    length, num_envs, p = 2 * LONGEST, 40_000, 0.7
    window, age = going_on_or_not(length, num_envs, p)
    state = agent(window_length=length, num_envs=num_envs, lookahead=lookahead, gamma=1.0, baseline=False)
    batch = reinforce.prepare(state, window)
    used = length - (lookahead or LONGEST)
    # What a step says of the logit of going on: G ∂ log π(a) = G (a - p).
    said = (batch.target * (window.action.flatten() - p)).reshape(length, num_envs)[:used]
    weight = batch.weight.reshape(length, num_envs)[:used]
    found = (weight * said).sum(dim=0) / used
    # Going on is worth 1 and what comes then, V_t = p (1 + V_{t+1}), stopping 0.
    value = [0.0]
    for _ in range(LONGEST - 1):
        value.insert(0, p * (1 + value[0]))
    gain = torch.tensor([1 + v for v in value])[age.to(torch.int64)][:used]
    exact = float((p * (1 - p) * gain).mean())
    away = abs(float(found.mean()) - exact) / float(found.std() / num_envs**0.5)
    assert away > 20 if biased else away < 4


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"lookahead": 1024},
            ValueError,
            "lookahead must be less than window_length = 1024, got 1024",
        ),
        ({"lookahead": -1}, ValueError, "lookahead must be at least 0"),
        ({"lookahead": 2.0}, TypeError, "lookahead must be an integer"),
        ({"baseline": 1}, TypeError, "baseline must be True or False"),
        ({"adam_epsilon": 0.0}, ValueError, "adam_epsilon must lie in"),
    ],
)
def test_settings_are_checked(changes, error, message):
    with pytest.raises(error, match=r"reinforce\.Config: " + message):
        reinforce.Config(**changes)
