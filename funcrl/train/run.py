"""What all training loops share: lanes that are begun, stepped, copied, put back and replaced.

A loop is a `Run`: it holds everything that goes from one iteration to the next in buffers that
never move, and one iteration is a fixed row of calls of compiled programs over them.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl import envs
from funcrl.core import checks, jit, lanes, random, tree
from funcrl.core.checks import require
from funcrl.train.evaluation import Evaluation, greedy_policy, needs_env_states
from funcrl.train.resolve import resolve_algorithm, resolve_config, resolve_env

_EVALUATION_SEED = 2**63
"""Of the episodes that agents play while they are trained: of none that people train with."""


@tree.struct
class Carry:
    """All that goes from one iteration to the next, lane axis first."""

    agent: Any
    """`[S]` states of the algorithm"""
    envs: envs.EnvState | tuple[()]
    """`[S, N]`; nothing where the environments run on the host, which nothing can put back"""
    env_values: list[Tensor]
    """`[S]` each: the numbers in which the lanes' environments differ"""
    collect_key: Tensor
    """`[S, 2]` int32; iteration i acts and steps with `fold_in(collect_key, i)`"""
    learn_key: Tensor
    """`[S, 2]` int32; iteration i learns with `fold_in(learn_key, i)`"""
    iteration: Tensor
    """`[S]` int32, number of iterations so far"""
    last_return: Tensor
    """`[S]` float32, mean return of the episodes that ended last; NaN before the first"""
    memory: Any
    """`[S]` what this kind of loop remembers beside; `()` where it is nothing"""


@tree.struct
class Report:
    """What one iteration showed, one figure a lane."""

    returns: Tensor
    """`[S]` mean return of the episodes that ended; the last value where none did, NaN before"""
    episodes: Tensor
    """`[S]` float32, number of episodes that ended"""
    metrics: dict[str, Tensor]
    """`[S]` each, of the last update, and what the loop itself measures"""


