"""Every environment by its name: device, Gymnasium's two faces, and the list of names."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import funcrl
from funcrl import envs
from funcrl.core import random, tree
from funcrl.envs.drawing import metadata

OWN = {
    "Corridor-v0",
    "Driving-v0",
    "GridNavigation-v0",
    "PositionOnlyCartPole-v0",
    "RepeatFirst-v0",
    "TMaze-v0",
}
OWN |= {name for name in envs.REGISTRY if "Bandit" in name or "MinAtar" in name}
# Their first episode at random ends between 24 and 60 steps; others end before, or last for long.
LATE = {"Asterix-MinAtar", "RepeatFirst-v0", "Seaquest-MinAtar", "SpaceInvaders-MinAtar"}


def test_names_and_time_limits_are_those_that_gymnasium_is_told():
    assert {name: envs.make(name).max_episode_steps for name in envs.REGISTRY} == funcrl._TIME_LIMITS


@pytest.mark.parametrize("name", sorted(set(envs.REGISTRY) - OWN - {"Taxi-v3"}))
def test_names_mean_what_they_mean_in_gymnasium(name):
    ours, theirs = envs.make(name), gymnasium.make(name)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.max_episode_steps == theirs.spec.max_episode_steps


@pytest.mark.parametrize("name", sorted(envs.REGISTRY))
def test_every_environment_passes_its_own_check(name):
    envs.check_env(envs.make(name), num_steps=60 if name in LATE else 24)


@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
@pytest.mark.parametrize("name", sorted(envs.REGISTRY))
def test_gymnasium_makes_many_and_one(name):
    many = gymnasium.make_vec(f"funcrl/{name}", num_envs=3, backend="eager")
    one = gymnasium.make(f"funcrl/{name}", backend="eager")
    obs, _ = many.reset(seed=5)
    first, _ = one.reset(seed=5)
    many.action_space.seed(0)
    for _ in range(6):
        for lane, alone in zip(tree.leaves(obs), tree.leaves(first), strict=True):
            assert torch.allclose(lane[0].float(), alone.float(), atol=1e-5)
        actions = many.action_space.sample()
        obs, reward, terminated, truncated, infos = many.step(actions)
        if terminated[0] or truncated[0]:
            obs = infos["final_obs"]
        first, one_reward, one_terminated, one_truncated, _ = one.step(actions[0])
        assert isinstance(one_reward, float)
        assert one_reward == pytest.approx(float(reward[0]), abs=1e-5)
        assert (one_terminated, one_truncated) == (bool(terminated[0]), bool(truncated[0]))
        if one_terminated or one_truncated:
            break


def test_specifications_make_the_same_again():
    many = gymnasium.make_vec(
        "funcrl/Pendulum-v1", num_envs=3, backend="eager", autoreset_mode="NextStep", gravity=3.0
    )
    again = gymnasium.make_vec(many.spec)
    assert (again.num_envs, again.autoreset_mode, again.env.gravity) == (3, many.autoreset_mode, 3.0)
    one = gymnasium.make("funcrl/CartPole-v1", backend="eager", max_episode_steps=3)
    again = gymnasium.make(one.spec)
    again.reset(seed=0)
    assert [again.step(0)[3] for _ in range(3)] == [False, False, True]
    lake = gymnasium.make_vec("funcrl/FrozenLake-v1", num_envs=2, backend="eager", desc=("SF", "FG"))
    lake = gymnasium.make_vec(gymnasium.envs.registration.EnvSpec.from_json(lake.spec.to_json()))
    assert lake.env.desc == ("SF", "FG")
    text = gymnasium.envs.registration.EnvSpec.from_json(one.spec.to_json())
    assert gymnasium.make(text).spec == one.spec


@pytest.mark.parametrize("make", [gymnasium.make, gymnasium.make_vec])
def test_software_that_tries_a_keyword_goes_on_without_it(make):
    """What TorchRL's GymEnv does with every name."""

    def attempt(**kwargs):
        try:
            return make("funcrl/CartPole-v1", backend="eager", **kwargs)
        except TypeError as error:
            if "unexpected keyword argument 'frameskip'" not in str(error):
                raise
            kwargs.pop("frameskip")
            return attempt(**kwargs)

    env = attempt(frameskip=1, gravity=3.0, render_mode="rgb_array").unwrapped
    assert env.env.gravity == 3.0
    with pytest.raises(TypeError, match=r"\(\) got an unexpected keyword argument 'lenght'.*'half_length'"):
        make("funcrl/CartPole-v1", lenght=1.0)
    with pytest.raises(TypeError, match=r"argument 'frameskip'\. CartPole-v1 takes 'gravity', "):
        make("funcrl/CartPole-v1", frameskip=4)
    with pytest.raises(ValueError, match="CartPole: half_length must"):
        make("funcrl/CartPole-v1", half_length=-1.0)


