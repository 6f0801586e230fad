"""`funcrl train`."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import signal
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import funcrl
from funcrl import algos, envs
from funcrl.algos.presets import preset
from funcrl.buffers import memory
from funcrl.cli.arguments import default_folder, gather, parse, take_env_fields
from funcrl.cli.progress import ProgressBar, say, summary
from funcrl.core.checks import require
from funcrl.io import (
    Checkpoint,
    Checkpoints,
    Recorder,
    check_folder,
    has_checkpoint,
    learning_curve,
    make_tracker,
    only_writer,
    open_run,
    regret_curve,
)
from funcrl.train import (
    Plan,
    Progress,
    Result,
    WorkerError,
    execute,
    make_plan,
    regret_lower_bound,
    with_evaluations,
)
from funcrl.train.resolve import resolve_algorithm, resolve_env
from funcrl.train.shards import listed


@dataclasses.dataclass
class Options:
    """What `funcrl train` takes beside the algorithm's own settings."""

    seeds: str = "30"
    """how many (16 means 0 to 15), a range (100:116), or a list (3,5,8,)"""
    steps: str | None = None
    """environment steps of each seed (1000000, 1e6, 500k), rounded down to whole iterations; by default 500000,
    50000 for tables, 20000 and 10000 for bandits"""
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
    wrap: tuple[str, ...] = ()
    """put a wrapper around the environment, may stand several times, the innermost first: flatten, one_hot,
    frame_stack=4, normalize_observation, normalize_reward, scale_reward=0.1, repeat_action=2, time_limit=100"""
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
        names = ", ".join(sorted(algos.REGISTRY))
        print(
            "usage: funcrl train ALGORITHM ENVIRONMENT [options]\n"
            "       funcrl train --config DIR/config.json [options]   an earlier run once more\n\n"
            "Train one independent agent a seed, all of them in one compiled program.\n\n"
            f"algorithms:   {names}\n"
            f"environments: {', '.join(sorted({*envs.REGISTRY, *envs.ALIASES}))}\n"
            "              and, on the host, every name that Gymnasium knows\n\n"
            f"funcrl train {names.split(',')[0]} --help   every option and setting, with its meaning and default"
        )
        return 0 if words else 2
    given = Options()
    fields: dict[str, Any] = {}
    config: Any = None
    written = words
    if words[0] == "--config":
        require(len(words) > 1, "train", "--config", "have a file", "none", "Write --config DIR/config.json.")
        written, given, fields, config = from_file(Path(words[1]), words[2:])
    name = written[0]
    algorithm = resolve_algorithm("train", name)
    config = algorithm.Config() if config is None else config
    rest, changed = take_env_fields(gather("--track", gather("--wrap", written[1:])))
    fields = fields | changed
    env_name, config, options = _parse(name, config, given, rest)
    asked = steps = None if options.steps is None else parse_count("--steps", options.steps)
    if options.preset is not None:
        chosen = preset(name, options.preset, env_name)
        # Read again: what was written beside the preset counts more than what is in it.
        _, config, _ = _parse(name, chosen.config, given, rest)
        steps = chosen.num_steps if steps is None else steps

    plan = make_plan(
        algorithm,
        make_env(env_name, fields, options.wrap),
        config=config,
        seeds=parse_seeds(options.seeds),
        num_steps=steps,
        device=options.device,
        lanes_per_group=options.lanes_per_group,
        processes=options.processes,
    )
    if options.evaluate_every is not None:
        every = options.evaluate_every
        plan = with_evaluations(plan, None if every == "auto" else parse_count("--evaluate-every", every))
    check_saving("train", options)
    trackers = [make_tracker(word) for word in options.track]
    folder = options.out or default_folder(name, env_name)
    check_folder(folder, options.replace)
    settings = describe("train", words, name, (env_name, fields, options.wrap), config, plan, options.track)
    label = f"{name} {env_name}"
    if asked is not None and asked != plan.num_steps:
        iterations = f"whole iterations of {plan.steps_per_iteration}"
        say(f"{label}: {plan.num_steps:,} of {asked:,} steps of each seed, {iterations}")
    with only_writer(folder):
        recorder = Recorder(folder, settings, trackers=trackers)
        saver = make_saver(recorder, plan, options)
        return train_into(label, plan, recorder, saver)


