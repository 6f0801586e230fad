"""The Gymnasium face."""

import gymnasium
import numpy as np
import pytest
import torch

from funcrl import envs
from funcrl.envs.vector import EPISODES_AT_A_TIME
from tests.probes import Counter


def make(num_envs=3, backend="eager", **kwargs):
    return gymnasium.make_vec("funcrl/CartPole-v1", num_envs=num_envs, backend=backend, **kwargs)


def test_spaces_and_metadata():
    env, reference = make(), gymnasium.make("CartPole-v1")
    assert env.num_envs == 3
    assert env.single_observation_space == reference.observation_space
    assert env.single_action_space == reference.action_space
    assert env.observation_space.shape == (3, 4)
    assert env.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.SAME_STEP
    assert env.spec.id == "funcrl/CartPole-v1"


def test_seeding_decides_everything():
    def episode(env, seed):
        obs, _ = env.reset(seed=seed)
        rows = [obs]
        for t in range(60):
            rows.append(env.step(torch.tensor([0, 1, t % 2]))[0])
        return torch.stack(rows)

    env = make()
    first, other, again = episode(env, 1), episode(env, 2), episode(env, 1)
    assert torch.equal(episode(make(), 1), first)
    assert torch.equal(again, first)
    assert not torch.equal(first, other)


def test_a_second_reset_goes_on_with_the_stream():
    env = make()
    first, _ = env.reset(seed=1)
    second, _ = env.reset()
    assert not torch.equal(first, second)


def test_ended_episodes_show_their_true_last_observation():
    env = make()
    env.reset(seed=0)
    seen = 0
    for _ in range(30):
        obs, reward, terminated, truncated, infos = env.step(torch.ones(3, dtype=torch.int64))
        assert reward.tolist() == [1.0] * 3
        assert torch.equal(infos["_final_obs"], terminated | truncated)
        for i in range(3):
            if terminated[i]:
                seen += 1
                assert obs[i].abs().max() <= 0.05
                assert infos["final_obs"][i, 2].abs() > 0.2
                assert infos["episode_length"][i] < 15
            else:
                assert torch.equal(obs[i], infos["final_obs"][i])
    assert seen > 3


def test_what_is_handed_out_may_be_changed():
    env, other = make(), make()
    env.reset(seed=0)[0].zero_()
    other.reset(seed=0)
    for _ in range(3):
        obs, *_, infos = env.step(torch.ones(3, dtype=torch.int64))
        expected = other.step(torch.ones(3, dtype=torch.int64))[0]
        assert torch.equal(obs, expected)
        obs.zero_()
        infos["final_obs"].zero_()


def test_parameters_reach_the_environment():
    env = make(max_episode_steps=2)
    env.reset(seed=0)
    env.step(torch.zeros(3, dtype=torch.int64))
    assert env.step(torch.zeros(3, dtype=torch.int64))[3].all()


def test_numpy_actions_are_taken():
    env = make()
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[0].shape == (3, 4)
    assert env.step(np.zeros(3, dtype=np.int64))[0].shape == (3, 4)


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_options_say_where_the_episodes_of_one_reset_start_and_no_others(mode):
    env = make(autoreset_mode=mode)
    env.reset(seed=0, options={"low": 0.1, "high": 0.2})
    starts = []
    for _ in range(40):
        before = env.unwrapped._state.ended.clone()
        obs, _, terminated, _, _ = env.step(torch.ones(3, dtype=torch.int64))
        starts += list(obs[terminated if mode == "SameStep" else before])
    assert len(starts) > 6
    assert torch.stack(starts).abs().max() <= 0.05


def test_options_and_a_mask():
    env = make()
    first, _ = env.reset(seed=0)
    mask = np.array([True, False, True])
    for kwargs in ({}, {"seed": [5, None, None]}):
        obs, _ = env.reset(options={"reset_mask": mask, "low": 0.1, "high": 0.2}, **kwargs)
        assert ((obs[mask] >= 0.1) & (obs[mask] <= 0.2)).all()
        assert torch.equal(obs[1], first[1])


