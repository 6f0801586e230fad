"""Searching for settings: many of them as lanes of one program, trained for a while, compared, and gone on with.

`Trials` are such lanes. `train_population` moves what has been learnt from the best to the worst while they
learn; what asks for settings, trains them and is told what they reached is in `io.studies`, because it remembers on a disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from funcrl import envs
from funcrl.core import checks, random, tree
from funcrl.core.checks import require
from funcrl.train.carry import Carry, Report
from funcrl.train.forks import one_thread
from funcrl.train.plan import Plan, plan_lanes
from funcrl.train.population import Range, Values, draw, exploit, explore
from funcrl.train.programs import make_run, put_lanes
from funcrl.train.resolve import resolve_algorithm, resolve_env
from funcrl.train.result import mean_of_last
from funcrl.train.run import Run
from funcrl.train.sweep import ENV, is_number


@dataclass(frozen=True)
class Task:
    """What is to be learnt, and how far."""

    algorithm: ModuleType
    env: envs.AnyEnv
    config: Any
    """settings of what is not searched"""
    num_steps: int | None = None
    """environment steps of each lane; the algorithm's own number by default"""
    device: str = "cpu"
    backend: str = "inductor"

    def plan(self, values: Values, seeds: Sequence[int]) -> Plan:
        """Return the plan of lanes with these settings and seeds, of which some may occur several times."""
        columns = {name: [float(x) for x in column] for name, column in values.items()}
        config = dataclasses.replace(self.config, **columns)
        given = (self.num_steps, self.device, len(seeds), self.backend, 1)
        return plan_lanes(self.algorithm, self.env, config, tuple(seeds), *given)


def make_task(
    function: str,
    algorithm: str | ModuleType,
    env: str | envs.AnyEnv,
    ranges: Mapping[str, Range],
    config: Any = None,
    num_steps: int | None = None,
    device: str = "cpu",
    backend: str = "inductor",
) -> Task:
    """Check what is to be searched, without starting anything.

    Raises:
        ValueError: When a field is unknown, or no number.
    """
    module, world = resolve_algorithm(function, algorithm), resolve_env(function, env)
    config = module.Config() if config is None else config
    instead = "Write learning_rate=1e-5:1e-2:log."
    require(len(ranges) > 0, function, "ranges", "name at least one field", dict(ranges), instead)
    for name in ranges:
        known = name in {field.name for field in dataclasses.fields(config)}
        hold = f"be a setting of {module.__name__.rpartition('.')[2]}"
        require(known or name.startswith(ENV), function, name, hold, "none of that name")
        hold = f"be a number among the settings of {module.__name__.rpartition('.')[2]}"
        known = not name.startswith(ENV) and is_number(name, config, world)
        require(known, function, name, hold, "another field")
    return Task(module, world, config, num_steps, device, backend)


