"""Measuring what agents can do."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl import envs
from funcrl.core import checks, lanes, random, tree
from funcrl.core.checks import require
from funcrl.train.collect import Collector, Policy
from funcrl.train.host_collect import HostCollector
from funcrl.train.resolve import resolve_algorithm, resolve_env

_WINDOW = 100


def evaluate(
    algorithm: str | ModuleType,
    env: str | envs.AnyEnv,
    states: Any,
    *,
    num_episodes: int = 20,
    seed: int = 0,
    max_steps: int | None = None,
    greedy: bool = True,
    env_states: Any = None,
    backend: str = "inductor",
) -> Tensor:
    """Return what each lane's agent earns in episodes of its own.

    The episodes run side by side, each in an environment of its own, and only the first episode
    of each counts: stopping when enough have ended would favour the short ones.

    Args:
        algorithm: Name or module.
        env: Name or environment; a float field may hold one value a lane.
        states: The algorithm's states, lane axis first, for example `result.states`.
        num_episodes: Episodes of each lane.
        seed: Seed of the episodes, the same ones for every lane: 0 or more.
        max_steps: Where to give up on episodes that do not end; `env.max_episode_steps` by default.
            Such an episode counts with what it has earned so far.
        greedy: Take the best action; draw from the policy otherwise.
        env_states: `result.env_states` of the training, for an environment that normalises by
            running moments (those of the training are used, and no longer changed), or for a bandit
            whose arms were drawn for each lane.
        backend: See `train`.

    Returns:
        `[S, num_episodes]` undiscounted returns, on the states' device.

    Raises:
        ValueError: When a number is out of range, or no limit of steps is known.

    >>> from funcrl.algos import ppo
    >>> env = envs.make("CartPole-v1", max_episode_steps=10)
    >>> states = tree.stack([ppo.init(random.key(0), ppo.Config(), env)])
    >>> evaluate("ppo", env, states, num_episodes=2, backend="eager").shape
    torch.Size([1, 2])
    """
    algorithm = resolve_algorithm("evaluate", algorithm)
    world = resolve_env("evaluate", env)
    checks.integer("evaluate", "num_episodes", num_episodes, 1)
    checks.integer("evaluate", "seed", seed, 0)
    _check_states(algorithm, states)
    limit = world.max_episode_steps if max_steps is None else max_steps
    require(
        limit is not None,
        "evaluate",
        "max_steps",
        "be given for an environment without a time limit",
        max_steps,
        "Write max_steps=1000.",
    )
    checks.integer("evaluate", "max_steps", limit, 1)
    assert limit is not None

    policy = greedy_policy(algorithm) if greedy else algorithm.act
    if isinstance(world, envs.HostEnv):
        return _first_episodes_on_host(policy, world, states, num_episodes, seed, limit, backend)
    if env_states is None:
        drawn = getattr(envs.innermost(world), "is_drawn_once", False)
        what = "drew its arms once" if drawn else "normalises observations by what it has seen"
        hold = f"be given for an environment that {what}"
        require(
            not needs_env_states(world),
            "evaluate",
            "env_states",
            hold,
            None,
            "Write env_states=result.env_states.",
        )
    else:
        _check_env_states(states, env_states, world)
        world = envs.frozen(world)
    _check_fit(algorithm, policy, states, world)
    return _first_episodes(policy, world, states, env_states, num_episodes, seed, limit, backend)


def greedy_policy(algorithm: ModuleType) -> Policy:
    """Return what takes an algorithm's best action."""

    def best(agent: Any, obs: Any, key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return algorithm.greedy(agent, obs), {}

    return best


def needs_env_states(env: Any) -> bool:
    """Return whether episodes of an environment begin with something that its training has left."""
    drawn = getattr(envs.innermost(env), "is_drawn_once", False)
    return bool(drawn) or envs.normalizes_observations(env)


def _check_states(algorithm: ModuleType, states: Any) -> None:
    name = algorithm.__name__.rpartition(".")[2]
    if not isinstance(states, algorithm.State):
        raise TypeError(
            f"evaluate: states must be a {name}.State with a lane axis, got {type(states).__name__}. "
            "Write result.states."
        )
    if not isinstance(states.config, algorithm.Config):
        other = type(states.config).__module__.rpartition(".")[2]
        raise TypeError(f"evaluate: states must be of {name}, got those of {other}. Write {other!r}.")
    lanes = {leaf.shape[:1] for leaf in tree.leaves(states)}
    require(
        len(lanes) == 1 and lanes != {()} and lanes != {(0,)},
        "evaluate",
        "states",
        "have a lane axis in front of every tensor",
        f"tensors that begin with {sorted(tuple(shape) for shape in lanes)}",
        "Write tree.stack([state]) for a single state.",
    )


def _check_fit(algorithm: ModuleType, policy: Policy, states: Any, env: envs.Env) -> None:
    """Compare an agent with a new one of this environment, and let it act once.

    Where it has learnt in another environment, or with another algorithm, that shows here.
    """
    first, agent = lanes.first(env), tree.index(states, 0)
    k_init, k_reset, k_act = random.split(random.key(0, tree.leaves(states)[0].device), 3)
    hold = f"be agents for observations in {first.observation_space} and actions in {first.action_space}"
    instead = "Give the environment and the algorithm that they were trained with."
    try:
        new = algorithm.init(k_init, agent.config, first)
        shapes = [{name: tuple(x.shape) for name, x in tree.named_leaves(s).items()} for s in (agent, new)]
        policy(agent, envs.reset(first, k_reset).obs, k_act)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"evaluate: states must {hold}, got {reason!r}. {instead}") from error
    given, needed = shapes
    other = [name for name in given.keys() | needed if given.get(name) != needed.get(name)]
    found = ", ".join(f"{name} {given.get(name)} for {needed.get(name)}" for name in sorted(other)[:3])
    require(not other, "evaluate", "states", hold, found, instead)


