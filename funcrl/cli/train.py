"""`funcrl train`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from funcrl import algos, data, envs, supervised
from funcrl.algos import planning
from funcrl.algos.presets import preset
from funcrl.cli.arguments import (
    default_folder,
    gather,
    make_env,
    parse,
    parse_count,
    parse_seeds,
    take_env_fields,
)
from funcrl.cli.fit import fit_command
from funcrl.cli.progress import say
from funcrl.cli.ranks import alone, launched, train_in_ranks, train_together
from funcrl.cli.running import check_saving, make_saver, train_into
from funcrl.core import checks
from funcrl.core.checks import require
from funcrl.io import Recorder, SavedRun, check_folder, make_tracker, only_writer, open_run
from funcrl.io.settings import describe, read_json, run_folder
from funcrl.train import Plan, make_plan, with_evaluations
from funcrl.train.learnt import Agents
from funcrl.train.resolve import resolve_algorithm
from funcrl.train.shards import listed


@dataclasses.dataclass
class Options:
    """What `funcrl train` takes beside the algorithm's own settings."""

    seeds: str | None = None
    """how many (16 means 0 to 15), a range (100:116), or a list (3,5,8,); by default 30, or with --start those
    of that run"""
    steps: str | None = None
    """environment steps of each seed (1000000, 1e6, 500k), rounded down to whole iterations; by default 500000,
    100000 for off-policy actor-critics, 50000 for tables, 20000 and 10000 for bandits"""
    start: Path | None = None
    """folder of a run whose final agents to go on from, each seed from its own: what they have learnt stays,
    while settings, step counters, schedules, optimiser and replay begin anew"""
    start_seed: int | None = None
    """begin all seeds with this one's agent of that run"""
    preset: str | None = None
    """settings of a reference result as the defaults, and its number of steps: cleanrl, dopamine, own, purejaxql, purejaxrl,
    recurrent, zoo or zoo-slow, for the environments that it has settings for"""
    device: str = "cpu"
    """cpu, cuda or cuda:1"""
    out: Path | None = None
    """folder to leave; runs/ALGORITHM-ENVIRONMENT by default, numbered where that is taken"""
    replace: bool = False
    """replace the run that is in the folder"""
    lanes_per_group: int | None = None
    """run this many seeds at once where not all fit into memory; all by default"""
    processes: int | None = None
    """share the seeds out to this many processes of one thread each, at least two seeds to each, with the
    same results; by default one a core, and 1 on a GPU or with environments on the host"""
    data_parallel: bool = False
    """under torchrun, let all ranks learn together, each from its part of every batch, where one device is not enough
    for an agent; otherwise they share out the seeds"""
    wrap: tuple[str, ...] = ()
    """put a wrapper around the environment, may stand several times, the innermost first: flatten, one_hot,
    frame_stack=4, atari (games of the arcade learning environment), normalize_observation, normalize_reward, scale_reward=0.1, repeat_action=2, time_limit=100"""
    evaluate_every: str | None = None
    """let each agent play ten greedy episodes every so many steps (50k); auto for as often as takes a tenth of
    the training's steps at most"""
    checkpoint_every: float = 60.0
    """seconds between two checkpoints, from which funcrl resume goes on; inf for none but at the end"""
    keep_checkpoints: int = 2
    """how many of the last checkpoints stay"""
    track: tuple[str, ...] = ()
    """tell these of the run too: tensorboard, wandb (each an extra of its name), or module:class of your own"""
    save_replay: bool = True
    """save replay buffers in checkpoints too; without them a run goes on with empty ones"""


