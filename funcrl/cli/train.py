"""`funcrl train`."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import funcrl
from funcrl import algos, envs
from funcrl.algos.presets import preset
from funcrl.buffers import memory
from funcrl.cli.arguments import default_folder, parse
from funcrl.cli.progress import ProgressBar, say, summary
from funcrl.core.checks import require
from funcrl.io import Recorder, check_folder, learning_curve, regret_curve
from funcrl.train import Plan, Progress, Result, WorkerError, execute, make_plan, regret_lower_bound
from funcrl.train.resolve import resolve_algorithm
from funcrl.train.shards import listed


@dataclasses.dataclass
class Options:
    """What `funcrl train` takes beside the algorithm's own settings."""

    seeds: str = "30"
    """how many (16 means 0 to 15), a range (100:116), or a list (3,5,8,)"""
    steps: int | None = None
    """environment steps of each seed, rounded down to whole iterations; by default 500000, 50000 for
    tables, 20000 and 10000 for bandits"""
    preset: str | None = None
    """settings of a reference result as the defaults, and its number of steps: cleanrl, zoo or zoo-slow, for
    the environments that it has settings for"""
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


def train_command(words: list[str]) -> int:
    """Train, show progress, and leave a folder.

    Args:
        words: What stands after `funcrl train`.

    Returns:
        Exit status.
    """
    if not words or words[0] in ("-h", "--help"):
        names = ", ".join(sorted(algos.REGISTRY))
        print(
            "usage: funcrl train ALGORITHM ENVIRONMENT [options]\n\n"
            "Train one independent agent a seed, all of them in one compiled program.\n\n"
            f"algorithms:   {names}\n"
            f"environments: {', '.join(sorted({*envs.REGISTRY, *envs.ALIASES}))}\n"
            "              and, on the host, every name that Gymnasium knows\n\n"
            f"funcrl train {names.split(',')[0]} --help   every option and setting, with its meaning and default"
        )
        return 0 if words else 2
    name = words[0]
    algorithm = resolve_algorithm("train", name)
    env_name, config, options = _parse(name, algorithm.Config(), words[1:])
    steps = options.steps
    if options.preset is not None:
        chosen = preset(name, options.preset, env_name)
        # Read again: what was written beside the preset counts more than what is in it.
        _, config, _ = _parse(name, chosen.config, words[1:])
        steps = chosen.num_steps if steps is None else steps

    plan = make_plan(
        algorithm,
        env_name,
        config=config,
        seeds=parse_seeds(options.seeds),
        num_steps=steps,
        device=options.device,
        lanes_per_group=options.lanes_per_group,
        processes=options.processes,
    )
    folder = options.out or default_folder(name, env_name)
    check_folder(folder, options.replace)
    settings = _settings(words, name, env_name, config, options, plan)
    return _train_into(folder, f"{name} {env_name}", plan, settings, options.steps)


def _parse(name: str, config: Any, words: list[str]) -> tuple[str, Any, Any]:
    return parse(
        f"train {name}",
        f"Train {name} on an environment, one independent agent a seed, all in one compiled program.",
        ", ".join(sorted(envs.REGISTRY)) + ", or any that Gymnasium knows (on the host)",
        config,
        Options,
        words,
    )


def parse_seeds(text: str) -> Sequence[int]:
    """Return the seeds that a person wrote: `16`, `100:116` or `3,5,8`.

    Raises:
        ValueError: When it is none of these, or no seed at all.

    >>> parse_seeds("3"), parse_seeds("10:12"), parse_seeds("7,")
    (range(0, 3), range(10, 12), [7])
    """
    instead = "Write 16 for seeds 0 to 15, 100:116 for a range, 3,5,8 for a list."
    try:
        if "," in text:
            return [int(word) for word in text.split(",") if word.strip()]
        if ":" in text:
            begin, end = text.split(":")
            seeds = range(int(begin), int(end))
        else:
            seeds = range(int(text))
    except ValueError:
        require(False, "train", "--seeds", "be a number, a range or a list", text, instead)
    require(len(seeds) > 0, "train", "--seeds", "name at least one seed", text, instead)
    return seeds


