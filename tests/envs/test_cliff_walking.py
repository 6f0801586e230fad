"""CliffWalking against Gymnasium's own, table for table and step for step."""

import gymnasium
import pytest
import torch

from funcrl import envs
from funcrl.core import random
from funcrl.envs import drawing, tabular
from funcrl.envs.cliff_walking import CliffWalking
from funcrl.envs.scenes import maps
from tests.envs import classic, own
from tests.envs import tabular_parity as parity

IDS = {False: "CliffWalking-v1", True: "CliffWalkingSlippery-v1"}


@pytest.mark.parametrize("is_slippery", [False, True])
def test_table_and_surroundings_are_gymnasiums(is_slippery):
    reference = gymnasium.make(IDS[is_slippery])
    env = CliffWalking(is_slippery=is_slippery)
    parity.assert_surroundings_are_gymnasiums(env, reference)
    parity.assert_table_is_gymnasiums(env, reference)


@pytest.mark.parametrize("is_slippery", [False, True])
def test_random_steps_are_gymnasiums(is_slippery):
    """The others are the best ones, so that some reach the goal."""
    env = CliffWalking(is_slippery=is_slippery, max_episode_steps=45)
    best, generator = parity.best_actions(env), torch.Generator().manual_seed(0)
    is_random = lambda drawn: torch.rand(drawn.shape, generator=generator) < (0.1 if is_slippery else 0.5)
    policy = lambda states, drawn: torch.where(is_random(drawn), torch.from_numpy(drawn), best[states.obs])
    count, terminated, truncated = parity.assert_steps_are_gymnasiums(
        env,
        gymnasium.make(IDS[is_slippery], max_episode_steps=45),
        num_envs=100,
        num_steps=100,
        policy=policy,
    )
    assert count >= 10_000
    assert terminated > 10
    assert truncated > 50


def test_the_safe_path_ends_at_the_goal_and_is_never_truncated():
    env = CliffWalking()
    state = envs.reset(env, random.key(0))
    for action in [3] * 300 + [0] + [1] * 11 + [2]:
        state, row = envs.step(env, state, torch.tensor(action), random.key(0))
        assert not row.truncated
    assert row.terminated
    assert (float(row.episode_return), int(row.episode_length)) == (-313.0, 313)
    assert int(row.next_obs) == 47
    assert int(state.obs) == 36


def test_slips_have_the_stated_frequencies():
    parity.assert_draws_have_the_stated_frequencies(CliffWalking(is_slippery=True))


@pytest.mark.parametrize("is_slippery", [False, True])
def test_beginnings_have_the_stated_frequencies(is_slippery):
    env = CliffWalking(is_slippery=is_slippery)
    parity.assert_beginnings_have_the_stated_frequencies(env, num_draws=100)


@pytest.mark.parametrize("is_slippery", [False, True])
def test_compiled_equals_eager_and_stays_on_the_device(is_slippery):
    env = CliffWalking(is_slippery=is_slippery)
    parity.assert_compiled_is_eager(env)
    parity.assert_everything_stays_on_the_device(env)


@pytest.mark.parametrize("is_slippery", [False, True])
def test_numbers_can_differ_between_lanes(is_slippery):
    env = CliffWalking(is_slippery=is_slippery)
    parity.assert_numbers_can_differ(env, CliffWalking(-2.0, -7.0, is_slippery=is_slippery))


def test_rewards_that_are_written_as_integers_stay_numbers():
    outcomes = CliffWalking(step_reward=-1, cliff_reward=-3).outcomes(torch.tensor(36), torch.tensor(1))
    assert outcomes.reward.dtype == torch.float32
    assert float(outcomes.reward) == -3.0


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"step_reward": float("nan")}, ValueError),
        ({"cliff_reward": "high"}, TypeError),
        ({"is_slippery": 1}, TypeError),
        ({"max_episode_steps": 0}, ValueError),
    ],
)
def test_impossible_parameters_are_refused(params, error):
    with pytest.raises(error, match=f"CliffWalking: {next(iter(params))} must "):
        CliffWalking(**params)


def test_pictures_show_the_agent_the_cliff_and_the_goal():
    env = CliffWalking()
    stands = [position for position in range(48) if not 36 < position < 47]
    own.assert_pictures(env, [tabular.begin(torch.tensor(position)) for position in [*stands[::5], 47]])
    for position in stands:
        frame = env.render(tabular.begin(torch.tensor(position)))
        columns, rows = classic.pixels(frame, drawing.BLUE)
        row, column = divmod(position, 12)
        assert columns.mean() / 60 - 0.08 == pytest.approx(column + 0.5, abs=0.15)
        assert rows.mean() / 60 - 0.08 == pytest.approx(row + 0.5, abs=0.25)
    columns, rows = classic.pixels(frame, maps._DEPTH)
    assert (int(columns.min() / 60 - 0.08), int(columns.max() / 60 - 0.08)) == (1, 10)
    assert rows.min() > 3.08 * 60
    columns, rows = classic.pixels(frame, drawing.GREEN)
    assert columns.min() > 11 * 60
    assert rows.min() > 3 * 60