def train_command(words: list[str]) -> int:
    """Train, show progress, and leave a folder.

    Args:
        words: What stands after `funcrl train`.

    Returns:
        Exit status.
    """
    if not words or words[0] in ("-h", "--help"):
        names, others = (", ".join(sorted(table)) for table in (algos.REGISTRY, supervised.ALGORITHMS))
        print(
            "usage: funcrl train ALGORITHM ENVIRONMENT [options]\n"
            "       funcrl train ALGORITHM DATA [options]             of those that learn from images\n"
            "       funcrl train --config DIR/config.json [options]   an earlier run once more\n\n"
            "Train one independent agent a seed, all of them in one compiled program.\n\n"
            f"algorithms:   {names}\n"
            f"environments: {', '.join(sorted({*envs.REGISTRY, *envs.ALIASES}))}\n"
            "              and, on the host, every name that Gymnasium knows\n\n"
            f"algorithms that learn from images: {others}\n"
            f"data: {', '.join(data.NAMES)}, or a folder with\n{_formats()}\n\n"
            f"funcrl train {names.split(',')[0]} --help   every option and setting, with its meaning and default"
        )
        return 0 if words else 2
    if words[0] in supervised.ALGORITHMS or _is_fit(words):
        alone("train")
        return fit_command(words)
    if words[0] != "--config" and words[0] not in planning.REGISTRY:
        checks.known("train", "algorithm", words[0], {*algos.REGISTRY, *supervised.ALGORITHMS})
    asked = _read(words)
    plan, options = _plan(asked), asked.options
    check_saving("train", options)
    trackers = [make_tracker(word) for word in options.track]
    rank = launched(options)
    by_itself = options.data_parallel and rank is None
    instead = "Write torchrun --nproc-per-node 2 -m funcrl train ... --data-parallel."
    require(
        not by_itself,
        "train",
        "--data-parallel",
        "be left out where no launcher has started ranks",
        True,
        instead,
    )
    folder = options.out or default_folder(asked.algorithm, asked.env)
    if rank is None:
        check_folder(folder, options.replace)
    env = (asked.env, asked.fields, options.wrap)
    settings = describe("train", words, asked.algorithm, env, asked.config, plan, options.track)
    settings |= {"start": options.start and str(options.start), "start_seed": options.start_seed}
    label = f"{asked.algorithm} {asked.env}"
    if options.steps is not None and plan.asked_steps != plan.num_steps:
        iterations = f"whole iterations of {plan.steps_per_iteration}"
        say(f"{label}: {plan.num_steps:,} of {plan.asked_steps:,} steps of each seed, {iterations}")
    falls_over = getattr(plan.config, "exploration_steps", 0.0)
    explores = float(torch.as_tensor(falls_over, dtype=torch.float64, device="cpu").max())
    if plan.num_steps < explores < math.inf:
        instead = f"Write --exploration-steps {plan.num_steps // 2} for an exploration that ends halfway."
        say(f"{label}: exploration falls over {explores:,.0f} steps, which this run does not have. {instead}")
    if rank is not None and options.data_parallel:
        return train_together(label, rank, folder, settings, plan, options)
    if rank is not None:
        return train_in_ranks(label, rank, folder, settings, plan, options)
    with only_writer(folder):
        recorder = Recorder(folder, settings, trackers=trackers, learnt=plan.learnt)
        saver = make_saver(recorder, plan, options)
        return train_into(label, plan, recorder, saver)


def _formats() -> str:
    return "\n".join(f"  {name}: {what}" for name, what in data.FORMATS.items())


