"""Optuna asks and is told, a batch of lanes at a time; what it knows lies in a database that outlives the search."""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from funcrl.core import checks
from funcrl.core.checks import require
from funcrl.train.population import Range
from funcrl.train.search import Task, Trials

SAMPLERS = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "cmaes": "CmaEsSampler",
    "gp": "GPSampler",
    "qmc": "QMCSampler",
    "nsgaii": "NSGAIISampler",
}
PRUNERS = {
    "none": "NopPruner",
    "median": "MedianPruner",
    "halving": "NopPruner",  # done here: a batch goes on in step, so that half of it can be left out at once
    "hyperband": "HyperbandPruner",
    "percentile": "PercentilePruner",
}
RUNGS = 4
OWNER = "funcrl-owner"
"""Attribute of a trial: whose it is, so that what a dead process left undone is found."""

Choices = Mapping[str, Sequence[Any]]
"""Values by name of what belongs to the program."""


@dataclass(frozen=True)
class Asked:
    """How a study goes about it."""

    ranges: Mapping[str, Range]
    choices: Choices
    seeds: tuple[int, ...]
    """lanes of each trial"""
    batch: int
    """trials at once"""
    rungs: int = RUNGS
    """how often trials are compared with others while they train, where there is a pruner"""
    episodes: int = 100
    """over how many of a lane's last ones its score is taken"""


def open_study(storage: str, name: str, sampler: str, pruner: str, seed: int) -> Any:
    """Return a study, made or gone on with.

    Args:
        storage: Where it lies: `sqlite:///DIR/study.db`, or any that Optuna knows.
        name: Of the study there.
        sampler: One of `SAMPLERS`.
        pruner: One of `PRUNERS`.
        seed: Of the sampler.

    Raises:
        ModuleNotFoundError: Without what the extra `hpo` brings.
    """
    import optuna

    checks.known("search", "--sampler", sampler, SAMPLERS)
    checks.known("search", "--pruner", pruner, PRUNERS)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Within a batch no trial knows what the others reach: without the lie they would all be the same.
    own: dict[str, Any] = {"percentile": {"percentile": 25.0}, "tpe": {"constant_liar": True}}
    own["hyperband"] = {"min_resource": 1, "max_resource": RUNGS, "reduction_factor": 2}
    with _trusting(), _told(storage):
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=getattr(optuna.pruners, PRUNERS[pruner])(**own.get(pruner, {})),
        )
        # Of another seed for each process and start: the same one would draw the same settings again.
        seed += len(study.get_trials(deepcopy=False))
        study.sampler = getattr(optuna.samplers, SAMPLERS[sampler])(seed=seed, **own.get(sampler, {}))
    return study


@contextlib.contextmanager
def _told(storage: str) -> Iterator[None]:
    """Say in a sentence where a database cannot be had."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, ImportError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name in ("cmaes", "scipy"):
            raise
        hold, instead = "be a database that can be opened", "Write sqlite:////folder/study.db."
        require(False, "search", "--storage", hold, f"{storage}: {str(error).splitlines()[0]}", instead)


@contextlib.contextmanager
def _trusting() -> Iterator[None]:
    """Take what Optuna calls experimental as it is; the tests tell where it changes."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def take_up(study: Any) -> int:
    """Ask again for what processes have left undone that are gone; return how many trials that is.

    Args:
        study: From `open_study`.
    """
    from optuna.trial import TrialState

    undone = [trial for trial in study.get_trials(states=(TrialState.RUNNING,)) if not lives(trial)]
    for trial in undone:
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
    return len(undone)


def owner() -> str:
    """Return what names this process among those of all hosts that share a study."""
    return f"{platform.node()} {os.getpid()} {_began(os.getpid())}"