def _check_env_states(states: Any, env_states: Any, env: envs.Env) -> None:
    num_lanes = tree.leaves(states)[0].shape[0]
    if isinstance(env_states, envs.EnvState):
        wanted = tree.named_leaves(envs.reset(lanes.first(env), random.key(0, "cpu")))
        given = tree.named_leaves(env_states)
        same = {name: tuple(leaf.shape) for name, leaf in wanted.items()} == {
            name: tuple(leaf.shape[2:]) for name, leaf in given.items()
        }
        hold = "be of the environment that is evaluated"
        require(same, "evaluate", "env_states", hold, list(given), "Write result.env_states.")
    found = env_states.episode_length.shape[:1] if isinstance(env_states, envs.EnvState) else type(env_states)
    require(
        found == (num_lanes,),
        "evaluate",
        "env_states",
        f"be environments of {num_lanes} lanes",
        found,
        "Write result.env_states.",
    )


def _first_episodes(
    policy: Policy,
    env: envs.Env,
    states: Any,
    env_states: Any,
    num_episodes: int,
    seed: int,
    limit: int,
    backend: str,
) -> Tensor:
    return Evaluation(policy, env, states, env_states, num_episodes, seed, limit, backend)(env_states)


class Evaluation:
    """Programs with which lanes play the same episodes again and again, while what plays is changed in place."""

    def __init__(
        self,
        policy: Policy,
        env: envs.Env,
        states: Any,
        env_states: Any,
        num_episodes: int,
        seed: int,
        limit: int,
        backend: str,
        values: list[Tensor] | None = None,
    ) -> None:
        """Trace and compile.

        Args:
            policy: What chooses the actions.
            env: The environment; one that normalises, `envs.frozen`.
            states: `[S]` of the algorithm; only read.
            env_states: `[S, N]` of the training, of which episodes take the moments; None where nothing
                outlives an episode.
            num_episodes: Of each lane.
            seed: Of the episodes.
            limit: Steps after which to give up on one.
            backend: See `jit`.
            values: `[S]` each, the numbers in which the lanes' environments differ, where others write
                them; those of `env` by default.
        """
        device, num_lanes = tree.leaves(states)[0].device, tree.leaves(states)[0].shape[0]
        k_reset, k_steps = random.split(random.key(seed, device), 2)
        self._own = lanes.Lanes(lanes.spread("evaluate", "env", env, num_lanes))
        own = [column.to(device) for column in self._own.values]
        self._values = own if values is None else values
        self._keys = random.split(k_reset, num_episodes).expand(num_lanes, num_episodes, 2)
        running = self._begin(env_states)
        self._running = tree.map(lambda x: torch.clone(x, memory_format=torch.contiguous_format), running)
        self._count = torch.zeros(num_lanes, dtype=torch.int32, device=device)
        self._num_episodes, self._limit = num_episodes, limit
        key, length = k_steps.expand(num_lanes, 2).clone(), min(limit, _WINDOW)
        given = (self._own, self._values, states, self._running, key, self._count, length, backend)
        self._collect = Collector(policy, *given)
        self.programs = self._collect.programs

    def __call__(self, env_states: Any) -> Tensor:
        """Return what each lane's agent, as it is now, earns in its episodes, `[S, num_episodes]`."""
        tree.map(lambda here, new: here.copy_(new), self._running, self._begin(env_states))
        self._count.zero_()
        return _first_returns(self._collect, self._count, self._num_episodes, self._limit)

    def _begin(self, env_states: Any) -> envs.EnvState:
        def begin(values: list[Tensor], keys: Tensor, before: Any) -> envs.EnvState:
            if before is None:
                return envs.reset_all(self._own.one(values), keys)
            # All environments of a lane hold the same moments; those of the first serve all episodes.
            kept = tree.index(before, 0)
            return torch.vmap(lambda key: envs.restart(self._own.one(values), kept, key))(keys)

        in_dims = (0, 0, None if env_states is None else 0)
        return torch.vmap(begin, in_dims=in_dims)(self._values, self._keys, env_states)


def _first_episodes_on_host(
    policy: Policy, env: envs.HostEnv, states: Any, num_episodes: int, seed: int, limit: int, backend: str
) -> Tensor:
    device = tree.leaves(states)[0].device
    num_lanes = tree.leaves(states)[0].shape[0]
    world = envs.HostVector(dataclasses.replace(env, num_envs=None), num_lanes, num_episodes)
    key = random.key(seed, device).expand(num_lanes, 2).clone()
    count = torch.zeros(num_lanes, dtype=torch.int32, device=device)
    collect = HostCollector(policy, world, states, key, count, min(limit, _WINDOW), backend)
    collect.reset([seed] * num_lanes)
    try:
        return _first_returns(collect, count, num_episodes, limit)
    finally:
        world.close()


def _first_returns(
    collect: Collector | HostCollector, count: Tensor, num_episodes: int, limit: int
) -> Tensor:
    """Return what the first episode of each environment earned, `[S, num_episodes]`."""
    num_lanes, device = count.shape[0], count.device
    returns = torch.zeros(num_lanes, num_episodes, dtype=torch.float32, device=device)
    over = torch.zeros_like(returns, dtype=torch.bool)
    for step in range(0, limit, _WINDOW):
        window = collect()
        count += 1
        for row in range(min(_WINDOW, limit - step)):
            returns = torch.where(over, returns, window.episode_return[row])
            over = over | window.ended[row]
        if bool(over.all()):
            break
    return returns
