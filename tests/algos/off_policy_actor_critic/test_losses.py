"""Losses and gradients of each update against what the papers write, row by row in float64."""

import math
from types import SimpleNamespace

import pytest
import torch
from gymnasium import spaces

from funcrl import nets
from funcrl.algos import ddpg, discrete_sac, sac, td3, tqc
from funcrl.algos.off_policy_actor_critic import agent, soft
from funcrl.core import ReplayBatch, random, tree
from funcrl.core.jit import jit

ROWS = 5
SMALL = {"batch_size": ROWS, "hidden": (6, 6), "warmup_steps": 0}
# Bounds that are neither ±1 nor the same in each dimension.
ARM = SimpleNamespace(
    observation_space=spaces.Box(-1, 1, (3,)),
    action_space=spaces.Box(torch.tensor([-2.0, 0.0]).numpy(), torch.tensor([2.0, 10.0]).numpy()),
)
SWITCH = SimpleNamespace(observation_space=ARM.observation_space, action_space=spaces.Discrete(3))
REAL = {"ddpg": ddpg, "td3": td3, "sac": sac, "tqc": tqc}
EVERY = REAL | {"discrete_sac": discrete_sac}
SETTINGS = {
    "tqc": {"num_critics": 3, "num_quantiles": 4, "num_dropped": 1},
    # So much that some of it is cut off.
    "td3": {"target_noise": 0.6},
}
every = pytest.mark.parametrize("name", EVERY)


def make(name, **settings):
    """An agent whose slower copies are others than its networks, so that taking the one for the other shows."""
    world = SWITCH if name == "discrete_sac" else ARM
    config = EVERY[name].Config(**SMALL | SETTINGS.get(name, {}) | settings)
    state, other = (EVERY[name].init(random.key(seed), config, world) for seed in (3, 4))
    state = tree.replace(state, params=state.params | {"critics": centred(state, state.params["critics"])})
    slow = other.target_params
    return tree.replace(state, target_params=slow | {"critics": centred(state, slow["critics"])})


def centred(state, critics):
    """The same critics, moved so that none of them is always the smallest."""
    obs = random.normal(random.key(6), (50, 3))
    unit = random.uniform(random.key(7), (50, 2), -1.0, 1.0)
    pair = obs if state.actions is None else (obs, unit)
    last = list(critics)[-1]
    middle = nets.ensemble.apply(state.critic, critics, pair).mean(dim=1)
    return critics | {last: critics[last] - middle}


def make_batch(name, seed=8):
    k_obs, k_next, k_reward, k_action, k_end = random.split(random.key(seed), 5)
    unit = random.uniform(k_action, (ROWS, 2), -1.0, 1.0)
    numbered = random.randint(k_action, (ROWS,), 0, 3)
    return ReplayBatch(
        obs=random.normal(k_obs, (ROWS, 3)),
        action=numbered
        if name == "discrete_sac"
        else torch.tensor([0.0, 5.0]) + torch.tensor([2.0, 5.0]) * unit,
        reward=random.normal(k_reward, (ROWS,)),
        discount=torch.where(random.bernoulli(k_end, 0.2, (ROWS,)), 0.0, 0.9),
        next_obs=random.normal(k_next, (ROWS, 3)),
        weight=1.0 / torch.arange(1.0, ROWS + 1.0),
    )


def wide(value):
    return tree.map(lambda x: x.to(torch.float64) if x.is_floating_point() else x, value)


