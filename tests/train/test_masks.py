"""Actions that are not valid are never chosen and never learnt from."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from funcrl import envs, nets, policies
from funcrl.algos import REGISTRY, actor_critic, double_dqn, dqn, ppo
from funcrl.core import ReplayBatch, random, tree
from funcrl.ops import exploration
from funcrl.train import evaluate, train

BOX = spaces.Box(-1, 1, (2,), np.float32)
WINDOW = {"num_envs": 2, "window_length": 8, "hidden": (8,)}
REPLAY = {"hidden": (8, 8), "buffer_size": 64, "warmup_steps": 8, "batch_size": 8}
LEARNERS = {
    "a2c": WINDOW,
    "actor_critic": {"num_envs": 2, "hidden": (8,)},
    "c51": REPLAY,
    "dqn": REPLAY | {"exploration": "boltzmann"},
    "double_dqn": REPLAY,
    "dueling_dqn": REPLAY,
    "ppo": WINDOW,
    "pqn": WINDOW | {"num_minibatches": 2},
    "qr_dqn": REPLAY,
    "rainbow": REPLAY,
    "reinforce": WINDOW | {"window_length": 24},
}


class Choosy:
    """Shows two numbers; of four actions one or two are valid, and another one pays a thousand and is noticed."""

    max_episode_steps = 5
    observation_space = BOX
    action_space = spaces.Discrete(4)

    def initial(self, key):
        return random.uniform(key, (2,))

    def transition(self, state, action, key):
        valid = self.action_mask(state)[action]
        return torch.where(valid, random.uniform(key, (2,)), 0.0 * state)

    def observation(self, state, key):
        return state

    def action_mask(self, state):
        return torch.stack([state[0] > 0.5, state[0] <= 0.5, state[1] > 0.5, state[0] < -1])

    def reward(self, state, action, next_state, key):
        return torch.where(self.action_mask(state)[action], 1.0, 1000.0)

    def terminal(self, state, key):
        return (state == 0).all()


@pytest.mark.parametrize("name", LEARNERS)
def test_no_learner_ever_takes_one_neither_exploring_nor_greedily(name):
    env = envs.MaskActions(Choosy())
    config = REGISTRY[name].Config(**LEARNERS[name])
    result = train(name, env, config=config, seeds=[0, 1], num_steps=48, backend="eager")
    returns = result.returns[result.episodes > 0]
    assert len(returns) > 0
    assert (returns == 5.0).all()
    for greedy in (True, False):
        played = evaluate(name, env, result.states, num_episodes=3, greedy=greedy, backend="eager")
        assert (played == 5.0).all()


def test_taxi_under_a_mask_does_nothing_in_vain_on_device_and_host():
    config = ppo.Config(**WINDOW)
    for env in (
        envs.from_words("train", "Taxi-v3", {"max_episode_steps": 20}, ["mask_actions"]),
        envs.from_words("train", "Taxi-v4", {"max_episode_steps": 20}, ["mask-actions"]),
    ):
        assert set(env.observation_space.spaces) == {"observation", "action_mask"}
        result = train("ppo", env, config=config, seeds=[0], num_steps=96, backend="eager")
        returns = result.returns[result.episodes > 0]
        # Ten are taken off for what is done in vain, one for a step.
        assert (returns >= -20).all()


def test_nothing_is_learnt_of_what_is_not_valid():
    env = envs.MaskActions(Choosy())
    state = ppo.init(random.key(0), ppo.Config(hidden=(8,), num_envs=1, window_length=8), env)
    obs = {"observation": torch.rand(8, 2), "action_mask": torch.tensor([[1, 0, 1, 0]] * 8)}
    action = torch.tensor([0, 2] * 4)
    log_prob = policies.Categorical(torch.zeros(8, 2)).log_prob(action // 2)
    advantage = torch.linspace(-1, 1, 8)
    batch = ppo.Batch(obs, action, log_prob, torch.zeros(8), advantage, advantage)
    after = ppo.update(state, batch)
    moved = after.params["actor"]["body.layers.2.bias"] != state.params["actor"]["body.layers.2.bias"]
    assert moved.tolist() == [True, False, True, False]


@pytest.mark.parametrize("module", [dqn, double_dqn])
def test_targets_are_the_best_valid_actions_values(module):
    env = envs.MaskActions(Choosy())
    config = module.Config(hidden=(), batch_size=2, gamma=0.5)
    state = module.init(random.key(0), config, env)
    bias = torch.tensor([1.0, 2.0, 3.0, 100.0])
    params = {name: bias if "bias" in name else 0 * p for name, p in state.params.items()}
    state = tree.replace(state, params=params, target_params=params)
    see = lambda *rows: {"observation": torch.zeros(2, 2), "action_mask": torch.tensor(rows)}
    batch = ReplayBatch(
        obs=see([1, 1, 1, 1], [1, 1, 1, 1]),
        action=torch.tensor([0, 0]),
        reward=torch.zeros(2),
        # After the end nothing may be valid, and nothing counts.
        discount=torch.tensor([0.5, 0.0]),
        next_obs=see([1, 1, 0, 0], [0, 0, 0, 0]),
        weight=torch.ones(2),
    )
    after = module.update(state, batch)
    # Q = 1 in both rows; y is ½ · 2 and 0.
    assert after.td_error.tolist() == pytest.approx([0.0, 1.0])
    assert all(x.isfinite().all() for x in tree.leaves(after.params))


def test_probabilities_of_several_choices_under_a_mask():
    head = policies.for_space("test", spaces.MultiDiscrete([2, 3]))
    logits = torch.tensor([0.0, 1.0, 2.0, 1.0, 0.0])
    found = head.distribution(logits, {}).masked(torch.tensor([True, True, False, True, True]))
    first, second = torch.softmax(logits[:2], 0), torch.softmax(logits[3:], 0)
    for a in range(2):
        for b in (1, 2):
            expected = torch.log(first[a] * second[b - 1])
            assert float(found.log_prob(torch.tensor([a, b]))) == pytest.approx(float(expected), abs=1e-6)
    assert found.mode().tolist() == [1, 1]
    entropy = -(first * first.log()).sum() - (second * second.log()).sum()
    assert float(found.entropy()) == pytest.approx(float(entropy), abs=1e-6)
    drawn = torch.stack([found.sample(random.key(i)) for i in range(50)])
    assert set(drawn[:, 1].tolist()) == {1, 2}


def test_epsilon_is_shared_by_valid_actions_alone():
    values = torch.tensor([-torch.inf, 1.0, 2.0, -torch.inf])
    found = exploration.epsilon_greedy(values, 0.5, torch.tensor([False, True, True, False]))
    assert found.tolist() == [0.0, 0.25, 0.75, 0.0]


class Host(gymnasium.Env):
    """Two numbers and a mask that allows nothing from some step on."""

    observation_space, action_space = BOX, spaces.Discrete(2)

    def __init__(self, nothing_at=10, says=True):
        self.nothing_at, self.says, self.time = nothing_at, says, 0

    def _info(self):
        return {"action_mask": np.array([self.time < self.nothing_at, 0])} if self.says else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), self._info()

    def step(self, action):
        assert action == 0
        self.time += 1
        return np.zeros(2, np.float32), 1.0, False, self.time == 20, self._info()


def host(**given):
    from funcrl.envs.masks import MaskActionsOnHost

    return envs.from_gymnasium(lambda: MaskActionsOnHost(Host(**given)), vectorization="sync")


def test_a_mask_that_allows_nothing_is_named_with_its_lane_and_step():
    with pytest.raises(
        envs.HostError,
        match=r"obs\['action_mask'\] of environment 0 of lane 0 in step 3 of its episode must allow an action of every",
    ):
        train(
            "ppo", host(nothing_at=3), config=ppo.Config(**WINDOW), seeds=[0], num_steps=32, backend="eager"
        )


@tree.struct
class Closing:
    """Two choices, of which the second one has no action left from some step on in every fourth environment."""

    nothing_at: int = tree.static(default=5)
    max_episode_steps: int | None = tree.static(default=20)
    observation_space = BOX
    action_space = spaces.MultiDiscrete([2, 3])

    def initial(self, key):
        return torch.stack([torch.zeros(()), random.uniform(key, ())])

    def transition(self, state, action, key):
        return state + torch.tensor([1.0, 0.0])

    def observation(self, state, key):
        return 0.01 * state

    def action_mask(self, state):
        closed = (state[0] >= self.nothing_at) & (state[1] < 0.25)
        return torch.stack([state[0] >= 0, state[0] < 0, *[~closed] * 3])

    def reward(self, state, action, next_state, key):
        return torch.ones(())

    def terminal(self, state, key):
        return torch.zeros((), dtype=torch.bool)


@pytest.mark.parametrize(
    ("algorithm", "config"),
    [
        ("ppo", ppo.Config(num_envs=8, window_length=4, hidden=(8,))),
        ("actor_critic", actor_critic.Config(num_envs=8, hidden=(8,))),
    ],
)
def test_a_mask_that_allows_nothing_on_the_device_is_named_with_its_seed_and_step(algorithm, config):
    env = envs.MaskActions(Closing())
    given = {
        "config": config,
        "num_steps": 96,
        "backend": "eager",
    }
    # Which environment it is follows from the seed.
    keys = random.split(random.split(random.key(5), 4)[1], 8)
    expected = int((envs.reset_all(env, keys).inner[:, 1] < 0.25).nonzero()[0])
    with pytest.raises(
        ValueError,
        match=rf"obs\['action_mask'\] of environment {expected} of seed 5 in its step 6 must allow an action of every",
    ):
        train(algorithm, env, seeds=[5], **given)
    assert (
        train(algorithm, envs.MaskActions(Closing(nothing_at=50)), seeds=[5], **given).nonfinite_seeds == []
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: envs.MaskActions(envs.make("CartPole-v1")), "MaskActions: env must have a mask of valid"),
        (lambda: envs.from_words("train", "CartPole-v1", wrappers=["mask_actions"]), "must have a mask"),
        (lambda: host(says=False).make().reset(), "info must have an 'action_mask'"),
    ],
)
def test_environments_without_a_mask_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Spaces:
    def __init__(self, mask, action_space):
        self.observation_space = spaces.Dict(observation=BOX, action_mask=mask)
        self.action_space = action_space


@pytest.mark.parametrize(
    ("mask", "action", "message"),
    [
        (spaces.MultiBinary(3), spaces.Discrete(4), r"'action_mask'\] must be MultiBinary\(4\)"),
        (spaces.MultiBinary(2), BOX, "env.action_space must be Discrete or MultiDiscrete where"),
        (spaces.Box(0, 1, (4,)), spaces.Discrete(4), r"must be MultiBinary\(4\)"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, action, message):
    with pytest.raises(ValueError, match=message):
        ppo.init(random.key(0), ppo.Config(), Spaces(mask, action))


def test_networks_do_not_see_the_mask():
    space = Spaces(spaces.MultiBinary(2), spaces.Discrete(2)).observation_space
    network = nets.for_observations(space, (), (4,), 2)
    params = nets.init(network, random.key(0))
    obs = nets.inputs.example(space, (3,))
    other = obs | {"action_mask": obs["action_mask"] + 1}
    assert torch.equal(nets.apply(network, params, obs), nets.apply(network, params, other))
