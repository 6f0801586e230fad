"""REINFORCE, actor-critic and A2C against naive definitions, and on environments whose answers are known."""

import pytest
import torch

from funcrl import envs, nets
from funcrl.algos import a2c, actor_critic, reinforce
from funcrl.algos.policy_gradient import agent
from funcrl.core import Transition, random, tree
from funcrl.train import train
from tests.algos.table import ON_POLICY, ONLINE
from tests.probes import Choice, Delayed, Truncating

A2C, REINFORCE, ACTOR_CRITIC = (
    next(case for case in (*ON_POLICY, *ONLINE) if case.id == name)
    for name in ("a2c", "reinforce", "actor_critic")
)


def naive(state, params, batch):
    """log π(a | s), the entropy and V(s) of every row, float64."""
    logits = nets.apply(state.actor, params["actor"], batch.obs).double()
    chances = torch.softmax(logits, dim=-1)
    rows = torch.arange(len(batch.action))
    entropy = -(chances * chances.log()).sum(-1)
    return chances[rows, batch.action].log(), entropy, agent.value(state, params, batch.obs).double()


def other_params(state, scale=5.0):
    return tree.map(lambda p: scale * p + 0.1, state.params)


def test_a2cs_loss_is_its_definition():
    state, batch = A2C.init(), A2C.batch()
    state = tree.replace(state, config=tree.replace(state.config, entropy_weight=torch.tensor(0.03)))
    params = other_params(state)
    log_prob, entropy, value = naive(state, params, batch)
    total = 0.0
    for i in range(len(value)):
        total -= float(log_prob[i]) * float(batch.advantage[i])
        total += 0.5 * 0.5 * (float(batch.target[i]) - float(value[i])) ** 2
        total -= 0.03 * float(entropy[i])
    assert float(a2c.loss(params, state, batch)[0]) == pytest.approx(total / len(value), rel=1e-4)


def test_reinforces_loss_is_its_definition_and_leaves_out_what_is_not_known():
    state, batch = REINFORCE.init(), REINFORCE.batch()
    assert 0 < batch.weight.sum() < len(batch.weight)
    for baseline in (True, False):
        state = tree.replace(state, config=tree.replace(state.config, baseline=baseline))
        params = other_params(state)
        log_prob, _, value = naive(state, params, batch)
        total = 0.0
        for i in range(len(value)):
            if batch.weight[i] == 1:
                error = float(batch.target[i]) - (float(value[i]) if baseline else 0.0)
                total -= error * float(log_prob[i])
                total += 0.5 * 0.5 * error**2 if baseline else 0.0
        found, figures = reinforce.loss(params, state, batch)
        assert float(found) == pytest.approx(total / float(batch.weight.sum()), rel=1e-4)
        assert float(figures["used"]) == pytest.approx(float(batch.weight.mean()))
        # What is not known may be anything.
        unknown = tree.replace(batch, target=torch.where(batch.weight == 1, batch.target, 1e6))
        assert torch.equal(reinforce.loss(params, state, unknown)[0], found)


def test_reinforces_returns_go_to_the_end_of_the_episode_and_no_further():
    no = torch.zeros(5, 1, dtype=torch.bool)
    end, cut = no.clone(), no.clone()
    end[1], cut[3] = True, True
    reward = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])[:, None]
    obs = torch.zeros(5, 1, 4)
    window = Transition(obs, no.long(), reward, end, cut, obs, {})
    config = reinforce.Config(num_envs=1, window_length=5, lookahead=1, gamma=0.5)
    state = reinforce.init(random.key(0), config, envs.make("CartPole-v1"))
    beyond = {"layers.4.bias": torch.tensor([10.0])}
    state = tree.replace(state, params=state.params | {"critic": state.params["critic"] | beyond})
    batch = reinforce.prepare(state, window)
    assert batch.weight.tolist() == [1, 1, 1, 1, 0]
    # 4 + ½ · 10 where the episode was cut off.
    assert batch.target[:4].tolist() == pytest.approx([2.0, 2.0, 3 + 0.5 * 9, 9.0])
    blind = tree.replace(state, config=tree.replace(state.config, baseline=False))
    assert reinforce.prepare(blind, window).target[:4].tolist() == pytest.approx([2.0, 2.0, 5.0, 4.0])


def test_reinforce_learns_nothing_from_a_window_without_an_end():
    state, batch = REINFORCE.init(), REINFORCE.batch()
    after = reinforce.update(state, tree.replace(batch, weight=torch.zeros_like(batch.weight)))
    for old, new in zip(tree.leaves(state.params), tree.leaves(after.params), strict=True):
        assert torch.equal(old, new)


def test_the_actor_critics_loss_is_its_definition_and_weighs_by_the_discount():
    state, batch = ACTOR_CRITIC.init(), ACTOR_CRITIC.batch()
    batch = tree.replace(batch, terminated=torch.tensor([False, True, False]))
    state = tree.replace(state, weight=torch.tensor([1.0, 0.5, 0.25]))
    params = other_params(state)
    log_prob, entropy, value = naive(state, params, batch)
    beyond = agent.value(state, state.params, batch.next_obs).double()
    total = 0.0
    for i in range(3):
        goal = float(batch.reward[i]) + (0.0 if batch.terminated[i] else 0.99 * float(beyond[i]))
        error = goal - float(value[i])
        total -= float(state.weight[i]) * error * float(log_prob[i]) + 0.01 * float(entropy[i])
        total += 0.5 * 0.5 * error**2
    assert float(actor_critic.loss(params, state, batch)[0]) == pytest.approx(total / 3, rel=1e-4)
    after = actor_critic.update(state, batch)
    assert after.weight.tolist() == pytest.approx([0.99, 1.0, 0.25 * 0.99])