def _began(process: int) -> str:
    """Return when a process of this host began, for numbers are given again; empty where that cannot be told."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def lives(trial: Any) -> bool:
    """Return whether the process of a trial is at work; one on another host is taken to be."""
    if OWNER not in trial.user_attrs:  # which is said a moment after a trial has begun
        began = trial.datetime_start
        return began is not None and (datetime.datetime.now() - began).total_seconds() < 60.0
    host, _, rest = str(trial.user_attrs.get(OWNER, "")).partition(" ")
    process, _, began = rest.partition(" ")
    if host != platform.node():
        return bool(host)
    try:
        os.kill(int(process), 0)
    except (OSError, ValueError):
        return False
    return _began(int(process)) == began


def finished(study: Any) -> int:
    """Return how many trials have come to an end, pruned ones included."""
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def running(study: Any) -> int:
    """Return how many trials processes are at work on, this one included."""
    from optuna.trial import TrialState

    return sum(map(lives, study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))))


def ask(study: Any, asked: Asked, count: int) -> list[Any]:
    """Return trials that one program can train: all have the choices of the first.

    Args:
        study: From `open_study`.
        asked: What is searched.
        count: How many.
    """
    import optuna

    ranges = {
        name: optuna.distributions.FloatDistribution(where.low, where.high, log=where.log)
        for name, where in asked.ranges.items()
    }
    choices = {
        name: optuna.distributions.CategoricalDistribution([repr(value) for value in values])
        for name, values in asked.choices.items()
    }
    sampler = study.sampler
    trials: list[Any] = []
    try:
        while len(trials) < count:
            trial = study.ask({**choices, **ranges})
            trial.set_user_attr(OWNER, owner())
            if trials and any(trial.params[name] != trials[0].params[name] for name in choices):
                # Taken up again from elsewhere, with other choices: its turn comes.
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                study.enqueue_trial(trial.params)
                break
            trials.append(trial)
            if choices and len(trials) == 1:
                fixed = {name: trial.params[name] for name in choices}
                with _trusting():
                    study.sampler = optuna.samplers.PartialFixedSampler(fixed, sampler)
    finally:
        study.sampler = sampler
    return trials


class Batches:
    """Trains batches of trials, one program for each combination of choices."""

    def __init__(self, study: Any, task: Callable[[dict[str, Any]], Task], asked: Asked) -> None:
        """Remember; nothing is compiled yet.

        Args:
            study: From `open_study`.
            task: From values of the choices to what is to be learnt.
            asked: What is searched, and how.
        """
        self._study = study
        self._task = task
        self._asked = asked
        self._programs: dict[tuple[str, ...], Trials] = {}

    def train(self, trials: list[Any], pruner: str = "none") -> None:
        """Train trials to the end, or until they are pruned, and tell the study what they reached.

        Args:
            trials: From `ask`.
            pruner: One of `PRUNERS`.
        """
        from optuna.trial import TrialState

        asked, seeds = self._asked, self._asked.seeds
        # As wide as any: what is too much is the last trial once more, of which nothing is told.
        padded = trials + [trials[-1]] * (asked.batch - len(trials))
        values = {
            name: torch.tensor(
                [t.params[name] for t in padded for _ in seeds], dtype=torch.float32, device="cpu"
            )
            for name in asked.ranges
        }
        lanes = self._lanes(trials[0], values, seeds * len(padded))
        going = list(range(len(trials)))
        places = list(range(len(trials)))
        total, rungs = lanes.plan.num_iterations, asked.rungs if pruner != "none" else 1
        for rung in range(1, rungs + 1):
            lanes.advance(total * rung // rungs - lanes.iteration)
            scores = self._scores(lanes, going, places)
            if rung == rungs:
                break
            going, places = self._prune(pruner, trials, going, places, scores, rung)
            if not going:
                return
            if len(going) <= lanes.plan.lanes_per_group // len(seeds) // 2:
                lanes = lanes.keep([place * len(seeds) + i for place in places for i in range(len(seeds))])
                places = list(range(len(going)))
        for number in going:
            score = scores[number]
            failed = not math.isfinite(score)
            state = TrialState.FAIL if failed else TrialState.COMPLETE
            self._study.tell(trials[number], None if failed else score, state=state, skip_if_finished=True)

    def _lanes(self, first: Any, values: dict[str, torch.Tensor], seeds: tuple[int, ...]) -> Trials:
        chosen = {name: self._value(name, first.params[name]) for name in self._asked.choices}
        key = tuple(first.params[name] for name in self._asked.choices)
        if key in self._programs:
            self._programs[key].begin(values, seeds)
        else:
            self._programs[key] = Trials(self._task(chosen), values, seeds)
        return self._programs[key]

    def _value(self, name: str, text: str) -> Any:
        return next(value for value in self._asked.choices[name] if repr(value) == text)

    def _scores(self, lanes: Trials, going: Sequence[int], places: Sequence[int]) -> dict[int, float]:
        """Return what the lanes of each trial that goes on reached on average, by its number in the batch."""
        reached = lanes.scores(self._asked.episodes).reshape(-1, len(self._asked.seeds)).mean(dim=1)
        return {number: float(reached[place]) for number, place in zip(going, places, strict=True)}

    def _prune(
        self,
        pruner: str,
        trials: list[Any],
        going: list[int],
        places: list[int],
        scores: dict[int, float],
        step: int,
    ) -> tuple[list[int], list[int]]:
        from optuna.trial import TrialState

        for number in going:
            if math.isfinite(scores[number]):
                trials[number].report(scores[number], step)
        better = sorted(
            going, key=lambda number: -scores[number] if math.isfinite(scores[number]) else math.inf
        )
        half = set(better[: -(-len(going) // 2)])
        kept = []
        for number, place in zip(going, places, strict=True):
            if number not in half if pruner == "halving" else trials[number].should_prune():
                self._study.tell(trials[number], state=TrialState.PRUNED, skip_if_finished=True)
            else:
                kept.append((number, place))
        return [number for number, _ in kept], [place for _, place in kept]

    @property
    def num_steps(self) -> int:
        """Environment steps of each lane of the last program."""
        return next(reversed(self._programs.values())).plan.num_steps

    def close(self) -> None:
        """End environments on the host."""
        for lanes in self._programs.values():
            lanes.close()