def check_saving(function: str, options: Any) -> None:
    """Check the options that `make_saver` takes, before anything is written."""
    every, keep = options.checkpoint_every, options.keep_checkpoints
    require(every > 0, function, "--checkpoint-every", "be above 0", every)
    require(keep >= 1, function, "--keep-checkpoints", "be at least 1", keep)


def make_saver(recorder: Recorder, plan: Plan, options: Any, before: Checkpoint | None = None) -> Checkpoints:
    """Return what saves a run as the options say."""
    every, keep = options.checkpoint_every, options.keep_checkpoints
    return Checkpoints(recorder, plan, every=every, keep=keep, with_replay=options.save_replay, before=before)


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


def make_env(name: str, fields: dict[str, Any], wrappers: Sequence[str]) -> envs.AnyEnv | str:
    """Return an environment from words, or its name where there is nothing but that.

    Args:
        name: As a person wrote it.
        fields: To change.
        wrappers: The innermost first.
    """
    if not fields and not wrappers:
        return name
    resolve_env("train", name)  # complains of unknown names
    return envs.from_words("train", name, fields, wrappers)


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


def parse_count(name: str, text: str) -> int:
    """Return a number as people write it: `500000`, `500_000`, `5e5`, `500k`, `1.5M`.

    Raises:
        ValueError: When it is none, or not a whole one.

    >>> parse_count("--steps", "1e6"), parse_count("--steps", "1.5k")
    (1000000, 1500)
    """
    sizes = {"k": 10**3, "M": 10**6, "G": 10**9}
    size = sizes.get(text[-1:], 1)
    instead = "Write 500000, 5e5 or 500k."
    try:
        number = Decimal(text[:-1] if size > 1 else text) * size
        whole = number == int(number)
    except (ArithmeticError, ValueError):
        whole = False
    require(whole, "train", name, "be a whole number", text, instead)
    require(abs(number) < 10**18, "train", name, "be below 1e18", text)
    return int(number)