@pytest.mark.parametrize(
    ("case", "make"),
    [
        (A2C, lambda p: torch.optim.RMSprop(p, lr=7e-4, alpha=0.99, eps=1e-5)),
        (REINFORCE, lambda p: torch.optim.Adam(p, lr=5e-3, eps=1e-5)),
        (ACTOR_CRITIC, lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-5)),
    ],
    ids=["a2c", "reinforce", "actor_critic"],
)
def test_a_whole_update_equals_torchs_autograd_and_optimiser(case, make):
    state, batch = case.init(), case.batch()
    networks = {n: {k: p.clone().requires_grad_() for k, p in own.items()} for n, own in state.params.items()}
    flat = [p for own in networks.values() for p in own.values()]
    case.algorithm.loss(networks, state, batch)[0].backward()
    norm = torch.nn.utils.clip_grad_norm_(flat, 0.5)
    make(flat).step()
    updated = case.algorithm.update(state, batch)
    for new, expected in zip(tree.leaves(updated.params), tree.leaves(networks), strict=True):
        assert torch.allclose(new, expected, atol=1e-6)
    assert float(updated.metrics["grad_norm"]) == pytest.approx(float(norm), rel=1e-5)


SETTINGS = {"num_envs": 64, "anneal_steps": 0.0, "max_grad_norm": 10.0}
PROBED = {
    "a2c": {"window_length": 4, "hidden": (16,), "learning_rate": 0.03},
    "reinforce": {"window_length": 4, "hidden": (32,), "learning_rate": 0.1},
    "actor_critic": {"hidden": (32,), "learning_rate": 0.1},
}
UPDATES = {"a2c": 45, "reinforce": 50, "actor_critic": 60}
"""how many it takes until values are learnt; actions follow in less than half of it"""


def learn(name, env, share=1.0, **changes):
    """Many environments and few, large updates: they need not be recorded to be fast."""
    algorithm = {"a2c": a2c, "reinforce": reinforce, "actor_critic": actor_critic}[name]
    config = algorithm.Config(**(SETTINGS | PROBED[name] | changes))
    num_steps = int(share * UPDATES[name]) * 64 * PROBED[name].get("window_length", 1)
    return algorithm, train(
        algorithm, env, config=config, seeds=range(2), num_steps=num_steps, backend="eager"
    )


def values(result, obs):
    states = result.states
    return torch.vmap(lambda s: agent.value(s, s.params, torch.tensor([obs])))(states).tolist()


@tree.struct
class Dying(Truncating):
    """The same, where the cut is a death: on average over both steps V = 1 + γ V / 2."""

    max_episode_steps: int | None = tree.static(default=None)

    def terminal(self, state, key):
        return state >= 2


@pytest.mark.parametrize("name", PROBED)
def test_probe_a_truncated_episode_still_bootstraps(name):
    _, result = learn(name, Truncating(), gamma=0.5)
    assert values(result, 1.0) == pytest.approx([2.0] * 2, abs=0.1)


def test_probe_taking_the_time_limit_for_an_end_would_teach_another_value():
    _, result = learn("a2c", Dying(), gamma=0.5)
    assert values(result, 1.0) == pytest.approx([4 / 3] * 2, abs=0.1)


@pytest.mark.parametrize("name", PROBED)
def test_probe_rewards_are_discounted_and_actions_follow_observations(name):
    _, result = learn(name, Delayed(), gamma=0.5)
    assert values(result, 0.0) == pytest.approx([0.5] * 2, abs=0.1)
    assert values(result, 1.0) == pytest.approx([1.0] * 2, abs=0.1)
    algorithm, result = learn(name, Choice(), share=0.45)
    for sign, right in ((1.0, 1), (-1.0, 0)):
        chosen = torch.vmap(lambda s, sign=sign: algorithm.greedy(s, torch.tensor([sign])))(result.states)
        assert chosen.tolist() == [right] * 2


@pytest.mark.parametrize("algorithm", [a2c, actor_critic])
def test_first_weights_are_orthogonal_or_those_of_torch(algorithm):
    env = envs.make("CartPole-v1")
    drawn = {
        flag: algorithm.init(random.key(0), algorithm.Config(orthogonal=flag), env).params
        for flag in (True, False)
    }
    for part in ("actor", "critic"):
        square = drawn[True][part]["layers.2.weight"]
        assert torch.allclose(square @ square.T, 2 * torch.eye(64), atol=1e-4)
        assert not drawn[True][part]["layers.2.bias"].any()
        for layer, fan_in in (("0", 4), ("2", 64), ("4", 64)):
            for kind in ("weight", "bias"):
                numbers = drawn[False][part][f"layers.{layer}.{kind}"]
                assert float(numbers.abs().max()) <= fan_in**-0.5
                assert numbers.any()
