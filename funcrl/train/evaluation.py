"""Measuring what agents can do."""

from __future__ import annotations

import contextlib
from types import ModuleType
from typing import Any

from torch import Tensor

from funcrl import envs, nets
from funcrl.core import checks, lanes, random, tree
from funcrl.core.checks import require
from funcrl.train import acting
from funcrl.train.acting import Policy
from funcrl.train.episodes import DeviceEpisodes, HostEpisodes, needs_env_states
from funcrl.train.learnt import check_env_states, check_states
from funcrl.train.resolve import resolve_algorithm, resolve_env


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
    backend: str = "aot_eager",
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
        backend: `"aot_eager"` starts at once; `"inductor"` compiles, which pays where many long episodes
            are played again and again.

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
    episodes = make_episodes(
        "evaluate",
        algorithm,
        env,
        states,
        num_episodes=num_episodes,
        seed=seed,
        max_steps=max_steps,
        greedy=greedy,
        env_states=env_states,
        backend=backend,
    )
    with contextlib.closing(episodes):
        return episodes()


def make_episodes(
    function: str,
    algorithm: str | ModuleType,
    env: str | envs.AnyEnv,
    states: Any,
    *,
    num_episodes: int,
    seed: int,
    max_steps: int | None,
    greedy: bool,
    env_states: Any,
    backend: str,
) -> DeviceEpisodes | HostEpisodes:
    """Return what `evaluate` plays, ready to be played, after checking what it is given.

    It takes what `evaluate` takes, and `function`, who complains.
    """
    algorithm = resolve_algorithm(function, algorithm)
    world = resolve_env(function, env)
    checks.integer(function, "num_episodes", num_episodes, 1)
    checks.integer(function, "seed", seed, 0)
    check_states(function, "states", algorithm, states)
    limit = world.max_episode_steps if max_steps is None else max_steps
    require(
        limit is not None,
        function,
        "max_steps",
        "be given for an environment without a time limit",
        max_steps,
        "Write max_steps=1000.",
    )
    checks.integer(function, "max_steps", limit, 1)
    assert limit is not None

    policy = acting.greedy(algorithm) if greedy else acting.learning(algorithm)
    if isinstance(world, envs.HostEnv):
        seen = nets.inputs.example(world.observation_space, device=tree.leaves(states)[0].device)
        _check_fit(function, algorithm, policy, states, world, seen)
        return HostEpisodes(policy, world, states, num_episodes, seed, limit, backend)
    world = _with_what_is_kept(function, world, states, env_states)
    first = lanes.first(world)
    key = random.key(0, tree.leaves(states)[0].device)
    _check_fit(function, algorithm, policy, states, first, envs.reset(first, key).obs)
    return DeviceEpisodes(policy, world, states, env_states, num_episodes, seed, limit, backend)


def _with_what_is_kept(function: str, world: envs.Env, states: Any, env_states: Any) -> envs.Env:
    """Return an environment that no longer changes what it has learnt, after checking that it is there."""
    if env_states is None:
        drawn = getattr(envs.innermost(world), "is_drawn_once", False)
        what = "drew its arms once" if drawn else "normalises observations by what it has seen"
        hold = f"be given for an environment that {what}"
        require(
            not needs_env_states(world),
            function,
            "env_states",
            hold,
            None,
            "Write env_states=result.env_states.",
        )
        return world
    check_env_states(function, "env_states", states, env_states, world)
    return envs.frozen(world)


def _check_fit(
    function: str, algorithm: ModuleType, policy: Policy, states: Any, env: envs.AnyEnv, obs: Any
) -> None:
    """Compare an agent with a new one of this environment, and let it act once on an observation.

    Where it has learnt in another environment, or with another algorithm, that shows here.
    """
    agent = tree.index(states, 0)
    k_init, k_act = random.split(random.key(0, tree.leaves(states)[0].device), 2)
    hold = f"be agents for observations in {env.observation_space} and actions in {env.action_space}"
    instead = "Give the environment and the algorithm that they were trained with."
    try:
        new = algorithm.init(k_init, agent.config, env)
        shapes = [{name: tuple(x.shape) for name, x in tree.named_leaves(s).items()} for s in (agent, new)]
        policy.act(agent, obs, k_act, policy.remember(agent, obs, policy.initial_carry(agent), k_act))
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{function}: states must {hold}, got {reason!r}. {instead}") from error
    given, needed = shapes
    other = [name for name in given.keys() | needed if given.get(name) != needed.get(name)]
    found = ", ".join(f"{name} {given.get(name)} for {needed.get(name)}" for name in sorted(other)[:3])
    require(not other, function, "states", hold, found, instead)