def test_options_of_environments_that_differ():
    """What an option leaves out is each environment's own."""
    env = make(initial_range=[0.01, 0.02, 0.03])
    low = -torch.tensor([[0.01], [0.02], [0.03]])
    for _ in range(3):
        obs, _ = env.reset(options={"high": 0.5})
        assert (obs >= low - 1e-6).all()
        assert (obs.max(dim=1).values > 0.03).all()
        assert (env.reset()[0].abs() <= -low + 1e-6).all()
    with pytest.raises(ValueError, match="CartPole: initial_range must lie in"):
        make(initial_range=[0.01, 0.02, 0.03]).reset(options={"low": 0.025})


@pytest.mark.compiled
def test_compiled_steps_equal_eager_ones_and_compile_once():
    # The size and the limit of a test of `autoreset_mode`, whose program this is.
    num = 3 * EPISODES_AT_A_TIME + 1
    compiled, eager = (make(num, b, max_episode_steps=5) for b in ("inductor", "eager"))
    compiled.reset(seed=4)
    eager.reset(seed=4)
    for t in range(40):
        actions = (torch.arange(num) + t) % 3 % 2
        for a, b in zip(compiled.step(actions)[:4], eager.step(actions)[:4], strict=True):
            assert torch.allclose(a.float(), b.float(), atol=1e-4)
    assert compiled.unwrapped._step.num_graphs == 1


def test_bad_use_is_refused():
    env = make()
    with pytest.raises(ValueError, match="must be reset first"):
        env.step(torch.zeros(3, dtype=torch.int64))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions must have shape \(3,\), got \(2,\)"):
        env.step(torch.zeros(2, dtype=torch.int64))
    for actions in ([7, -1, 0], [2, 0, 0]):
        with pytest.raises(ValueError, match="actions must lie between 0 and 1"):
            env.step(torch.tensor(actions))
    with pytest.raises(ValueError, match="actions must be integers"):
        env.step(torch.tensor([0.5, 1.0, 0.0]))
    with pytest.raises(
        ValueError, match=r"options must hold nothing but reset_mask, low, high, got \['mask'\]"
    ):
        env.reset(options={"mask": [True]})
    with pytest.raises(ValueError, match="options must be a dictionary, got 5"):
        env.reset(options=5)
    with pytest.raises(ValueError, match=r"options must hold nothing but .*got \[1, 'a'\]"):
        env.reset(options={"a": 1, 1: 2})
    lake = gymnasium.make_vec("funcrl/FrozenLake-v1", num_envs=1, backend="eager")
    with pytest.raises(ValueError, match=r"options must be empty or hold reset_mask alone, got \['low'\]"):
        lake.reset(options={"low": 0.0})
    with pytest.raises(TypeError, match=r"options\['reset_mask'\] must be a boolean tensor"):
        env.reset(options={"reset_mask": [True]})
    with pytest.raises(ValueError, match=r"options\['reset_mask'\] must have shape \(3,\), got \(1,\)"):
        env.reset(options={"reset_mask": np.ones(1, dtype=bool)})
    with pytest.raises(ValueError, match="must name at least one environment"):
        env.reset(options={"reset_mask": torch.zeros(3, dtype=torch.bool)})
    assert torch.equal(env.reset(seed=range(3))[0], env.reset(seed=torch.arange(3))[0])
    assert torch.equal(env.reset(seed=np.array(5))[0], env.reset(seed=5)[0])
    with pytest.raises(ValueError, match="seed must hold 3 seeds, got 2"):
        env.reset(seed=[1, 2])
    for mode in ("sometimes", []):
        with pytest.raises(ValueError, match="autoreset_mode must be one of"):
            make(autoreset_mode=mode)
    with pytest.raises(
        ValueError, match=r"render_mode must be None or 'rgb_array' for CartPole, got 'human'.*Human"
    ):
        make(render_mode="human")
    with pytest.raises(ValueError, match=r"render_mode must be None for Counter, got 'rgb_array'\.$"):
        envs.TorchVectorEnv(Counter(), 1, render_mode="rgb_array")
    env.close()
    for method in (env.reset, lambda: env.step(torch.zeros(3, dtype=torch.int64)), env.render):
        with pytest.raises(ValueError, match=r"CartPole\.\w+: the environment must be open"):
            method()
    with pytest.raises(ValueError, match="make_vec: device must be present"):
        make(device="cuda:99")
    with pytest.raises(ValueError, match="num_envs must be at least 1"):
        make(num_envs=0)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'gravty'\. Did you mean 'gravity'"):
        make(gravty=1.0)