class Naive:
    """The equations for one row at a time, with float64 parameters that autograd knows."""

    def __init__(self, name, state, batch):
        self.name, self.state, self.batch, self.config = name, state, wide(batch), wide(state.config)
        self.noise = [wide(random.normal(agent.draw_key(state, purpose), (ROWS, 2))) for purpose in range(2)]

    def actor(self, params, obs):
        return nets.apply(self.state.actor, params, obs.unsqueeze(0))[0]

    def critics(self, params, obs, unit):
        """What each critic puts out for one row, one after the other."""
        several = len(next(iter(params.values())))
        pair = obs.unsqueeze(0) if unit is None else (obs.unsqueeze(0), unit.unsqueeze(0))
        return [nets.apply(self.state.critic, tree.index(params, i), pair)[0] for i in range(several)]

    def unit(self, i):
        return (self.batch.action[i] - torch.tensor([0.0, 5.0])) / torch.tensor([2.0, 5.0])

    def squashed(self, params, obs, noise):
        """An action in ±1 and its log-density, by the change of variables as it stands in the paper."""
        mean, log_std = self.actor(params, obs).chunk(2)
        x = mean + torch.exp(log_std) * noise
        density = 0.0
        for d in range(2):
            density = density - 0.5 * noise[d] ** 2 - log_std[d] - 0.5 * math.log(2 * math.pi)
            density = density - torch.log(1 - torch.tanh(x[d]) ** 2)
        return torch.tanh(x), density

    def goal(self, i):
        """y of a row; for TQC all of them."""
        batch, state = self.batch, self.state
        params, slow = wide(state.params), wide(state.target_params)
        s, r, g = batch.next_obs[i], batch.reward[i], batch.discount[i]
        if self.name == "ddpg":
            return r + g * self.critics(slow["critics"], s, torch.tanh(self.actor(slow["actor"], s)))[0][0]
        if self.name == "td3":
            shift = (self.config.target_noise * self.noise[0][i]).clamp(-0.5, 0.5)
            a = (torch.tanh(self.actor(slow["actor"], s)) + shift).clamp(-1, 1)
            return r + g * min(q[0] for q in self.critics(slow["critics"], s, a))
        alpha = torch.exp(params["temperature"]["log"])
        if self.name == "discrete_sac":
            p = torch.softmax(self.actor(params["actor"], s), 0)
            first, second = self.critics(slow["critics"], s, None)
            return r + g * sum(p[a] * (min(first[a], second[a]) - alpha * torch.log(p[a])) for a in range(3))
        a, log_prob = self.squashed(params["actor"], s, self.noise[0][i])
        after = self.critics(slow["critics"], s, a)
        if self.name == "sac":
            return r + g * (min(q[0] for q in after) - alpha * log_prob)
        pooled = sorted(z for critic in after for z in critic)
        return [r + g * (z - alpha * log_prob) for z in pooled[: (4 - 1) * 3]]

    def critic_loss(self, params):
        total = 0.0
        for i in range(ROWS):
            y, w = self.goal(i), self.batch.weight[i]
            unit = None if self.name == "discrete_sac" else self.unit(i)
            for out in self.critics(params, self.batch.obs[i], unit):
                if self.name == "tqc":
                    for m, theta in enumerate(out):
                        level = (2 * (m + 1) - 1) / 8
                        for goal in y:
                            u = goal - theta
                            size = 0.5 * u**2 if abs(u) <= 1 else abs(u) - 0.5
                            total = total + w * abs(level - float(u < 0)) * size / (4 * len(y)) / ROWS
                else:
                    q = out[self.batch.action[i]] if self.name == "discrete_sac" else out[0]
                    total = total + w * 0.5 * (y - q) ** 2 / ROWS
        return total

    def actor_loss(self, params, critics):
        """With critics as they are after their step."""
        total, entropy = 0.0, 0.0
        for i in range(ROWS):
            s = self.batch.obs[i]
            if self.name in ("ddpg", "td3"):
                total = total - self.critics(critics, s, torch.tanh(self.actor(params, s)))[0][0] / ROWS
                continue
            alpha = torch.exp(wide(self.state.params["temperature"]["log"]))
            if self.name == "discrete_sac":
                p = torch.softmax(self.actor(params, s), 0)
                first, second = self.critics(critics, s, None)
                for a in range(3):
                    total = total + p[a] * (alpha * torch.log(p[a]) - min(first[a], second[a])) / ROWS
                    entropy = entropy - p[a] * torch.log(p[a]) / ROWS
                continue
            unit, log_prob = self.squashed(params, s, self.noise[1][i])
            out = self.critics(critics, s, unit)
            q = min(q[0] for q in out) if self.name == "sac" else torch.stack(out).mean()
            total, entropy = total + (alpha * log_prob - q) / ROWS, entropy - log_prob / ROWS
        return total, entropy


def gradient_norm(loss, params):
    grads = torch.autograd.grad(loss, list(params.values()))
    return math.sqrt(sum(float((g**2).sum()) for g in grads))


@every
@pytest.mark.parametrize("seed", [8, 9, 10])
def test_losses_and_gradients_are_those_of_the_paper(name, seed):
    state, batch = make(name), make_batch(name, seed)
    after = EVERY[name].update(state, batch)
    naive = Naive(name, state, batch)
    critics, actor = (
        tree.map(lambda x: x.requires_grad_(), wide(state.params[part])) for part in ("critics", "actor")
    )
    loss = naive.critic_loss(critics)
    actor_loss, entropy = naive.actor_loss(actor, wide(after.params["critics"]))
    expected = {
        "critic_loss": float(loss.detach()),
        "critic_grad_norm": gradient_norm(loss, critics),
        "actor_loss": float(actor_loss.detach()),
        "actor_grad_norm": gradient_norm(actor_loss, actor),
    }
    if name not in ("ddpg", "td3"):
        expected["entropy"] = float(entropy.detach())
    found = {figure: float(after.metrics[figure]) for figure in expected}
    assert found == pytest.approx(expected, rel=2e-4, abs=1e-5)


