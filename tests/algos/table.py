"""The table of algorithms. A new one inherits every test of `test_contracts` by one line here.

Networks have no hidden layer but in one case of each family and where an algorithm asks for one: layers are
not theirs, and each is traced, vmapped and saved once more.

There are four kinds of algorithms, by what they learn from: windows of experience (`prepare`
makes batches of them), replayed experience, single steps, and a model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from types import ModuleType
from typing import Any

import torch

from funcrl import envs
from funcrl.algos import REGISTRY, planning, ppo
from funcrl.core import ReplayBatch, Transition, random, tree
from funcrl.train import acting
from funcrl.train.collect import act_and_step
from funcrl.train.online import act_and_learn
from funcrl.train.resolve import num_envs
from tests.probes import Lock


@dataclass(frozen=True, eq=False)
class Case:
    name: str
    config: Any
    env: Any
    other_integers: dict[str, int] = field(default_factory=dict)
    """other values of integer settings that change the update or the shape of its batch, all at once; none is 1"""
    draws: bool = True
    """whether the agent's first state depends on its key"""
    acts_by_key: bool = True
    """whether what it does depends on the key of the step"""
    variant: str = ""
    """what sets this case apart from another one of the same algorithm"""

    @property
    def id(self) -> str:
        return f"{self.name}-{self.variant}" if self.variant else self.name

    @property
    def precision(self) -> torch.dtype:
        """Of the settings inside a state."""
        return torch.float64 if isinstance(self, Planner) else torch.float32

    @property
    def algorithm(self) -> ModuleType:
        return REGISTRY[self.name]

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Of one action."""
        return () if isinstance(self, Planner) else self.env.action_space.shape

    def with_config(self, config: Any) -> Case:
        return replace(self, config=config)

    def init(self, seed: int = 0, config: Any = None) -> Any:
        return self.algorithm.init(random.key(seed), self.config if config is None else config, self.env)

    def act(self, state: Any, obs: Any, key: torch.Tensor) -> Any:
        """What it does in the first step of an episode, or of several."""
        return acting.learning(self.algorithm).act(state, obs, key, self._remembered(state, obs, key))

    def greedy(self, state: Any, obs: Any) -> Any:
        """What it thinks best there."""
        key = random.key(0)
        policy = acting.greedy(self.algorithm)
        return policy.act(state, obs, key, self._remembered(state, obs, key))[0]

    def _remembered(self, state: Any, obs: Any, key: torch.Tensor) -> Any:
        policy = acting.learning(self.algorithm)
        first = policy.initial_carry(state)
        if not tree.leaves(first):
            return first
        leading = obs.shape[: obs.ndim - len(self.env.observation_space.shape)]
        carry = tree.map(lambda x: x.expand(*leading, *x.shape), first)
        return policy.remember(state, obs, carry, key)

    def observations(self, count: int) -> Any:
        """What agents may see in `count` first steps, `[count, ...]`."""
        return envs.reset_all(self.env, random.split(random.key(7), count)).obs


class OnPolicy(Case):
    """Learns from windows."""

    @cache  # noqa: B019
    def window(self, seed: int = 0) -> Transition:
        """A short window of the untrained agent, [T, N, ...]."""
        state = self.init(seed)
        k_reset, *keys = random.split(random.key(100 + seed), 1 + self.config.window_length)
        running = envs.reset_all(self.env, random.split(k_reset, self.config.num_envs))
        policy, rows = acting.learning(self.algorithm), []
        carry = policy.initial_carries(state, self.config.num_envs)
        for key in keys:
            running, carry, row = act_and_step(policy, self.env, state, running, carry, key)
            rows.append(row.transition)
        return tree.stack(rows)

    def batch(self, seed: int = 0) -> Any:
        return self.algorithm.prepare(self.init(seed), self.window(seed))


class OffPolicy(Case):
    """Learns from replayed experience."""

    @cache  # noqa: B019
    def batch(self, seed: int = 0) -> ReplayBatch:
        """A batch of what the untrained agent did in its first steps; no two rows have the same weight."""
        state, size = self.init(seed), self.config.batch_size
        k_reset, *keys = random.split(random.key(100 + seed), 1 + size)
        running = envs.reset_all(self.env, random.split(k_reset, 1))
        policy, rows = acting.learning(self.algorithm), []
        carry = policy.initial_carries(state, 1)
        for key in keys:
            running, carry, row = act_and_step(policy, self.env, state, running, carry, key)
            rows.append(tree.index(row.transition, 0))
        steps = tree.stack(rows)
        return ReplayBatch(
            obs=steps.obs,
            action=steps.action,
            reward=steps.reward,
            discount=torch.where(steps.terminated, 0.0, 0.9),
            next_obs=steps.next_obs,
            weight=1.0 / torch.arange(1.0, size + 1.0),
        )


class Planner(Case):
    """Learns from a model, the process itself."""

    @property
    def algorithm(self) -> ModuleType:
        return planning.REGISTRY[self.name]

    def observations(self, count: int) -> torch.Tensor:
        return torch.arange(count) * 31 % self.env.num_states

    def batch(self, seed: int = 0) -> planning.Mdp:
        return self.env


class Online(Case):
    """Learns from each step as it comes."""

    @cache  # noqa: B019
    def batch(self, seed: int = 0) -> Transition:
        """What the untrained agent sees and does first: `[]`, or `[N]` where it has several environments."""
        k_reset, k_step = random.split(random.key(100 + seed), 2)
        running = envs.reset_all(self.env, random.split(k_reset, num_envs(self.config)))
        _, _, _, batch = act_and_learn(self.algorithm, self.env, self.init(seed), (running, ()), k_step)
        return batch


ON_POLICY = [
    OnPolicy(
        "ppo",
        ppo.Config(num_envs=3, window_length=8, num_minibatches=2, hidden=(8,), anneal_steps=4800.0),
        envs.make("CartPole-v1"),
        {"window_length": 12},
    ),
    *(
        OnPolicy(
            "ppo", ppo.Config(num_envs=3, window_length=8, num_minibatches=2, hidden=()), env, variant=kind
        )
        for kind, env in (("box", envs.make("Pendulum-v1")), ("multi_discrete", Lock()))
    ),
    OnPolicy(
        "ppo",
        ppo.Config(
            num_envs=2,
            window_length=8,
            num_minibatches=2,
            hidden=(),
            kl_control="stop",
            target_kl=1e-4,
            action_noise="state_dependent",
        ),
        envs.make("Pendulum-v1"),
        variant="stop",
    ),
    OnPolicy(
        "ppo",
        ppo.Config(
            num_envs=3,
            window_length=6,
            num_minibatches=2,
            hidden=(),
            recurrent_cell="gru",
            recurrent_size=8,
            sequence_length=3,
        ),
        envs.make("PositionOnlyCartPole-v0"),
        variant="gru",
    ),
    OnPolicy(
        "a2c",
        REGISTRY["a2c"].Config(
            num_envs=3,
            window_length=4,
            hidden=(),
            recurrent_cell="lstm",
            recurrent_size=8,
            sequence_length=4,
        ),
        envs.make("PositionOnlyCartPole-v0"),
        variant="lstm",
    ),
    *(
        OnPolicy(
            name,
            REGISTRY[name].Config(num_envs=3, hidden=(), anneal_steps=4800.0, **settings),
            envs.make("CartPole-v1"),
        )
        for name, settings in (
            ("a2c", {"window_length": 8}),
            ("reinforce", {"window_length": 24}),
        )
    ),
    OnPolicy(
        "impala",
        REGISTRY["impala"].Config(num_envs=4, window_length=6, hidden=(), anneal_steps=4800.0, clip_rho=1.2),
        envs.make("CartPole-v1"),
    ),
    OnPolicy(
        "pqn",
        REGISTRY["pqn"].Config(
            num_envs=3,
            window_length=8,
            num_minibatches=2,
            hidden=(8,),
            anneal_steps=4800.0,
            exploration_steps=2400.0,
        ),
        envs.make("CartPole-v1"),
        {},
    ),
]

_SMALL = {
    "batch_size": 8,
    "hidden": (8,),
    "target_period": 1,
    "anneal_steps": 4800.0,
    "exploration_steps": 100.0,
}

OFF_POLICY = [
    OffPolicy(
        name,
        REGISTRY[name].Config(**_SMALL | {"hidden": hidden}),
        envs.make("CartPole-v1"),
        {"target_period": 3, "batch_size": 6} if name == "dqn" else {},
    )
    for name, hidden in (("dqn", ()), ("double_dqn", ()), ("dueling_dqn", (8, 8)))
]

# Integers that are those of `dqn` are tried there alone.
OFF_POLICY += [
    OffPolicy(name, REGISTRY[name].Config(**_SMALL | settings), envs.make("CartPole-v1"), other)
    for name, settings, other in (
        ("c51", {"num_atoms": 5, "hidden": ()}, {}),
        ("qr_dqn", {"num_quantiles": 5, "hidden": ()}, {}),
        # So much noise that it shows in the actions of a network of this size.
        ("rainbow", {"num_atoms": 5, "noise_scale": 4.0, "hidden": (8, 8)}, {}),
    )
]

_ACTOR_CRITIC = {"batch_size": 8, "hidden": (8,), "anneal_steps": 4800.0, "warmup_steps": 0}

OFF_POLICY += [
    OffPolicy(
        name,
        REGISTRY[name].Config(**_ACTOR_CRITIC | settings),
        envs.make("CartPole-v1" if name == "discrete_sac" else "Pendulum-v1"),
        other,
    )
    for name, settings, other in (
        ("ddpg", {"hidden": ()}, {}),
        # The update that moves the actor too is each that is the first of a run.
        ("td3", {"hidden": ()}, {"policy_delay": 3}),
        ("sac", {"actor_learning_rate": 1e-3}, {}),
        ("tqc", {"num_critics": 3, "num_quantiles": 5, "hidden": ()}, {}),
        ("discrete_sac", {"hidden": ()}, {}),
    )
]

OFF_POLICY.append(
    OffPolicy(
        "sac",
        REGISTRY["sac"].Config(**_ACTOR_CRITIC, action_noise="smooth"),
        envs.make("Pendulum-v1"),
        acts_by_key=False,
        variant="smooth",
    )
)

_CLIFF = envs.make("CliffWalking-v1")
_COINS = envs.BernoulliBandit(means=(0.2, 0.6, 0.2))
_NORMAL = envs.GaussianBandit(num_arms=3)
_IMAGES = envs.make("DigitsBandit-v0")

ONLINE = [
    Online(
        "actor_critic",
        REGISTRY["actor_critic"].Config(num_envs=3, hidden=(), anneal_steps=4800.0, weigh_by_discount=True),
        envs.make("CartPole-v1"),
    ),
    Online("boltzmann", REGISTRY["boltzmann"].Config(), _COINS, draws=False),
    Online("decaying_epsilon", REGISTRY["decaying_epsilon"].Config(), _COINS, draws=False),
    Online("epsilon_greedy", REGISTRY["epsilon_greedy"].Config(), _NORMAL, draws=False),
    Online("gradient_bandit", REGISTRY["gradient_bandit"].Config(), _NORMAL, draws=False),
    Online("optimistic", REGISTRY["optimistic"].Config(epsilon=0.1), _NORMAL, draws=False),
    Online("thompson_beta", REGISTRY["thompson_beta"].Config(), _COINS, draws=False),
    Online("thompson_gaussian", REGISTRY["thompson_gaussian"].Config(), _NORMAL, draws=False),
    Online("ucb", REGISTRY["ucb"].Config(), _COINS, draws=False),
    Online("linucb", REGISTRY["linucb"].Config(num_envs=3), _IMAGES, {"num_envs": 2}, draws=False),
    *(
        Online(
            name,
            REGISTRY[name].Config(num_envs=4, batch_size=8, memory_size=64, channels=(4,), hidden=hidden),
            _IMAGES,
            other,
        )
        for name, hidden, other in (
            ("neural_epsilon_greedy", (), {"num_envs": 5, "memory_size": 70, "batch_size": 6}),
            ("neural_thompson", (8,), {}),
        )
    ),
    *(
        Online(
            name,
            REGISTRY[name].Config(exploration_steps=100.0, anneal_steps=1000.0, **settings),
            _CLIFF,
            draws=False,
        )
        for name, settings in (
            *((name, {}) for name in ("q_learning", "sarsa", "expected_sarsa", "double_q_learning")),
            ("n_step_sarsa", {}),
            # Each planned step is the same code again.
            ("dyna_q", {"num_imagined": 2}),
        )
    ),
]

PLANNERS = [
    Planner(name, planning.REGISTRY[name].Config(), planning.Mdp.from_env(_CLIFF), draws=False)
    for name in ("policy_evaluation", "policy_iteration", "value_iteration", "modified_policy_iteration")
]

CASES = [*ON_POLICY, *OFF_POLICY, *ONLINE, *PLANNERS]


def lanes(case: Case, num: int = 3) -> tuple[Any, Any]:
    """States and batches of several seeds, lane axis first."""
    states = tree.stack([case.init(seed) for seed in range(num)])
    batches = tree.stack([case.batch(seed) for seed in range(num)])
    return tree.map(torch.clone, states), batches
