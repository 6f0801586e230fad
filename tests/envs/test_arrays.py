"""Gymnasium's wrappers that want arrays, around its conversion of tensors to arrays."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import funcrl  # noqa: F401  (registers the ids)

pytest.importorskip("array_api_compat")
CONVERSION = {"env_xp": torch, "target_xp": np}


def many(name="CartPole-v1", **kwargs):
    env = gymnasium.make_vec(f"funcrl/{name}", num_envs=3, backend="eager", **kwargs)
    return env, gymnasium.wrappers.vector.ArrayConversion(env, **CONVERSION)


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_many_show_arrays(mode):
    _, env = many(autoreset_mode=mode)
    tensors, _ = many(autoreset_mode=mode)
    assert np.array_equal(env.reset(seed=0)[0], tensors.reset(seed=0)[0])
    for _ in range(12):
        row, expected = env.step(np.ones(3, dtype=np.int64)), tensors.step(torch.ones(3, dtype=torch.int64))
        assert {type(value) for value in row[:4]} == {np.ndarray}
        assert all(map(np.array_equal, row[:4], expected[:4]))
        assert row[4].keys() == expected[4].keys()
        assert np.array_equal(row[4]["episode_return"], expected[4]["episode_return"])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_shows_arrays():
    env = gymnasium.make("funcrl/Pendulum-v1", backend="eager")
    check_env(gymnasium.wrappers.ArrayConversion(env.unwrapped, **CONVERSION), skip_render_check=True)
    env = gymnasium.wrappers.ArrayConversion(env, **CONVERSION)
    assert env.observation_space.contains(env.reset(seed=0)[0])
    obs, reward, *_ = env.step(env.action_space.sample())
    assert env.observation_space.contains(obs)
    assert isinstance(reward, float)


def test_several_parts_show_arrays():
    obs, _ = many("Blackjack-v1")[1].reset(seed=0)
    assert [(type(part), part.shape) for part in obs] == [(np.ndarray, (3,))] * 3


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_gymnasiums_statistics_of_episodes_are_those_of_the_infos(mode):
    _, env = many(autoreset_mode=mode)
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(env)
    env.reset(seed=0)
    for _ in range(30):
        *_, infos = env.step(np.ones(3, dtype=np.int64))
        if "episode" in infos:
            ended = infos["_episode"]
            final = infos.get("final_info", infos)
            assert np.array_equal(infos["episode"]["r"][ended], final["episode_return"][ended])
            assert np.array_equal(infos["episode"]["l"][ended], final["episode_length"][ended])
    assert env.episode_count > 3


def test_wrappers_that_ask_for_resets_in_the_next_step():
    with pytest.raises(ValueError, match="NEXT_STEP"):
        gymnasium.wrappers.vector.NormalizeObservation(many()[1])
    env = gymnasium.wrappers.vector.NormalizeObservation(many(autoreset_mode="NextStep")[1])
    env.reset(seed=0)
    rows = np.stack([env.step(np.ones(3, dtype=np.int64))[0] for _ in range(30)])
    assert np.isfinite(rows).all()
    assert np.abs(rows.mean((0, 1))).max() < 1