class Trials:
    """Lanes with settings of their own, trained some iterations at a time."""

    def __init__(self, task: Task, values: Values, seeds: Sequence[int]) -> None:
        """Compile; nothing is trained yet.

        Args:
            task: What is to be learnt.
            values: `[L]` each.
            seeds: L, one a lane.
        """
        self.task = task
        self.values = values
        self.plan = task.plan(values, seeds)
        self._narrower: dict[int, Trials] = {}
        with self._threads():
            self._run: Run = make_run(self.plan, range(len(seeds)))
            self._run.compile()
        self._reports: list[Report] = []

    def _threads(self) -> Any:
        return one_thread() if self.plan.has_one_thread else contextlib.nullcontext()

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return len(self._reports)

    @property
    def steps(self) -> int:
        """Environment steps of each lane so far."""
        return self.iteration * self.plan.steps_per_iteration

    @property
    def carry(self) -> Carry:
        """A copy of everything that the next iteration depends on, `[L, ...]`."""
        return self._run.carry

    def begin(self, values: Values, seeds: Sequence[int]) -> None:
        """Put other settings and seeds, as many, in the place of these; nothing is compiled again."""
        self.values, self.plan = values, self.task.plan(values, seeds)
        put_lanes(self._run, self.plan, range(len(seeds)))
        self._reports = []

    def advance(self, iterations: int) -> None:
        """Train for some iterations, at most to the end of the plan."""
        with self._threads():
            for _ in range(min(iterations, self.plan.num_iterations - self.iteration)):
                self._reports.append(self._run.iterate())

    def restore(self, carry: Carry, reports: Sequence[Report]) -> None:
        """Go on from another carry of as many lanes, and what was reported before."""
        self._run.restore(carry)
        self._reports = list(reports)

    def figures(self) -> Report:
        """Return what was reported so far, `[L, I]` each."""
        return tree.map(lambda *columns: torch.stack(columns, dim=1).cpu(), *self._reports)  # type: ignore[no-any-return]

    def scores(self, episodes: int = 100, since: int = 0) -> Tensor:
        """Return the mean return of each lane's last episodes, `[L]`; NaN where none has ended.

        Args:
            episodes: How many count.
            since: The iteration after which they have ended.
        """
        if since >= self.iteration:
            return torch.full((len(self.plan.seeds),), torch.nan, dtype=torch.float32, device="cpu")
        figures = tree.index(self.figures(), (slice(None), slice(since, None)))
        return mean_of_last(figures.returns, figures.episodes, episodes)

    def keep(self, lanes: Sequence[int]) -> Trials:
        """Return trials that go on with some of the lanes alone, in a program as narrow as they are.

        Args:
            lanes: Which, in their new order.
        """
        chosen = torch.tensor(lanes, dtype=torch.int64, device="cpu")
        seeds = [self.plan.seeds[lane] for lane in lanes]
        values = {name: x[chosen] for name, x in self.values.items()}
        if len(lanes) not in self._narrower:
            self._narrower[len(lanes)] = Trials(self.task, values, seeds)
        narrower = self._narrower[len(lanes)]
        narrower.values, narrower.plan = values, self.task.plan(values, seeds)
        taken = tree.map(lambda x: x[chosen.to(x.device)], self.carry)
        narrower.restore(
            taken, [tree.map(lambda x: x[chosen.to(x.device)], report) for report in self._reports]
        )
        return narrower

    def close(self) -> None:
        """End environments on the host."""
        self._run.close()
        for narrower in self._narrower.values():
            narrower.close()


@dataclass(frozen=True)
class Generation:
    """A population after a while of training, before anything moves."""

    number: int
    """from 1"""
    step: int
    """environment steps of each lane so far"""
    values: Values
    """`[P]` each, with which they have learnt since the last one"""
    scores: Tensor
    """`[P]` mean returns of the last episodes that have ended since the last one; NaN where none has"""
    parents: Tensor
    """`[P]` int64, from which lane of this generation each goes on"""


@dataclass(frozen=True)
class Evolved:
    """A population as it stands; all that going on depends on."""

    generations: tuple[Generation, ...]
    values: Values
    """`[P]` each, for what comes next"""
    carry: Carry
    """`[P, ...]`"""
    figures: Report
    """`[P, I]` of every lane as a place in the population: what it has taken over counts from then on"""


