"""DQN, Double DQN and dueling networks: targets and losses against naive ones, the target network, bad input."""

import math
from types import SimpleNamespace

import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from funcrl import envs, nets
from funcrl.algos import beginning, c51, double_dqn, dqn, dueling_dqn, qr_dqn, rainbow
from funcrl.core import ReplayBatch, random, tree

CARTPOLE = envs.make("CartPole-v1")
SMALL = {"batch_size": 6, "hidden": (8, 8), "max_grad_norm": math.inf}
THREE = [dqn, double_dqn, dueling_dqn]
modules = pytest.mark.parametrize("module", THREE, ids=lambda m: m.__name__.rpartition(".")[2])
numbers = st.floats(-100, 100, width=32)


class Always(nn.Module):
    """Returns one thing whatever it is shown."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, obs):
        return self.output


def make(module, **settings):
    return module.init(random.key(3), module.Config(**SMALL | settings), CARTPOLE)


def make_batch(size=6, weight=None):
    k_obs, k_next, k_reward, k_action, k_end = random.split(random.key(8), 5)
    ended = random.bernoulli(k_end, 0.4, (size,))
    return ReplayBatch(
        obs=random.normal(k_obs, (size, 4)),
        action=random.randint(k_action, (size,), 0, 2),
        reward=random.normal(k_reward, (size,)),
        discount=torch.where(ended, 0.0, 0.9),
        next_obs=random.normal(k_next, (size, 4)),
        weight=torch.ones(size) if weight is None else weight,
    )


def apart(state):
    """The same agent with a target network of its own."""
    return tree.replace(state, target_params=nets.init(state.network, random.key(77)))


@given(st.lists(st.tuples(numbers, st.floats(0, 1), *[numbers] * 6), min_size=1, max_size=5))
def test_the_targets_are_those_of_the_papers(rows):
    table = torch.tensor(rows, dtype=torch.float64)
    reward, discount, online, slow = table[:, 0], table[:, 1], table[:, 2:5], table[:, 5:8]
    for i, (r, g, *q) in enumerate(rows):
        mine, believed = q[:3], q[3:]
        assert dqn.target(reward, discount, slow)[i] == pytest.approx(r + g * max(believed))
        best = max(range(3), key=lambda a: (mine[a], -a))
        assert double_dqn.target(reward, discount, online, slow)[i] == pytest.approx(r + g * believed[best])


def naive_loss(module, state, batch, params, threshold):
    """The weighted mean Huber loss, row by row, in float64."""
    wide = lambda t: tree.map(lambda x: x.to(torch.float64), t)
    run = lambda p, obs: nets.apply(state.network, p, obs.to(torch.float64))
    slow, online = wide(state.target_params), wide(state.params)
    total = 0.0
    for i in range(len(batch.action)):
        q = run(params, batch.obs[i])[batch.action[i]]
        after = run(slow, batch.next_obs[i])
        chosen = after if module is dqn else run(online, batch.next_obs[i])
        y = batch.reward[i].double() + batch.discount[i].double() * after[chosen.argmax()]
        size = (y.detach() - q).abs()
        row = 0.5 * size**2 if float(size.detach()) <= threshold else threshold * (size - 0.5 * threshold)
        total = total + batch.weight[i].double() * row
    return total / len(batch.action)


@modules
@pytest.mark.parametrize("threshold", [math.inf, 0.3])
def test_an_update_is_a_step_of_adam_on_the_papers_loss(module, threshold):
    state = apart(make(module, huber_threshold=threshold, learning_rate=0.01))
    batch = make_batch(weight=torch.linspace(0.2, 1.0, 6))
    params = {name: p.double().requires_grad_() for name, p in state.params.items()}
    loss = naive_loss(module, state, batch, params, threshold)
    optimizer = torch.optim.Adam(list(params.values()), lr=0.01, eps=1e-8)
    loss.backward()
    optimizer.step()
    after = module.update(state, batch)
    assert float(after.metrics["loss"]) == pytest.approx(float(loss), rel=1e-4)
    for name, p in params.items():
        assert torch.allclose(after.params[name].double(), p, atol=1e-4), name


@modules
def test_errors_are_those_of_the_rows(module):
    state, batch = apart(make(module)), make_batch()
    after = module.update(state, batch)
    for i in range(6):
        one = tree.map(lambda x, i=i: x[i : i + 1], batch)
        alone = module.update(tree.replace(state, config=tree.replace(state.config, batch_size=1)), one)
        assert torch.allclose(after.td_error[i], alone.td_error[0], atol=1e-5)
    assert float(after.metrics["td_error"]) == pytest.approx(float(after.td_error.mean()))


@pytest.mark.parametrize("aggregation", ["mean", "max"])
def test_dueling_streams_are_put_together_as_the_paper_says(aggregation):
    network = nets.dueling(spaces.Box(-1, 1, (4,)), (), (8, 6), 3, aggregation=aggregation)
    params = nets.init(network, random.key(1))
    obs = random.normal(random.key(2), (5, 4))
    features = torch.relu(obs @ params["body.0.layers.0.weight"].T + params["body.0.layers.0.bias"])

    def stream(name):
        hidden = torch.relu(features @ params[f"{name}.layers.0.weight"].T + params[f"{name}.layers.0.bias"])
        return hidden @ params[f"{name}.layers.2.weight"].T + params[f"{name}.layers.2.bias"]

    value, advantage = stream("value"), stream("advantage")
    less = advantage.max(1, keepdim=True).values if aggregation == "max" else advantage.mean(1, keepdim=True)
    assert torch.allclose(nets.apply(network, params, obs), value + (advantage - less), atol=1e-5)


@modules
def test_the_target_network_is_visited_every_so_many_steps(module):
    state, batch = apart(make(module, target_period=3)), make_batch()
    for step in range(1, 7):
        before, state = state, module.update(state, batch)
        for name, leaf in state.target_params.items():
            expected = state.params[name] if step % 3 == 0 else before.target_params[name]
            assert torch.equal(leaf, expected)


def test_the_target_network_can_follow_slowly():
    state = apart(make(dqn, target_period=1, tau=0.25))
    after = dqn.update(state, make_batch())
    for name, leaf in after.target_params.items():
        expected = 0.75 * state.target_params[name] + 0.25 * after.params[name]
        assert torch.allclose(leaf, expected, atol=1e-6)


def test_exploration_and_learning_rate_follow_the_environment_steps():
    state = make(dqn, exploration_steps=100.0, epsilon=0.2, anneal_steps=200.0)
    state = tree.replace(state, env_steps=torch.tensor(50, dtype=torch.int32))
    after = dqn.update(state, make_batch())
    assert float(after.metrics["exploration"]) == pytest.approx(0.6)
    assert float(after.metrics["learning_rate"]) == pytest.approx(0.75 * 2.5e-4)
    obs = torch.ones(20_000, 4)
    action, _ = dqn.act(state, obs, random.key(5))
    best = dqn.greedy(state, obs[0])
    assert float((action != best).float().mean()) == pytest.approx(0.3, abs=0.02)  # ε / 2 of two actions


def test_boltzmann_exploration_prefers_what_is_worth_more():
    settings = {"exploration": "boltzmann", "temperature": 0.5, "initial_temperature": 0.5}
    state = make(dqn, **settings)
    obs = torch.ones(1, 4)
    expected = torch.softmax(nets.apply(state.network, state.params, obs)[0] / 0.5, dim=-1)
    drawn, _ = dqn.act(state, obs.expand(20_000, 4), random.key(5))
    assert float((drawn == 0).float().mean()) == pytest.approx(float(expected[0]), abs=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"batch_size": 20_000},
            "dqn.Config: batch_size must be at most buffer_size = 10000, got 20000. Lower it",
        ),
        ({"epsilon": 1.5}, r"dqn.Config: epsilon must lie in \[0, 1\], got 1.5"),
        ({"initial_epsilon": -0.1}, r"dqn.Config: initial_epsilon must lie in \[0, 1\], got -0.1"),
        ({"target_period": 0}, "dqn.Config: target_period must be at least 1, got 0"),
        ({"tau": 2.0}, r"dqn.Config: tau must lie in \[0, 1\]"),
        ({"num_envs": 3}, "num_envs must divide buffer_size = 10000, got 3. Write 2"),
        ({"window_length": 20_000}, "num_envs · window_length must be at most buffer_size = 10000"),
        ({"n_step": 10_001}, "n_step must be at most buffer_size / num_envs = 10000"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0"),
        ({"replay": "prioritized"}, "replay must be one of .*Did you mean 'prioritised'"),
        ({"exploration": "greedy"}, "exploration must be one of"),
        ({"huber_threshold": 0.0}, r"huber_threshold must lie in \(0, inf\)"),
        ({"gamma": 1.1}, "gamma must lie in"),
        ({"initial_temperature": math.inf}, "initial_temperature must be finite"),
        ({"target_period": 2**31}, "target_period must be below"),
        ({"activation": "leaky"}, "activation must be one of"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dqn.Config(**settings)


def test_widths_of_layers_are_tuples():
    with pytest.raises(TypeError, match=r"dqn.Config: hidden must be a tuple, got 64. Write \(64,\)."):
        dqn.Config(hidden=64)
    with pytest.raises(TypeError, match=r"dqn.Config: buffer_size must be an integer"):
        dqn.Config(buffer_size=[1000, 2000])
    with pytest.raises(ValueError, match=r"dueling_dqn.Config: hidden must hold two widths"):
        dueling_dqn.Config(hidden=(8,))


def test_a_schedule_whose_length_is_not_known_stays_where_it_begins():
    state = tree.replace(make(dqn), env_steps=torch.tensor(10_000, dtype=torch.int32))
    assert float(dqn.update(state, make_batch()).metrics["exploration"]) == 1.0


@modules
def test_continuous_actions_and_other_spaces_are_refused(module):
    name = module.__name__.rpartition(".")[2]
    with pytest.raises(ValueError, match=rf"{name}.init: env.action_space must be Discrete .*one by one"):
        module.init(random.key(0), module.Config(), envs.make("Pendulum-v1"))
    words = SimpleNamespace(observation_space=spaces.Text(3), action_space=spaces.Discrete(2))
    with pytest.raises(ValueError, match=rf"{name}.init: env.observation_space must be one of Box"):
        module.init(random.key(0), module.Config(), words)
    with pytest.raises(ValueError, match=rf"{name}.update: batch.action must hold config.batch_size rows"):
        module.update(make(module), make_batch(size=5))


@pytest.mark.parametrize("module", [dqn, double_dqn, dueling_dqn, c51, qr_dqn, rainbow])
def test_batches_of_other_shapes_are_refused(module):
    state, good = make(module), make_batch()
    wrong = {
        "reward": good.reward.unsqueeze(-1),
        "discount": good.discount[0],
        "weight": good.weight[:1],
        "obs": good.obs[:5],
        "next_obs": good.next_obs[:1],
        "action": good.action.unsqueeze(-1),
    }
    for field, value in wrong.items():
        with pytest.raises(ValueError, match=rf"update: batch.{field} must hold config.batch_size rows, \[B"):
            module.update(state, tree.replace(good, **{field: value}))
    with pytest.raises(ValueError, match=r"batch.action must be torch.int64, got torch.float32"):
        module.update(state, tree.replace(good, action=good.action.float()))


def test_an_own_network_must_have_a_value_for_each_action():
    with pytest.raises(ValueError, match=r"dqn.init: config.network must map .* to \[B, 2\], got '\[B, 3\]'"):
        make(dqn, network=nn.Linear(4, 3, device="meta"))
    for output, found in (((), "tuple"), (torch.zeros(2), r"\[2\]")):
        with pytest.raises(ValueError, match=rf"to \[B, 2\], got '{found}'"):
            make(dqn, network=Always(output))
    state = make(dqn, network=nn.Linear(4, 2, device="meta"))
    assert set(state.params) == {"weight", "bias"}


def test_images_get_a_convolutional_network():
    grid = envs.GridNavigation(size=5)
    for module in THREE:
        state = module.init(random.key(0), module.Config(**SMALL, channels=(4, 4)), grid)
        assert module.greedy(state, torch.zeros(7, 3, 5, 5)).shape == (7,)
        assert any("convolutions" in name for name in state.params)


def test_spaces_of_images_are_boxes():
    assert isinstance(envs.GridNavigation().observation_space, spaces.Box)
    space, num_actions = beginning.spaces_of("dqn.init", envs.GridNavigation(), "")
    assert (space.shape, num_actions) == ((3, 8, 8), 4)
