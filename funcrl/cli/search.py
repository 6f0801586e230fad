"""`funcrl search`: settings found by a population, or by Optuna."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from funcrl import algos
from funcrl.cli.arguments import (
    default_folder,
    gather,
    make_env,
    parse,
    parse_count,
    parse_seeds,
    read_value,
    split_values,
    take_env_fields,
)
from funcrl.cli.progress import say
from funcrl.cli.ranks import alone
from funcrl.cli.running import Interrupt
from funcrl.core import checks
from funcrl.core.checks import require
from funcrl.io import check_folder, only_writer
from funcrl.io import populations as stored
from funcrl.io.files import json_text, write_atomically
from funcrl.io.folders import is_free
from funcrl.io.heads import decisive
from funcrl.io.settings import describe, read_json
from funcrl.io.studies import PRUNERS, SAMPLERS, Asked, Batches, ask, finished, open_study, running, take_up
from funcrl.io.studytables import study_picture, study_table
from funcrl.train.population import Range
from funcrl.train.resolve import resolve_algorithm
from funcrl.train.search import Evolved, Task, make_task, train_population

_RANGE = "Write --range learning_rate=1e-5:1e-2:log."


@dataclasses.dataclass
class PopulationOptions:
    """What `funcrl search pbt` takes beside the algorithm's own settings."""

    range: tuple[str, ...] = ()
    """a number that is searched and where it may lie, FIELD=LOW:HIGH, or FIELD=LOW:HIGH:log where factors count; once
    for each field"""
    population: int = 32
    """lanes, each an agent with settings of its own"""
    generations: int = 20
    """how often the worst fifth of the lanes goes on from the best fifth"""
    steps: str | None = None
    """environment steps of each lane in all (500000, 5e5, 500k)"""
    seed: int = 0
    """of the whole search"""
    device: str = "cpu"
    """cpu, cuda or cuda:1"""
    out: Path | None = None
    """folder to leave; runs/ALGORITHM-ENVIRONMENT-pbt by default, numbered where that is taken. A search in it that was
    cut off goes on"""
    wrap: tuple[str, ...] = ()
    """wrappers, as in funcrl train"""


@dataclasses.dataclass
class OptunaOptions:
    """What `funcrl search optuna` takes beside the algorithm's own settings."""

    range: tuple[str, ...] = ()
    """a number that is searched and where it may lie, FIELD=LOW:HIGH, or FIELD=LOW:HIGH:log where factors count; once
    for each field"""
    choose: tuple[str, ...] = ()
    """what is no number and its values, FIELD=VALUE,VALUE: hidden=(64,64),(32,); each combination is a program"""
    trials: int = 64
    """settings to try in all, those of earlier starts included"""
    batch: int = 16
    """settings at once, as lanes of one program"""
    seeds: str = "4"
    """how many (4 means 0 to 3), a range, or a list, for each of them; what counts is their mean"""
    steps: str | None = None
    """environment steps of each seed (500000, 5e5, 500k)"""
    sampler: str = "gp"
    """how settings are chosen: gp, tpe, random, cmaes, qmc or nsgaii"""
    pruner: str = "none"
    """which are given up on the way: none, median, halving, hyperband or percentile"""
    seed: int = 0
    """of the sampler"""
    storage: str | None = None
    """where the study lies, as Optuna writes it (postgresql://...); a SQLite file in the folder by default"""
    device: str = "cpu"
    """cpu, cuda or cuda:1"""
    out: Path | None = None
    """folder to leave; runs/ALGORITHM-ENVIRONMENT-optuna by default, numbered where that is taken. A search in it goes on,
    and several processes may go on with it at once"""
    wrap: tuple[str, ...] = ()
    """wrappers, as in funcrl train"""


_HELP = """\
usage: funcrl search pbt    ALGORITHM ENVIRONMENT --range FIELD=LOW:HIGH[:log] [--range ...] [options]
       funcrl search optuna ALGORITHM ENVIRONMENT --range FIELD=LOW:HIGH[:log] [--range ...] [options]

Find settings, many of them at once as lanes of one program.

  pbt      population-based training: settings change while agents learn, in the time of one training
  optuna   Optuna asks for settings, a batch at a time, and is told what they reached (extra hpo)

  funcrl search pbt ppo CartPole-v1 --range learning_rate=1e-5:1e-2:log --range entropy_weight=0:0.1 --population 32
  funcrl search optuna ppo CartPole-v1 --range learning_rate=1e-5:1e-2:log --choose hidden=(64,64),(32,) --pruner halving

The folder holds a table, a picture and best/config.json, which funcrl train --config takes.
"""