def describe(
    command: str,
    words: list[str],
    name: str,
    env: tuple[str, dict[str, Any], tuple[str, ...]],
    config: Any,
    plan: Plan,
    track: Sequence[str] = (),
) -> dict[str, Any]:
    """Return everything that is needed to run a command again.

    Args:
        command: `"train"`.
        words: What stood behind it.
        name: Of the algorithm.
        env: Name of the environment, its fields that were changed, and wrappers.
        config: Settings of the algorithm.
        plan: What is done.
        track: Names of trackers.
    """
    return {
        "command": shlex.join(["funcrl", command, *words]),
        "algorithm": name,
        "environment": env[0],
        "track": list(track),
        "env": env[1],
        "wrappers": list(env[2]),
        "placement": plan.placement,
        "config": {field.name: getattr(config, field.name) for field in dataclasses.fields(config)},
        "seeds": list(plan.seeds),
        "num_steps": plan.num_steps,
        "asked_steps": plan.asked_steps,
        "evaluate_every": plan.evaluate_every,
        "evaluation_episodes": plan.num_episodes,
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


class Interrupt:
    """Ctrl-C, and SIGTERM as schedulers send it, ask training to save and stop; a second one stops at once."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        self.number: int | None = None
        """the signal, once there was one"""
        self.measured = False
        """whether an iteration has been done"""

    def __enter__(self) -> Interrupt:
        self._previous = {n: signal.signal(n, self._handle) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.number = self.number is not None, number
        if again or not self.measured:
            raise KeyboardInterrupt
        say("\nsaving, then stopping; once more stops at once")

    @property
    def status(self) -> int:
        """The exit status that says which signal it was."""
        return 128 + (self.number or signal.SIGINT)


PATIENCE = 16
"""Iterations after which to stop though nothing has been saved yet: a worker may have been lost."""


def _draw(result: Result, plan: Plan, title: str, path: Path) -> None:
    """Draw what is learnt: of a bandit the regret, of anything else the return."""
    if "cumulative_regret" not in result.metrics:
        learning_curve(result, title, path)
        return
    regret_curve(result, title, path, regret_lower_bound(plan.env, result.env_states))


def train_into(
    label: str, plan: Plan, recorder: Recorder, saver: Checkpoints, before: Checkpoint | None = None
) -> int:
    """Train, show progress, fill the folder of a run, and return the exit status.

    Args:
        label: What is trained, for the person who watches.
        plan: What is to be done.
        recorder: Writes the tables.
        saver: Writes checkpoints.
        before: The checkpoint from which the run goes on; None to begin.
    """
    folder, settings = recorder.folder, recorder.settings
    if plan.placement == "host":
        where = "this process" if plan.processes == 1 else f"{plan.processes} processes"
        say(f"{label}: Gymnasium's environments on the host, {_count(plan)} of them in {where}")
    if plan.replay_bytes:
        size = f"{plan.config.buffer_size:,} transitions for each of {plan.lanes_per_group} lanes"
        say(f"{label}: replay buffers of {memory.text(plan.replay_bytes)}, {size}")
    if plan.evaluate_every:
        every = plan.evaluate_every * plan.steps_per_iteration
        most = plan.num_episodes * plan.episode_limit / every
        say(
            f"{label}: {plan.num_episodes} greedy episodes every {every:,} steps, at most {most:.0%} more steps"
        )
    done = 0 if before is None else before.lane_steps
    progress = ProgressBar(label, plan, done=done)
    result: Result | None = None
    failed: OSError | None = None
    with Interrupt() as interrupt:
        asked_at: int | None = None

        def callback(now: Progress) -> bool:
            nonlocal asked_at
            interrupt.measured = True
            recorder(now)
            progress(now)
            if interrupt.number is None:
                return False
            if asked_at is None:
                asked_at = now.iteration
                saver.ask()
                return False
            return saver.settled or now.iteration >= asked_at + PATIENCE

        try:
            result = execute(plan, callback, saver, None if before is None else before.start)
        except KeyboardInterrupt:
            interrupt.number = interrupt.number or signal.SIGINT
        except (envs.HostError, WorkerError, ValueError):
            if interrupt.measured:
                say(f"stopped; what was measured until then is in {folder}")
            raise
        finally:
            progress.close()
            try:
                recorder.finish(result, _metadata(settings, result))
            except OSError as error:
                failed = error
    if result is not None:
        if failed is None:
            _draw(result, plan, f"{label}, {len(result.seeds)} seeds", folder / "curve.png")
        say("\n" + summary(label, plan, result), sys.stdout)
        say(
            f"  wrote {folder}: curve.png, returns.csv, metrics.csv, metrics.jsonl, config.json, checkpoint/",
            sys.stdout,
        )
    status = _last_words(folder, result, interrupt, saver)
    if failed is not None:
        say(f"error: {failed}")
    return status or int(failed is not None)


def _last_words(folder: Path, result: Result | None, interrupt: Interrupt, saver: Checkpoints) -> int:
    """Say what is missing, and return the exit status."""
    lost = () if result is None else result.lost_seeds
    go_on = f"Go on with: funcrl resume {folder}"
    if lost:
        again = "" if saver.saved is None else f". {go_on} (from before they were lost)"
        say(
            f"\nlost: {listed(lost)}, of which returns.csv ends early and the final agents have nothing{again}"
        )
    if interrupt.number is not None:
        if not interrupt.measured:
            say("\ninterrupted: nothing was measured yet" + (f". {go_on}" if has_checkpoint(folder) else ""))
        elif has_checkpoint(folder):
            say(f"\ninterrupted: what was measured until then is in {folder}. {go_on}")
        else:
            say(f"\ninterrupted: what was measured until then is in {folder}; no checkpoint was made")
        return interrupt.status
    return 1 if lost else 0


def _metadata(settings: dict[str, Any], result: Result | None) -> dict[str, str]:
    """Return what the checkpoint's header says; of the seeds where they are not those of the settings."""
    metadata = {"algorithm": settings["algorithm"], "environment": settings["environment"]}
    if result is not None and result.lost_seeds:
        metadata["seeds"] = ",".join(map(str, result.seeds))
    return metadata