class Numpy(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
    """What a user puts between funcrl and code that wants arrays."""

    def __init__(self, env):
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)

    def reset(self, **kwargs):
        obs, infos = self.env.reset(**kwargs)
        return obs.numpy(), infos

    def step(self, action):
        obs, *rest = self.env.step(action)
        return obs.numpy(), *rest


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasiums_own_checker_is_content():
    env = gymnasium.make("funcrl/MountainCar-v0", backend="eager", render_mode="rgb_array")
    check_env(Numpy(env.unwrapped), skip_render_check=True)
    assert env.reset(seed=0)[0].shape == (2,)
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3


def test_one_environment_that_is_over_or_closed_must_not_be_stepped():
    env = gymnasium.make("funcrl/CartPole-v1", backend="eager", angle_threshold=1e-6).unwrapped
    with pytest.raises(ValueError, match=r"CartPole\.step: the environment must be reset first"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(TypeError, match=r"CartPole\.step: action must be a tensor or an array, got 'a'"):
        env.step("a")
    with pytest.raises(ValueError, match=r"CartPole\.step: action must have shape \(\), got \(1,\)"):
        env.step([1])
    assert env.step(0)[2]
    with pytest.raises(ValueError, match=r"the episode must not be over, .* Write env.reset\(\)"):
        env.step(0)
    env.close()
    with pytest.raises(ValueError, match=r"CartPole\.reset: the environment must be open"):
        env.reset()


def test_every_environment_of_a_vector_may_have_numbers_of_its_own():
    lengths = [0.1, 0.5, 2.0]
    many = gymnasium.make_vec("funcrl/CartPole-v1", num_envs=3, backend="eager", half_length=lengths)
    many.reset(seed=4)
    obs = many.step(torch.ones(3, dtype=torch.int64))[0]
    for i, length in enumerate(lengths):
        one = gymnasium.make_vec("funcrl/CartPole-v1", num_envs=3, backend="eager", half_length=length)
        one.reset(seed=4)
        assert torch.allclose(one.step(torch.ones(3, dtype=torch.int64))[0][i], obs[i], atol=1e-6)
    with pytest.raises(
        ValueError, match=r"CartPole\.half_length must be one number or hold one for each of 3"
    ):
        gymnasium.make_vec("funcrl/CartPole-v1", num_envs=3, half_length=[1.0, 2.0])
    with pytest.raises(ValueError, match="CartPole: half_length must lie in"):
        gymnasium.make_vec("funcrl/CartPole-v1", num_envs=2, half_length=[1.0, -2.0])


def test_continuous_actions_are_checked_at_the_face():
    env = gymnasium.make_vec("funcrl/Pendulum-v1", num_envs=2, backend="eager")
    env.reset(seed=0)
    for actions, message in [
        ([0.0, 0.0], r"actions must have shape \(2, 1\), got \(2,\)"),
        ([[0], [1]], "actions must be floating-point numbers"),
    ]:
        with pytest.raises(ValueError, match=rf"Pendulum\.step: {message}"):
            env.step(torch.tensor(actions))
    with pytest.raises(TypeError, match=r"Pendulum\.step: actions must be a tensor or an array"):
        env.step("left")
    with pytest.raises(TypeError, match=r"Pendulum\.unroll: actions must be a tensor or an array"):
        env.unroll(None)
    learnt = torch.zeros(2, 1, requires_grad=True)
    assert not env.step(learnt)[0].requires_grad


@pytest.mark.parametrize("name", ["Pendulum-v1", "MountainCarContinuous-v0"])
def test_actions_beyond_a_box_do_what_they_do_in_gymnasium(name):
    beyond, limit = np.array([5.0], np.float32), np.array([3.0], np.float32)
    many = gymnasium.make_vec(f"funcrl/{name}", num_envs=2, backend="eager")
    one = gymnasium.make(f"funcrl/{name}", backend="eager")
    theirs = gymnasium.make(name, disable_env_checker=True)
    for action in (beyond, limit, -beyond):
        many.reset(seed=0)
        state = one.reset(seed=0)[0].numpy()
        theirs.reset(seed=0)
        start = (np.arctan2(state[1], state[0]), state[2]) if name == "Pendulum-v1" else state
        theirs.unwrapped.state = np.array(start)
        obs, reward, *_ = theirs.step(action)
        ours, our_reward, *_ = many.step(torch.tensor(np.stack([action, action])))
        np.testing.assert_allclose(ours[0], obs, atol=1e-5)
        assert float(our_reward[0]) == pytest.approx(float(reward), abs=1e-5)
        alone, alone_reward, *_ = one.step(action)
        np.testing.assert_allclose(alone, obs, atol=1e-5)
        assert alone_reward == pytest.approx(float(reward), abs=1e-5)


def test_actions_beyond_a_box_of_our_own_environment_are_clipped():
    results = []
    for action in ([[9.0, 7.0, -3.0]], [[1.0, 1.0, 0.0]]):
        env = gymnasium.make_vec("funcrl/Driving-v0", num_envs=1, backend="eager")
        env.reset(seed=0)
        results += [[env.step(torch.tensor(action))[0] for _ in range(3)]]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
@pytest.mark.parametrize("name", sorted(envs.REGISTRY))
def test_frames_per_second_are_gymnasiums(name):
    many = gymnasium.make_vec(f"funcrl/{name}", num_envs=2, backend="eager")
    one = gymnasium.make(f"funcrl/{name}", backend="eager")
    # A step of the car is 0.1 s, of most others a move.
    own = {"Driving-v0": 10, "PositionOnlyCartPole-v0": 50}.get(name, 10 if "MinAtar" in name else 4)
    expected = own if name in OWN | {"Taxi-v3"} else gymnasium.make(name).metadata["render_fps"]
    assert many.metadata["render_fps"] == one.metadata["render_fps"] == expected
    assert many.metadata["render_modes"] == one.metadata["render_modes"] == ["rgb_array"]
    assert envs.TorchVectorEnv(envs.TimeLimit(envs.make(name), 5), 2).metadata["render_fps"] == expected


def test_frames_per_second_of_what_does_not_say():
    env = envs.make("CartPole-v1")
    silent = type("Silent", (), {"initial": env.initial, "transition": env.transition})()
    assert metadata(silent) == {"render_modes": [], "render_fps": 30}


def test_a_list_of_pictures():
    env = gymnasium.make("funcrl/CartPole-v1", backend="eager", render_mode="rgb_array_list")
    assert env.render_mode == gymnasium.make(env.spec).render_mode == "rgb_array_list"
    env.reset(seed=0)
    for _ in range(3):
        env.step(0)
    frames = env.render()
    assert [frame.dtype for frame in frames] == [np.uint8] * 4
    assert not np.array_equal(frames[0], frames[3])
    assert env.render() == []


@pytest.mark.filterwarnings("ignore:.*HumanRendering wrapper:UserWarning")
def test_a_window_for_people(monkeypatch):
    env = gymnasium.make("funcrl/CartPole-v1", backend="eager", render_mode="human")
    assert isinstance(env, gymnasium.wrappers.HumanRendering)
    assert (env.render_mode, env.metadata["render_fps"]) == ("human", 50)
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env.reset(seed=0)
    env.step(0)
    assert env.screen_size == env.env.render().shape[1::-1]
    assert env.render() is None
    env.close()


@pytest.mark.parametrize(
    "name",
    [
        "FrozenLake-v1",
        "CliffWalking-v1",
        "Taxi-v4",
        "Blackjack-v1",
        "BernoulliBandit-v0",
        "GaussianBandit-v0",
    ],
)
def test_pictures_in_every_render_mode(name):
    one = gymnasium.make(f"funcrl/{name}", backend="eager", render_mode="rgb_array")
    frames = gymnasium.make(f"funcrl/{name}", backend="eager", render_mode="rgb_array_list")
    many = gymnasium.make_vec(
        f"funcrl/{name}", num_envs=2, backend="eager", render_mode="rgb_array", autoreset_mode="Disabled"
    )
    for env in (one, frames, many):
        assert (env.metadata["render_fps"], "rgb_array" in env.metadata["render_modes"]) == (4, True)
        env.reset(seed=1)
    first = one.render()
    assert first.dtype == np.uint8
    one.step(1)
    frames.step(1)
    many.step(torch.ones(2, dtype=torch.int64))
    pictures = [first, one.render()]
    assert [np.array_equal(*pair) for pair in zip(frames.render(), pictures, strict=True)] == [True] * 2
    assert np.array_equal(many.render()[0], pictures[1])


def test_pictures_of_many():
    env = gymnasium.make_vec("funcrl/CartPole-v1", num_envs=2, backend="eager", render_mode="rgb_array")
    env.reset(seed=[0, 1])
    one, two = env.render()
    assert one.shape == two.shape
    assert not np.array_equal(one, two)


def test_every_environment_can_draw_itself():
    for name in sorted(envs.REGISTRY):
        env = envs.make(name)
        frame = env.render(env.initial(random.key(0)))
        assert frame.dtype == np.uint8
        assert frame.ndim == 3