@every
def test_targets_go_a_share_of_the_way(name):
    state, batch = make(name, tau=0.25), make_batch(name)
    after = EVERY[name].update(state, batch)
    for part, slow in state.target_params.items():
        for path, leaf in slow.items():
            expected = 0.75 * leaf + 0.25 * after.params[part][path]
            assert torch.allclose(after.target_params[part][path], expected, atol=1e-6)


@every
def test_each_loss_moves_its_own_parameters_alone(name):
    """A step too small for float32 leaves what it belongs to; nothing else may move it."""
    batch = make_batch(name)
    same = lambda a, b: all(map(torch.equal, tree.leaves(a), tree.leaves(b)))
    for settings, still, moved in (
        ({"learning_rate": 1e-30, "actor_learning_rate": 1e-2}, "critics", "actor"),
        ({"learning_rate": 1e-2, "actor_learning_rate": 1e-30}, "actor", "critics"),
    ):
        state = make(name, **settings)
        after = EVERY[name].update(state, batch)
        assert same(after.params[still], state.params[still])
        assert not any(map(torch.equal, after.params[moved].values(), state.params[moved].values()))


@pytest.mark.parametrize(
    ("name", "wanted", "starts"),
    [("sac", -1.0, (1e-3, 2e-2)), ("tqc", 0.3, (1e-3, 2e-2)), ("discrete_sac", 0.7, (0.1, 1.0))],
)
def test_the_temperature_brings_the_entropy_to_what_is_wanted(name, wanted, starts):
    """Critics that stay as they are want one thing, more or less: how much of it is done the temperature decides."""
    rates = {"learning_rate": 1e-30, "actor_learning_rate": 2e-2, "adam_epsilon": 1e-5}
    states = [make(name, temperature=start, target_entropy=wanted, **rates) for start in starts]
    state, batch = tree.stack(states), make_batch(name)
    goal = wanted * (math.log(3) if name == "discrete_sac" else 2)
    late = []
    # Traced once, a step takes two thirds of the time.
    update = jit(torch.vmap(EVERY[name].update, in_dims=(0, None)), backend="aot_eager")
    for step in range(280):
        before, state = state, update(state, batch)
        rises = state.params["temperature"]["log"] > before.params["temperature"]["log"]
        # Adam's first step has the sign of the gradient; later ones have a memory.
        assert step > 0 or torch.equal(rises, state.metrics["entropy"] < goal)
        late += [state.metrics["entropy"]] * (step >= 200)
    assert torch.stack(late).mean(dim=0).tolist() == pytest.approx([goal, goal], abs=0.25)


@pytest.mark.parametrize("name", ["sac", "tqc", "discrete_sac"])
def test_a_temperature_that_is_not_learnt_stays(name):
    state = make(name, temperature=0.3, learn_temperature=False)
    after = EVERY[name].update(state, make_batch(name))
    assert float(after.metrics["temperature"]) == pytest.approx(0.3)
    # Settings count, whatever was learnt before: as for an agent that goes on with others.
    other = tree.replace(state, params=state.params | {"temperature": {"log": torch.zeros(())}})
    assert float(EVERY[name].update(other, make_batch(name)).metrics["temperature"]) == pytest.approx(0.3)
    assert torch.equal(after.params["temperature"]["log"], state.params["temperature"]["log"])


def test_densities_are_those_of_actions_in_the_unit_cube():
    """Where an environment's bounds lie does not change what entropy is worth."""
    state = make("sac")
    shifted = SimpleNamespace(observation_space=ARM.observation_space, action_space=spaces.Box(-1, 1, (2,)))
    other = sac.init(random.key(3), state.config, shifted)
    obs = random.normal(random.key(0), (4, 3))
    one, two = (soft.sampled(s, s.params["actor"], obs, random.key(1))[1] for s in (state, other))
    assert torch.equal(one, two)


def test_masked_actions_are_worth_nothing_to_the_soft_value():
    logits = torch.tensor([[0.0, -torch.inf, 0.0]])
    q = torch.tensor([[[1.0, 100.0, 3.0]], [[1.0, 100.0, 3.0]]])
    found = discrete_sac.soft_value(logits, q, torch.tensor(2.0))
    assert found.tolist() == pytest.approx([2.0 + 2.0 * math.log(2)])
