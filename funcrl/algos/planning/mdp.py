"""Markov decision processes with finitely many states and actions, written down as tensors."""

from __future__ import annotations

import functools
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from funcrl.algos.planning import reading
from funcrl.algos.planning.reading import Tables
from funcrl.core import random, tree
from funcrl.core.checks import integer, number


@tree.struct
class Mdp:
    """A Markov decision process of S states and A actions: all that a planner knows.

    Everything is float64: with γ near 1 an error of 1e-8 in a probability is one of 1e-5 in a value.
    Several processes of one size are one `Mdp` with a lane axis in front of every field. Make one
    with `from_tensors`, `from_gymnasium`, `from_env` or `random`, which check what they are given.

    A time limit is not part of a process: planning takes episodes to go on until they terminate.
    """

    transition: Tensor
    """`[S, A, S]` P(s' | s, a), outcomes that end the episode included"""
    terminated: Tensor
    """`[S, A, S]` the part of P(s' | s, a) with which the episode ends on reaching s'"""
    reward: Tensor
    """`[S, A]` expected reward r(s, a)"""
    initial: Tensor
    """`[S]` distribution of the state in which an episode begins"""

    @property
    def num_states(self) -> int:
        """S."""
        return int(self.transition.shape[-1])

    @property
    def num_actions(self) -> int:
        """A."""
        return int(self.transition.shape[-2])

    @property
    def num_lanes(self) -> int | None:
        """L where there is a lane axis, None where there is none."""
        return int(self.transition.shape[0]) if self.transition.ndim == 4 else None

    @property
    def observation_space(self) -> spaces.Discrete:
        """The number of the state."""
        return _discrete(self.num_states)

    @property
    def action_space(self) -> spaces.Discrete:
        """The number of the action."""
        return _discrete(self.num_actions)

    @property
    def continuing(self) -> Tensor:
        """`[S, A, S]` the probability of reaching s' and going on from there."""
        return self.transition - self.terminated

    @classmethod
    def from_tensors(cls, transition: Any, reward: Any, terminated: Any = None, initial: Any = None) -> Mdp:
        """Return the process with these tables, which may be lists, arrays or tensors.

        Rows may miss the sum of one by 1e-6, as float32 does, and are divided by their sum.
        Often wrong: marking as terminated the states from which nothing follows. What is marked is
        the outcome that ends the episode, whose reward still counts.

        Args:
            transition: `[S, A, S]` P(s' | s, a), or `[L, S, A, S]` for L processes; then each of the
                others may have the axis L too, and is shared where it has not.
            reward: `[S, A]` expected reward, or `[S, A, S]` reward of each outcome.
            terminated: None: no outcome ends the episode. `[S]` boolean: reaching such a state does.
                `[S, A, S]`: each outcome does, or does not, or with this probability.
            initial: `[S]` distribution of the first state; uniform by default.

        Raises:
            ValueError: When shapes do not match, or numbers cannot be.

        >>> Mdp.from_tensors([[[0.5, 0.4]], [[0.0, 1.0]]], [[1.0], [0.0]])
        Traceback (most recent call last):
        ValueError: Mdp.from_tensors: transition[0, 0] must sum to one, got 0.9. This is the row of state 0 and action 0.
        """
        return _of(reading.from_tensors("Mdp.from_tensors", transition, reward, terminated, initial))

    @classmethod
    def from_gymnasium(cls, env: Any) -> Mdp:
        """Return the process behind one of Gymnasium's environments that has its table in `P`.

        Args:
            env: An environment whose `unwrapped.P[state][action]` lists the outcomes as
                (probability, next state, reward, terminated); `initial_state_distrib` beside it is
                the distribution of the first state, uniform where there is none.

        Raises:
            TypeError: When it has no table.
            ValueError: When the table has gaps, or numbers that cannot be.

        >>> import gymnasium
        >>> Mdp.from_gymnasium(gymnasium.make("CliffWalking-v1")).transition.shape
        torch.Size([48, 4, 48])
        """
        return _of(reading.from_gymnasium("Mdp.from_gymnasium", env))

    @classmethod
    def from_env(cls, env: Any) -> Mdp:
        """Return the process behind an environment that lists its outcomes.

        The states are the environment's positions. They need not be what its agents see: a planner
        knows where it is.

        Args:
            env: An environment with `num_states`, a Discrete `action_space`,
                `outcomes(position, action, dtype)` and `initial_distribution(dtype)`, see
                `funcrl.envs.tabular`. Where its floats hold several numbers, there is a process for
                each.

        Raises:
            TypeError: When it lacks one of these.
            ValueError: When numbers cannot be.
        """
        return _of(reading.from_env("Mdp.from_env", env))

    @classmethod
    def random(
        cls,
        key: Tensor,
        num_states: int,
        num_actions: int,
        branching: int | None = None,
        termination: float | Tensor = 0.0,
    ) -> Mdp:
        """Return a random process ("Garnet"), a pure function of the key that `vmap` takes.

        Each state and action leads to `branching` different states with probabilities that are
        uniform on the simplex; expected rewards are standard normal; episodes begin anywhere.

        Source: Archibald, McKinnon & Thomas 1995, "On the generation of Markov decision processes".

        Args:
            key: `[2]` int32.
            num_states: S.
            num_actions: A.
            branching: Number of possible next states; all S by default.
            termination: Probability with which any step ends the episode.

        >>> Mdp.random(random.key(0), 5, 2, branching=1).transition.amax(-1).unique()
        tensor([1.], dtype=torch.float64)
        """
        branching = num_states if branching is None else branching
        arguments = {"num_states": num_states, "num_actions": num_actions, "branching": branching}
        for name, value in arguments.items():
            integer("Mdp.random", name, value, 1)
        number("Mdp.random", "branching", branching, 1, num_states)
        number("Mdp.random", "termination", termination, 0, 1)
        k_weight, k_order, k_reward = random.split(key, 3)
        shape = (num_states, num_actions, num_states)
        # Exponential numbers divided by their sum are uniform on the simplex.
        weight = -torch.log1p(-random.uniform(k_weight, shape).double())
        rank = random.uniform(k_order, shape).argsort(dim=-1).argsort(dim=-1)
        weight = torch.where(rank < branching, weight + torch.finfo(torch.float64).tiny, 0.0)
        transition = weight / weight.sum(dim=-1, keepdim=True)
        return cls(
            transition=transition,
            terminated=transition * termination,
            reward=random.normal(k_reward, shape[:2]).double(),
            initial=torch.full((num_states,), 1 / num_states, dtype=torch.float64, device=key.device),
        )


@functools.cache
def _discrete(size: int) -> spaces.Discrete:
    return spaces.Discrete(size)


def _of(tables: Tables) -> Mdp:
    return Mdp(*tables)
