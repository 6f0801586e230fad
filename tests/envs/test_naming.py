"""Environments from words."""

import pytest

from funcrl import envs


def test_wrappers_are_put_around_in_order():
    words = ["frame_stack=2", "scale-reward=scale:0.125,shift:8", "normalize_observation=clip:5"]
    env = envs.from_words("train", "Pendulum-v1", {"max_episode_steps": 50}, words)
    assert isinstance(env, envs.NormalizeObservation)
    assert env.clip == 5
    assert (env.env.scale, env.env.shift) == (0.125, 8)
    assert env.env.env == envs.FrameStack(envs.make("Pendulum-v1", max_episode_steps=50), num_frames=2)


@pytest.mark.parametrize("name", sorted(envs.WRAPPERS))
def test_every_wrapper_can_be_named_and_refuses_fields_that_it_has_not(name):
    inner = "Taxi-v3" if name in ("flatten", "mask_actions", "one_hot") else "CartPole-v1"
    value = "=10" if name == "time_limit" else ""
    assert isinstance(envs.from_words("train", inner, {}, [name + value]), envs.WRAPPERS[name])
    with pytest.raises(ValueError, match=r"train: --wrap must name fields of its wrapper"):
        envs.from_words("train", inner, {}, [f"{name}=nothing:1"])


def test_on_the_host_wrappers_are_gymnasiums():
    env = envs.from_words(
        "train", "gymnasium:FrozenLake-v1", {"is_slippery": False}, ["flatten", "frame_stack=3"]
    )
    assert isinstance(env, envs.HostEnv)
    assert env.name == "gymnasium:FrozenLake-v1"
    assert env.observation_space.shape == (3, 16)
    with pytest.raises(
        ValueError,
        match="--wrap must be one of 'atari', 'flatten', 'frame_stack', 'mask_actions', 'scale_reward', 'time_limit'",
    ):
        envs.from_words("train", "gymnasium:CartPole-v1", {}, ["normalize_observation"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["flaten"], "--wrap must be one of .* got 'flaten'"),
        (["frame_stack=many"], "--wrap must have numbers, got 'frame_stack=many'. Write frame_stack=4."),
        (["scale_reward=scale:x"], "--wrap must have numbers, .*Write scale_reward=scale:1.0."),
        (["frame_stack=1,2"], "--wrap must name fields of its wrapper"),
        (["frame_stack=0"], "num_frames must be at least 1"),
        (["frame_stack=1.5"], "num_frames must be an integer"),
        (["flatten=4"], r"--wrap must name fields of its wrapper \(it has none\)"),
    ],
)
def test_words_that_say_nothing_are_refused(words, message):
    with pytest.raises((ValueError, TypeError), match=message):
        envs.from_words("train", "CartPole-v1", {}, words)