def _settings(
    words: list[str], name: str, env_name: str, config: Any, options: Options, plan: Plan
) -> dict[str, Any]:
    """Everything that is needed to run this again."""
    return {
        "command": shlex.join(["funcrl", "train", *words]),
        "algorithm": name,
        "environment": env_name,
        "placement": plan.placement,
        "config": {field.name: getattr(config, field.name) for field in dataclasses.fields(config)},
        "seeds": list(plan.seeds),
        "num_steps": plan.num_steps,
        "lanes_per_group": plan.lanes_per_group,
        "processes": plan.processes,
        "device": str(plan.device),
        "versions": {
            "funcrl": funcrl.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _count(plan: Plan) -> int:
    return plan.lanes_per_group * int(plan.config.num_envs)


class _Interrupt:
    """Ctrl-C asks training to stop after the iteration that is running; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self.measured = False

    def __enter__(self) -> _Interrupt:
        self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.measured:
            raise KeyboardInterrupt
        self.asked = True
        say("\nstopping after this iteration; once more stops at once, without a checkpoint")


def _draw(result: Result, plan: Plan, title: str, path: Path) -> None:
    """Draw what is learnt: of a bandit the regret, of anything else the return."""
    if "cumulative_regret" not in result.metrics:
        learning_curve(result, title, path)
        return
    regret_curve(result, title, path, regret_lower_bound(plan.env, result.env_states))


def _train_into(folder: Path, label: str, plan: Plan, settings: dict[str, Any], asked: int | None) -> int:
    if plan.placement == "host":
        where = "this process" if plan.processes == 1 else f"{plan.processes} processes"
        say(f"{label}: Gymnasium's environments on the host, {_count(plan)} of them in {where}")
    if plan.replay_bytes:
        size = f"{plan.config.buffer_size:,} transitions for each of {plan.lanes_per_group} lanes"
        say(f"{label}: replay buffers of {memory.text(plan.replay_bytes)}, {size}")
    if asked is not None and asked != plan.num_steps:
        iterations = f"whole iterations of {plan.steps_per_iteration}"
        say(f"{label}: {plan.num_steps:,} of {asked:,} steps of each seed, {iterations}")
    recorder = Recorder(folder, settings)
    progress = ProgressBar(label, plan)
    result: Result | None = None
    with _Interrupt() as interrupt:

        def callback(now: Progress) -> bool:
            interrupt.measured = True
            recorder(now)
            progress(now)
            return interrupt.asked

        try:
            result = execute(plan, callback)
        except KeyboardInterrupt:
            interrupt.asked = True
        except (envs.HostError, WorkerError, ValueError):
            if interrupt.measured:
                say(f"stopped; what was measured until then is in {folder}")
            raise
        finally:
            progress.close()
            recorder.finish(result, _metadata(settings, result))
    if result is not None:
        _draw(result, plan, f"{label}, {len(result.seeds)} seeds", folder / "curve.png")
        say("\n" + summary(label, plan, result), sys.stdout)
        say(f"  wrote {folder}: curve.png, returns.csv, metrics.jsonl, config.json, checkpoint/", sys.stdout)
    return _last_words(folder, result, interrupt)


def _last_words(folder: Path, result: Result | None, interrupt: _Interrupt) -> int:
    """Say what is missing, and return the exit status."""
    lost = () if result is None else result.lost_seeds
    if lost:
        say(f"\nlost: {listed(lost)}, of which returns.csv ends early and the checkpoint has nothing")
    if interrupt.asked:
        measured = f"what was measured until then is in {folder}"
        say(f"\ninterrupted: {measured if interrupt.measured else 'nothing was measured yet'}")
        return 130
    return 1 if lost else 0


def _metadata(settings: dict[str, Any], result: Result | None) -> dict[str, str]:
    """Return what the checkpoint's header says; of the seeds where they are not those of the settings."""
    metadata = {"algorithm": settings["algorithm"], "environment": settings["environment"]}
    if result is not None and result.lost_seeds:
        metadata["seeds"] = ",".join(map(str, result.seeds))
    return metadata