class Run(abc.ABC):
    """Training that can be taken one iteration at a time."""

    steps_per_iteration: int
    """environment steps that one iteration takes in each lane"""

    def __init__(
        self,
        algorithm: str | ModuleType,
        env: str | envs.AnyEnv,
        config: Any,
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        backend: str = "inductor",
    ) -> None:
        """Make the lanes; programs are compiled by `compile`, or by the first `iterate`.

        Args:
            algorithm: Name or module, of the kind that this loop trains.
            env: The environment of every lane; a float field may hold one value a lane.
            config: Its settings; a float may be a list or a tensor `[S]`, one value a lane.
            seeds: One lane each.
            device: Where everything lives.
            backend: See `jit`.
        """
        here = type(self).__name__
        self.algorithm = resolve_algorithm(here, algorithm)
        self.env = resolve_env(here, env)
        self.device = checks.device(here, device)
        self.backend = backend
        self.config, carry = self._begin(seeds, config)
        self._carry = tree.map(lambda x: torch.clone(x, memory_format=torch.contiguous_format), carry)
        self._seeds = tuple(seeds)
        self._episodes = torch.zeros_like(self._carry.last_return)
        self._iterate: Callable[[], None] | None = None
        self._programs: list[jit.Jit] = []
        self._count = 0
        """iterations done, as the carry says too"""
        self._evaluated: Tensor | None = None
        self._prepare_evaluation: Callable[[], Callable[[], None]] | None = None
        self._evaluate: Callable[[], None] | None = None

    @property
    def carry(self) -> Carry:
        """A copy of everything that the next iteration depends on."""
        return tree.map(torch.clone, self._carry)  # type: ignore[no-any-return]

    @property
    def agent(self) -> Any:
        """A copy of the algorithm's states, lane axis first."""
        return tree.map(torch.clone, self._carry.agent)

    @property
    def env_states(self) -> Any:
        """A copy of the environments' states, `[S, N]`; `()` where they run on the host."""
        return tree.map(torch.clone, self._carry.envs)

    @property
    def num_graphs(self) -> int:
        """Number of programs compiled so far; it does not grow after the first iteration."""
        return sum(program.num_graphs for program in self._programs)

    @property
    def report(self) -> Report:
        """The figures of the last iteration, in tensors of their own; of no meaning before the first."""
        metrics = self._metrics()
        if self._evaluated is not None:
            metrics = {**metrics, "evaluation_return": self._evaluated}
        figures = Report(self._carry.last_return, self._episodes, metrics)
        return tree.map(torch.clone, figures)  # type: ignore[no-any-return]

    def evaluate_every(self, iterations: int, num_episodes: int, limit: int) -> None:
        """Let the agents play the same greedy episodes now and then, from the next `compile` on.

        What they earn is `evaluation_return` in the report's metrics, NaN in other iterations.

        Args:
            iterations: Between two evaluations.
            num_episodes: Of each lane, from keys that training does not use.
            limit: Steps after which to give up on one.
        """
        unknown = torch.full_like(self._carry.last_return, torch.nan)
        self._evaluated = evaluated = unknown.clone()

        def prepare() -> Callable[[], None]:
            known = self._carry.envs if needs_env_states(self.env) else None
            world: Any = envs.frozen(self.env) if known is not None else self.env  # type: ignore[arg-type]
            policy, seed = greedy_policy(self.algorithm), _EVALUATION_SEED
            given = (self._carry.agent, known, num_episodes, seed, limit, self.backend)
            evaluation = Evaluation(policy, world, *given, self._carry.env_values)
            self._programs = [*self._programs, *evaluation.programs]

            def evaluate() -> None:
                due = self._count % iterations == 0
                evaluated.copy_(evaluation(known).mean(dim=1) if due else unknown)

            return evaluate

        self._prepare_evaluation = prepare

    def compile(self) -> None:
        """Compile every program that an iteration calls, without running one; done once."""
        if self._iterate is None:
            self._iterate = self._compile()
            if self._prepare_evaluation is not None:
                self._evaluate = self._prepare_evaluation()
            for program in self._programs:
                program.finish()

    def restart(self, seeds: Sequence[int], config: Any = None, env: Any = None) -> None:
        """Put other lanes, as many as before, in the place of these; nothing is compiled again.

        Args:
            seeds: One lane each.
            config: Their settings; those of before by default.
            env: The same environment with other values of the fields that differ between lanes.
        """
        self.env = self.env if env is None else env
        config, carry = self._begin(seeds, self.config if config is None else config)
        self._put(carry)
        self.config, self._seeds = config, tuple(seeds)

    def restore(self, carry: Carry) -> None:
        """Continue from a `carry` that was taken before: the same numbers follow, bit for bit.

        What an environment on the host was doing then cannot be put back: there, new episodes begin.

        Args:
            carry: Of a run with the same settings but for its floats, and as many lanes.

        Raises:
            ValueError: When it has other shapes.
        """
        self._put(carry)

    def _put(self, carry: Carry) -> None:
        hold = f"hold {len(self._carry.iteration)} lanes of a run with these settings"
        own, new = tree.named_leaves(self._carry), tree.named_leaves(carry)
        for name in own.keys() | new.keys():
            shapes = [tuple(leaves[name].shape) if name in leaves else None for leaves in (own, new)]
            value = f"{name} of shape {shapes[1]} for {shapes[0]}"
            require(shapes[0] == shapes[1], f"{type(self).__name__}.restore", "carry", hold, value)
        for name, leaf in own.items():
            leaf.copy_(new[name])
        self._count = int(carry.iteration[0])

    def iterate(self) -> Report:
        """Collect experience and learn from it.

        Returns:
            A report of this iteration, in tensors of its own.
        """
        self.compile()
        assert self._iterate is not None
        self._iterate()
        self._count += 1
        if self._evaluate is not None:
            self._evaluate()
        return self.report

    def reopen(self) -> None:
        """Make environments on the host anew, for a process that inherited those of another by a fork."""
        return

    def close(self) -> None:
        """End environments on the host, and their processes; nothing to do for those on the device."""
        return

    @abc.abstractmethod
    def _compile(self) -> Callable[[], None]:
        """Compile everything and return one iteration, which changes the carry in place."""

    def _metrics(self) -> dict[str, Tensor]:
        """Return the figures of the last iteration, `[S]` each."""
        return self._carry.agent.metrics  # type: ignore[no-any-return]

    def _memory(self, agent: Any, spaces: Any, key: Tensor) -> Any:
        """Return what one lane remembers at the beginning, beside agent and environments.

        Args:
            agent: `[]` the algorithm's state.
            spaces: Anything with the environment's `observation_space` and `action_space`.
            key: `[2]` int32 on the lane's device, not used elsewhere.
        """
        return ()

    def _begin(self, seeds: Sequence[int], config: Any) -> tuple[Any, Carry]:
        num_lanes, here = len(seeds), type(self).__name__
        require(num_lanes > 0, here, "seeds", "hold at least one integer", seeds)
        config = resolve_config(here, self.algorithm, config, num_lanes)
        on_host = isinstance(self.env, envs.HostEnv)
        if not on_host:
            self.env = lanes.spread(here, "env", self.env, num_lanes)
        own = lanes.Lanes(() if on_host else self.env)
        spaces: Any = self.env if on_host else own.first
        keys = torch.stack([random.key(seed, "cpu") for seed in seeds]).to(self.device)
        columns = tree.map(
            lambda x: torch.as_tensor(x, dtype=torch.float32, device=self.device).expand(num_lanes),
            config,
        )

        def lane(key: Tensor, settings: Any, values: list[Tensor]) -> Carry:
            k_agent, k_envs, k_collect, k_learn = random.split(key, 4)
            k_each = random.split(k_envs, num_envs(config))
            agent = self.algorithm.init(k_agent, settings, spaces)
            return Carry(
                agent=agent,
                envs=() if on_host else envs.reset_all(own.one(values), k_each),
                env_values=values,
                collect_key=k_collect,
                learn_key=k_learn,
                iteration=torch.zeros((), dtype=torch.int32, device=key.device),
                last_return=torch.full((), torch.nan, dtype=torch.float32, device=key.device),
                memory=self._memory(agent, spaces, key),
            )

        values = [column.to(self.device) for column in own.values]
        # What does not depend on the lane, such as an empty buffer, is a view of one lane's here.
        return config, torch.vmap(lane)(keys, columns, values)


def num_envs(config: Any) -> int:
    """Return how many environments a lane has: one where the algorithm has no such setting."""
    return int(getattr(config, "num_envs", 1))