def _is_fit(words: list[str]) -> bool:
    """Return whether what is to be repeated has learnt from images."""
    if words[0] != "--config" or len(words) < 2:
        return False
    folder = run_folder(Path(words[1]))
    return (folder / "config.json").is_file() and "data" in read_json(folder, "train")


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a person has written."""

    algorithm: str
    env: str
    fields: dict[str, Any]
    """of the environment, to be changed"""
    config: Any
    options: Options
    steps: int | None


def _read(words: list[str]) -> Asked:
    """Read words, and the file of settings or the preset that they name."""
    given = Options()
    fields: dict[str, Any] = {}
    config: Any = None
    if words[0] == "--config":
        require(len(words) > 1, "train", "--config", "have a file", "none", "Write --config DIR/config.json.")
        words, given, fields, config = from_file(Path(words[1]), words[2:])
    name = words[0]
    config = resolve_algorithm("train", name).Config() if config is None else config
    rest, changed = take_env_fields(gather("--track", gather("--wrap", words[1:])))
    env_name, config, options = _parse(name, config, given, rest)
    steps = None if options.steps is None else parse_count("--steps", options.steps)
    if options.preset is not None:
        chosen = preset(name, options.preset, env_name)
        # Read again: what was written beside the preset counts more than what is in it.
        _, config, _ = _parse(name, chosen.config, given, rest)
        steps = chosen.num_steps if steps is None else steps
    return Asked(name, env_name, fields | changed, config, options, steps)


def _plan(asked: Asked) -> Plan:
    """Check everything, without starting anything."""
    options = asked.options
    alone = options.start is None and options.start_seed is not None
    require(not alone, "train", "--start-seed", "stand beside --start DIR", options.start_seed)
    before = None if options.start is None else open_run(options.start)
    seeds: Sequence[int] = range(30) if before is None else before.kept_seeds
    seeds = seeds if options.seeds is None else parse_seeds(options.seeds)
    plan = make_plan(
        asked.algorithm,
        make_env(asked.env, asked.fields, options.wrap),
        config=asked.config,
        seeds=seeds,
        num_steps=asked.steps,
        device=options.device,
        lanes_per_group=options.lanes_per_group,
        processes=options.processes,
        start=None if before is None else _agents(before, seeds, options.start_seed),
    )
    if before is not None:
        _say_what_differs(before, asked)
    if options.evaluate_every is None:
        return plan
    every = options.evaluate_every
    return with_evaluations(plan, None if every == "auto" else parse_count("--evaluate-every", every))


def _agents(before: SavedRun, seeds: Sequence[int], one: int | None) -> Agents:
    """Return the agents that seeds go on from: each its own, or by their order where these are other seeds."""
    if one is not None:
        return before.start([one])
    if set(seeds) <= set(before.kept_seeds):
        return before.start(list(seeds))
    hold = f"be some of those in {before.folder} ({listed(before.kept_seeds)}), or as many"
    instead = "Write --start-seed for one agent for all."
    require(len(seeds) == len(before.kept_seeds), "train", "--seeds", hold, listed(list(seeds)), instead)
    say(f"{listed(list(seeds))} go on from {listed(before.kept_seeds)}, in this order")
    return before.start()


def _say_what_differs(before: SavedRun, asked: Asked) -> None:
    """Say in what the agents have learnt otherwise than they go on, where that decides what they see and are."""
    then, now = before.settings, asked.options
    pairs: list[tuple[str, Any, Any]] = [("environment", then["environment"], asked.env)]
    pairs += [("--wrap", then.get("wrappers", []), list(now.wrap))]
    old, new = before.config, asked.config
    for field in dataclasses.fields(new):
        one, other = getattr(old, field.name, None), getattr(new, field.name)
        if isinstance(other, str):
            pairs.append((f"--{field.name.replace('_', '-')}", one, other))
    for name, one, other in pairs:
        if one != other:
            say(f"{before.folder} has learnt with {name} {one!r}, here it is {other!r}")


def from_file(path: Path, words: list[str]) -> tuple[list[str], Options, dict[str, Any], Any]:
    """Return what a run's `config.json` says, as if a person had written it before other words.

    Args:
        path: The file.
        words: What stands behind it, which counts more.

    Returns:
        The words with algorithm and environment in front, options, fields of the environment, and settings.

    Raises:
        FileNotFoundError: When it is not there.
        ValueError: When it is no run's.
    """
    found = path / "config.json" if path.is_dir() else path
    hold = "be the config.json of a run"
    require(found.is_file() and found.name == "config.json", "train", "--config", hold, str(path))
    run = open_run(found.parent)
    settings = run.settings
    options = Options(
        seeds="".join(f"{seed}," for seed in run.seeds),
        steps=str(settings["asked_steps"]),
        device=settings["device"],
        lanes_per_group=settings["lanes_per_group"],
        wrap=tuple(settings.get("wrappers", ())),
        start=Path(settings["start"]) if settings.get("start") else None,
        start_seed=settings.get("start_seed"),
    )
    front = [settings["algorithm"], settings["environment"]]
    return [*front, *words], options, dict(settings.get("env", {})), run.config


def _parse(name: str, config: Any, options: Options, words: list[str]) -> tuple[str, Any, Any]:
    return parse(
        f"train {name}",
        f"Train {name} on an environment, one independent agent a seed, all in one compiled program. "
        "--env.FIELD VALUE changes a field of the environment, --env.half-length 0.25,0.5 one a seed.",
        ", ".join(sorted(envs.REGISTRY)) + ", or any that Gymnasium knows (on the host)",
        config,
        options,
        words,
    )
