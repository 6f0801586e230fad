"""One agent as a plain torch module: what it needs to act, from observations to actions, and nothing of training."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from funcrl import envs
from funcrl.core import lanes, random, tree
from funcrl.core.checks import require
from funcrl.envs.normalisation import NormalizedState
from funcrl.ops.moments import Moments
from funcrl.train import acting


class Deployed(nn.Module):
    """What an agent does with observations, `forward(obs, key, carry) -> (action, carry)`.

    Its buffers are the agent's own tensors under their names. Where the environment normalised observations as
    its outermost change of them, it takes what the environment itself shows and normalises it by the moments
    that the agent has learnt with.
    """

    def __init__(
        self,
        algorithm: ModuleType,
        env: envs.AnyEnv,
        agent: Any,
        env_state: Any = None,
        *,
        sampling: bool = False,
    ) -> None:
        """Take what is needed from an agent.

        Args:
            algorithm: That it has learnt with.
            env: That it has learnt in, without values of its own for each lane.
            agent: Without a lane axis, on the CPU.
            env_state: `[N]` of its environments at the end of training, where these have moments.
            sampling: Whether it draws its actions, as while it learns, from the key that it is given.

        Raises:
            ValueError: When the environment normalises observations and changes them again after that.
        """
        super().__init__()
        self._policy = acting.learning(algorithm) if sampling else acting.greedy(algorithm)
        self.sampling = sampling
        self._agent = tree.map(tree.as_tensor, agent)
        self._norm = normalizer(env)
        self._moments: Moments | None = None
        if self._norm is not None:
            hold = "be given for an environment that normalises observations"
            require(env_state is not None, "export", "env_state", hold, None)
            self._moments = tree.index(_normalized(env_state).moments, 0)
        tensors = {f"agent{path}": x for path, x in tree.named_leaves(self._agent).items()}
        if self._moments is not None:
            tensors |= {f"moments{path}": x for path, x in tree.named_leaves(self._moments).items()}
        self.names = {f"t{number}": path for number, path in enumerate(tensors)}
        """of the buffers, by what torch allows as a name"""
        for name, path in self.names.items():
            self.register_buffer(name, tensors[path].detach().clone())

    def first_carry(self, count: int) -> Any:
        """Return what is remembered where episodes begin, `[count, ...]`; `()` for an agent without memory."""
        carry = self._policy.initial_carries(self._parts()[0], count)
        return tree.map(lambda x: x.detach().clone(), carry)

    def forward(self, obs: Any, key: Tensor, carry: Any) -> tuple[Any, Any]:
        """Return actions and what is remembered after them.

        Args:
            obs: `[B, ...]`.
            key: `[2]` int32; nothing depends on it where the best action is taken.
            carry: `[B, ...]`.
        """
        agent, moments = self._parts()
        if self._norm is not None and moments is not None:
            scaled = (obs.to(torch.float32) - moments.mean) / torch.sqrt(
                moments.variance + self._norm.epsilon
            )
            obs = torch.clamp(scaled, -self._norm.clip, self._norm.clip)
        carry = self._policy.remember(agent, obs, carry, key)
        action, _ = self._policy.act(agent, obs, key, carry)
        return action, carry

    def _parts(self) -> tuple[Any, Moments | None]:
        buffers = iter([getattr(self, name) for name in self.names])
        agent = tree.map(lambda _: next(buffers), self._agent)
        return agent, None if self._moments is None else tree.map(lambda _: next(buffers), self._moments)


def normalizer(env: Any) -> envs.NormalizeObservation | None:
    """Return what normalises the observations of an environment as their outermost change, if anything does.

    Raises:
        ValueError: When something changes them after that.
    """
    outside: Any = env
    while isinstance(outside, (envs.TimeLimit, envs.ScaleReward, envs.RepeatAction, envs.NormalizeReward)):
        outside = outside.env
    if isinstance(outside, envs.NormalizeObservation):
        return outside
    hold = "normalise observations last, where it does"
    instead = "Write --wrap normalize_observation behind the other wrappers, and train again."
    require(
        not envs.normalizes_observations(env),
        "export",
        "the environment",
        hold,
        type(outside).__name__,
        instead,
    )
    return None


def _normalized(state: Any) -> NormalizedState:
    """Return that part of an environment's state which knows the moments."""
    while not isinstance(state, NormalizedState):
        state = state.inner
    return state


def seen(env: Any, state: envs.EnvState) -> Any:
    """Return what a `Deployed` agent is to be shown of environments, `[N, ...]`."""
    return state.obs if normalizer(env) is None else _normalized(state.inner).raw


def play(
    act: Any, env: Any, num_episodes: int, seed: int, limit: int, env_state: Any = None, first_carry: Any = ()
) -> tuple[Tensor, list[Any], list[Any]]:
    """Let anything that acts play episodes side by side, of which the first of each counts.

    Args:
        act: `(obs, key, carry) -> (action, carry)`, as `Deployed`.
        env: On the device, of one lane.
        num_episodes: E.
        seed: Of the episodes.
        limit: Steps after which to give up.
        env_state: `[N]` of the training, where something of it outlives episodes.
        first_carry: `[E, ...]`.

    Returns:
        What the episodes earned, `[E]`, and what was seen and remembered before each step, `[E, ...]` each.
    """
    k_reset, k_steps = random.split(random.key(seed, "cpu"), 2)
    keys = random.split(k_reset, num_episodes)
    if env_state is None:
        state = envs.reset_all(env, keys)
    else:
        env = envs.frozen(env)
        before = tree.map(lambda x: x[:1].expand(num_episodes, *x.shape[1:]), env_state)
        state = envs.restart_all(env, before, keys)
    carry, begins = first_carry, first_carry
    returns = torch.zeros(num_episodes, dtype=torch.float32, device="cpu")
    over = torch.zeros(num_episodes, dtype=torch.bool, device="cpu")
    observations, carries = [], []
    for step in range(limit):
        obs = seen(env, state)
        observations.append(obs)
        carries.append(carry)
        k_act, k_step = random.split(random.fold_in(k_steps, step), 2)
        action, carry = act(obs, k_act, carry)
        state, found = envs.step_all(env, state, action, random.split(k_step, num_episodes))
        returns = torch.where(over, returns, returns + found.reward)
        ended = found.terminated | found.truncated
        over, carry = over | ended, tree.where(ended, begins, carry)
        if bool(over.all()):
            break
    return returns, observations, carries


def of_lane(env: Any, lane: int) -> Any:
    """Return the environment of one lane, with plain numbers."""
    if isinstance(env, envs.HostEnv):
        return env
    spread = lanes.Lanes(env)
    return spread.one([float(column[lane]) for column in spread.values]) if spread.values else env