def search_command(words: list[str]) -> int:
    """Find settings.

    Args:
        words: What stands after `funcrl search`.

    Returns:
        Exit status.
    """
    if not words or words[0] in ("-h", "--help"):
        print(_HELP + f"\nfuncrl search pbt {sorted(algos.REGISTRY)[0]} --help   every option and setting")
        return 0 if words else 2
    alone("search")
    how = words[0]
    if words[1:2] in (["-h"], ["--help"]):
        print(_HELP)
        return 0
    checks.known("search", "the first word", how, ("pbt", "optuna"))
    require(
        len(words) > 1,
        "search",
        "the second word",
        "be an algorithm",
        "none",
        f"Write funcrl search {how} ppo CartPole-v1.",
    )
    name = words[1]
    algorithm = resolve_algorithm("search", name)
    rest, fields = take_env_fields(words[2:])
    env_name, config, options = parse(
        f"search {how} {name}",
        f"Find settings of {name} on an environment.",
        "as for funcrl train",
        algorithm.Config(),
        PopulationOptions() if how == "pbt" else OptunaOptions(),
        gather("--choose", gather("--range", gather("--wrap", rest))),
    )
    search = Search(how, words, name, env_name, fields, config, options)
    return search.run()


class Search:
    """One search: what a person has written, and the folder that is left."""

    def __init__(
        self,
        how: str,
        words: list[str],
        name: str,
        env: str,
        fields: dict[str, Any],
        config: Any,
        options: Any,
    ) -> None:
        """Check everything; nothing is started."""
        self._options = options
        self._ranges = parse_ranges(options.range)
        self._choices = parse_choices(getattr(options, "choose", ()))
        self._name, self._env, self._fields, self._config = name, env, fields, config
        self._how, self._words, self._label = how, words, f"{name} {env}"
        self._num_steps = None if options.steps is None else parse_count("--steps", options.steps)
        self._seeds = tuple(parse_seeds(getattr(options, "seeds", "4")))
        self._task = self._with({name: values[0] for name, values in self._choices.items()})
        for end in ("low", "high"):  # settings that cannot be are refused before anything is written
            ends = {
                name: torch.tensor([getattr(where, end)], dtype=torch.float32, device="cpu")
                for name, where in self._ranges.items()
            }
            iterations = self._task.plan(ends, (0,)).num_iterations
        if how == "pbt":
            checks.integer("search", "--population", options.population, 4)
            checks.integer("search", "--generations", options.generations, 1)
            hold = f"be at most {iterations}, the iterations of a lane"
            require(options.generations <= iterations, "search", "--generations", hold, options.generations)
        if how == "optuna":
            checks.integer("search", "--trials", options.trials, 1)
            checks.integer("search", "--batch", options.batch, 1)
            checks.known("search", "--sampler", options.sampler, SAMPLERS)
            checks.known("search", "--pruner", options.pruner, PRUNERS)

    def _with(self, chosen: dict[str, Any]) -> Task:
        """Return what is to be learnt with some of the choices."""
        algorithm = resolve_algorithm("search", self._name)
        known = {field.name for field in dataclasses.fields(algorithm.Config)}
        for name in chosen:
            hold = f"name settings of {self._name}, and none that --range names"
            require(name in known and name not in self._ranges, "search", "--choose", hold, name)
        env = make_env(self._env, self._fields, self._options.wrap)
        config = dataclasses.replace(self._config, **chosen)
        given = (config, self._num_steps, self._options.device)
        return make_task("search", self._name, env, self._ranges, *given)

    def run(self) -> int:
        """Search, and return the exit status."""
        folder = self._options.out or default_folder(self._name, f"{self._env}-{self._how}")
        settings = self._settings(self._config, {})
        goes_on = (folder / "config.json").is_file()
        if goes_on:
            before = read_json(folder, "search")
            for key in ("search", *decisive(settings)):
                hold, instead = f"have the {key} of the search in {folder}", "Write another --out."
                now = {**settings, **decisive(settings)}[key]
                same = before.get(key) == now
                require(same, "search", key, f"{hold}, {before.get(key)!r}", now, instead)
        else:
            hold = "be an empty folder, or one of a search with these words"
            require(is_free(folder) or not folder.is_dir(), "search", "--out", hold, str(folder))
            check_folder(folder, replace=False, function="search")
            write_atomically(folder / "config.json", json_text(settings, indent=2).encode())
        with Interrupt("finishing what is being trained, then stopping") as interrupt:
            interrupt.measured = True
            done = self._evolve(folder, interrupt) if self._how == "pbt" else self._ask(folder, interrupt)
        if not done:
            say("\nnothing has come to its end", sys.stdout)
        if interrupt.number is not None:
            say(f"interrupted. To go on, write the same words with --out {folder}")
            return interrupt.status
        return 0 if done else 1

    def _settings(self, config: Any, found: dict[str, float]) -> dict[str, Any]:
        plan = self._task.plan(_example(self._ranges), self._seeds[:1])
        env = (self._env, self._fields, self._options.wrap)
        config = dataclasses.replace(config, **found)
        settings = describe("search", self._words, self._name, env, config, plan)
        if found:
            return {**settings, "seeds": list(self._seeds), "lanes_per_group": len(self._seeds)}
        searched = {name: [one.low, one.high, one.log] for name, one in self._ranges.items()}
        asked = {
            "ranges": searched,
            "choices": {name: [repr(x) for x in xs] for name, xs in self._choices.items()},
        }
        # Of a study, more trials may be asked for later; a population is one training.
        names = ("population", "generations", "seed") if self._how == "pbt" else ()
        size = {name: getattr(self._options, name) for name in names}
        return {**settings, "seeds": list(self._seeds), "search": {"by": self._how, **asked, **size}}

    def _study_name(self) -> str:
        """Return a name that only searches with these settings have, for several may lie in one database."""
        settings = self._settings(self._config, {})
        kept = {**decisive(settings), "search": settings["search"]}
        digest = hashlib.sha256(json_text(kept).encode()).hexdigest()[:16]
        return f"{self._name}-{self._env}-{digest}"

    def _leave_best(self, folder: Path, config: Any, found: dict[str, float]) -> None:
        best = folder / "best"
        best.mkdir(exist_ok=True)
        write_atomically(best / "config.json", json_text(self._settings(config, found), indent=2).encode())
        say(f"\n  train them: funcrl train --config {best / 'config.json'} --seeds 100:130", sys.stdout)

    def _evolve(self, folder: Path, interrupt: Interrupt) -> bool:
        options, label = self._options, self._label
        with only_writer(folder, "search"):
            start = None
            if (folder / stored.FILE).is_file():
                start = stored.load_population(folder, self._task, self._ranges)
                say(f"{label}: going on after generation {len(start.generations)} of {options.generations}")
            else:
                say(f"{label}: compiling for {options.population} lanes")

            def told(evolved: Evolved) -> bool:
                stored.save_population(folder, evolved)
                now = evolved.generations[-1]
                best = float(now.scores[stored.best_lane(evolved)])
                say(
                    f"{label}: generation {now.number} of {options.generations}, {now.step:,} steps, best {best:.4g}"
                )
                return interrupt.number is not None

            given: Any = {"config": self._task.config, "population": options.population, "seed": options.seed}
            given |= {
                "num_generations": options.generations,
                "num_steps": self._num_steps,
                "device": options.device,
            }
            world = self._task.env
            if start is None or len(start.generations) < options.generations:
                found = train_population(self._name, world, self._ranges, **given, callback=told, start=start)
            else:
                found = start
            stored.population_table(found, folder / "generations.csv")
            title = f"{label}, {options.population} lanes"
            stored.population_picture(found, self._ranges, title, folder / "search.png")
            place = stored.best_lane(found)
            last = found.generations[-1]
            values = {name: float(x[place]) for name, x in last.values.items()}
            _say_values(f"{label}: the best of {options.population} lanes", values, float(last.scores[place]))
            say(f"\n  wrote {folder}: generations.csv, search.png, best/config.json, checkpoint/", sys.stdout)
            self._leave_best(folder, self._task.config, values)
        return True

    def _ask(self, folder: Path, interrupt: Interrupt) -> bool:
        options, label = self._options, self._label
        storage = options.storage or f"sqlite:///{(folder / 'study.db').resolve()}"
        study = open_study(storage, self._study_name(), options.sampler, options.pruner, options.seed)
        again = take_up(study)
        if finished(study):
            say(
                f"{label}: going on after {finished(study)} of {options.trials} trials"
                + (f", {again} once more" if again else "")
            )
        asked = Asked(self._ranges, self._choices, self._seeds, options.batch)
        batches, waits = Batches(study, self._with, asked), False
        try:
            while finished(study) < options.trials and interrupt.number is None:
                count = min(options.batch, options.trials - finished(study) - running(study))
                if count <= 0:
                    if not waits:
                        say(
                            f"{label}: other processes are at the last {running(study)} trials; waiting for them"
                        )
                    waits = True
                    time.sleep(1.0)
                    take_up(study)
                    continue
                trials = ask(study, asked, count)
                before = finished(study)
                batches.train(trials, options.pruner)
                hold = "be enough for episodes to end, or settings be such that returns are finite"
                steps = batches.num_steps
                require(finished(study) > before, "search", "--steps", hold, steps, "Write more of them.")
                best = _best(study)
                value = "none yet" if best is None else f"{best.value:.4g}"
                say(f"{label}: {finished(study)} of {options.trials} trials, best {value}")
        finally:
            batches.close()
        best = _best(study)
        if best is None:
            return False
        study_table(study, folder / "trials.csv")
        study_picture(
            study, self._ranges, f"{label}, {len(self._seeds)} seeds a trial", folder / "search.png"
        )
        chosen = {
            name: next(value for value in values if repr(value) == best.params[name])
            for name, values in self._choices.items()
        }
        found = {name: float(best.params[name]) for name in self._ranges}
        _say_values(f"{label}: the best of {finished(study)} trials", {**found, **chosen}, best.value)
        say(f"\n  wrote {folder}: trials.csv, search.png, best/config.json, study.db", sys.stdout)
        self._leave_best(folder, dataclasses.replace(self._config, **chosen), found)
        return True