def train_population(
    algorithm: str | ModuleType,
    env: str | envs.AnyEnv,
    ranges: Mapping[str, Range],
    *,
    config: Any = None,
    population: int = 32,
    num_generations: int = 20,
    num_steps: int | None = None,
    seed: int = 0,
    episodes: int = 100,
    share: float = 0.2,
    device: str = "cpu",
    backend: str = "inductor",
    callback: Callable[[Evolved], object] | None = None,
    start: Evolved | None = None,
) -> Evolved:
    """Train a population whose worst lanes go on from the best, with settings changed a little.

    Args:
        algorithm: See `train`.
        env: See `train`.
        ranges: What is searched, by field.
        config: Settings of what is not.
        population: P lanes, at least 4.
        num_generations: How often lanes are compared, the end included.
        num_steps: Environment steps of each lane in all.
        seed: Of everything.
        episodes: Over how many of a lane's last ones its score is taken.
        share: Of the lanes that move, see `exploit`.
        device: See `train`.
        backend: See `train`.
        callback: Called after each generation with what there is then, of which a run can go on.
        start: From which to go on.

    Returns:
        The population at the end.

    Raises:
        ValueError: When an argument has a value that cannot be.

    >>> from funcrl.algos import ppo
    >>> small = ppo.Config(num_envs=2, window_length=8, hidden=(4,))
    >>> given = {"config": small, "population": 4, "num_generations": 2, "num_steps": 64, "backend": "eager"}
    >>> found = train_population("ppo", "CartPole-v1", {"learning_rate": Range(1e-4, 1e-2, log=True)}, **given)
    >>> [generation.step for generation in found.generations]
    [32, 64]
    """
    here = "train_population"
    task = make_task(here, algorithm, env, ranges, config, num_steps, device, backend)
    checks.integer(here, "population", population, 4)
    checks.integer(here, "num_generations", num_generations, 1)
    checks.integer(here, "seed", seed, 0)
    require(0.0 < share <= 0.5, here, "share", "lie above 0 and up to 0.5", share)
    key, seeds = random.key(seed, "cpu"), [seed * population + lane for lane in range(population)]
    values = draw(random.fold_in(key, 0), ranges, population) if start is None else start.values
    trials = Trials(task, values, seeds)
    done: list[Generation] = []
    if start is not None:
        done = list(start.generations)
        trials.restore(start.carry, _columns(start.figures))
    total = trials.plan.num_iterations
    require(
        total >= num_generations,
        here,
        "num_generations",
        f"be at most {total}, the iterations",
        num_generations,
    )
    found = start
    try:
        for number in range(len(done) + 1, num_generations + 1):
            since = trials.iteration
            trials.advance(total * number // num_generations - since)
            # Of this generation alone: before, it may have been another lane, with other settings.
            scores = trials.scores(episodes, since)
            hold = "leave room for episodes to end between two of them"
            require(bool(scores.isfinite().any()), here, "num_generations", hold, num_generations)
            k_exploit, k_explore = random.split(random.fold_in(key, number), 2)
            parents = torch.arange(population, dtype=torch.int64, device="cpu")
            if number < num_generations:
                parents = exploit(k_exploit, scores, share)
            done.append(Generation(number, trials.steps, values, scores, parents))
            values = explore(k_explore, values, ranges, parents)
            carry = _moved(trials.carry, parents, values)
            figures = tree.index(trials.figures(), parents)
            trials.restore(carry, _columns(figures))
            found = Evolved(tuple(done), values, carry, figures)
            if callback is not None and callback(found):
                break
    finally:
        trials.close()
    assert found is not None
    return found


def _columns(figures: Report) -> list[Report]:
    return [tree.map(lambda x, i=i: x[:, i], figures) for i in range(figures.returns.shape[1])]


def _moved(carry: Carry, parents: Tensor, values: Values) -> Carry:
    """Return a carry in which lanes have what their parents had learnt, and settings of their own.

    Keys and environments stay: lanes with one past would otherwise see the same from then on.
    """

    def gather(tree_of: Any) -> Any:
        return tree.map(lambda x: x[parents.to(x.device)], tree_of)

    agent = gather(carry.agent)
    device = tree.leaves(agent)[0].device
    own = {name: x.to(device) for name, x in values.items()}
    agent = tree.replace(agent, config=tree.replace(agent.config, **own))
    past = {name: gather(getattr(carry, name)) for name in ("memory", "earned", "episodes", "last_return")}
    return tree.replace(carry, agent=agent, **past)