def _best(study: Any) -> Any:
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(done, key=lambda trial: trial.value, default=None)


def _example(ranges: dict[str, Range]) -> Any:
    return {
        name: torch.tensor([where.low], dtype=torch.float32, device="cpu") for name, where in ranges.items()
    }


def _say_values(title: str, values: dict[str, Any], score: float) -> None:
    say(f"\n{title}: mean return {score:.4g} of the last 100 training episodes\n", sys.stdout)
    for name, value in values.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        say(f"  {name:<24}{text}", sys.stdout)


def parse_ranges(words: Sequence[str]) -> dict[str, Range]:
    """Return ranges by field from what a person wrote.

    Raises:
        ValueError: When one cannot be read.

    >>> parse_ranges(["learning_rate=1e-5:1e-2:log"])
    {'learning_rate': Range(low=1e-05, high=0.01, log=True)}
    """
    require(len(words) > 0, "search", "--range", "name a field and where it may lie", "none", _RANGE)
    ranges: dict[str, Range] = {}
    for word in words:
        name, equals, text = word.partition("=")
        name, parts = name.strip().replace("-", "_"), text.split(":")
        good = bool(name and equals) and len(parts) in (2, 3) and parts[2:] in ([], ["log"])
        require(good, "search", "--range", "be FIELD=LOW:HIGH or FIELD=LOW:HIGH:log", word, _RANGE)
        require(name not in ranges, "search", "--range", "name each field once", name)
        numbers = [read_value(part) for part in parts[:2]]
        numeric = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in numbers)
        require(numeric, "search", "--range", "have numbers for its ends", word, _RANGE)
        ranges[name] = Range(float(numbers[0]), float(numbers[1]), log=len(parts) == 3)
    return ranges


def parse_choices(words: Sequence[str]) -> dict[str, list[Any]]:
    """Return values by field from what a person wrote after `--choose`.

    >>> parse_choices(["hidden=(64,64),(32,)"])
    {'hidden': [(64, 64), (32,)]}
    """
    choices: dict[str, list[Any]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip().replace("-", "_")
        instead = "Write --choose hidden=(64,64),(32,)."
        require(bool(name and equals and text), "search", "--choose", "be FIELD=VALUE,VALUE", word, instead)
        require(name not in choices, "search", "--choose", "name each field once", name)
        choices[name] = [read_value(part) for part in split_values(text)]
        twice = len({repr(value) for value in choices[name]}) < len(choices[name])
        require(not twice, "search", "--choose", "have values that all differ", word)
    return choices
