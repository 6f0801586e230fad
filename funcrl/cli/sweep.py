"""`funcrl sweep`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

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
from funcrl.cli.ranks import launched, train_in_ranks
from funcrl.cli.running import Ended, check_saving, make_saver, run_on_screen
from funcrl.core.checks import require
from funcrl.io import Recorder, check_folder, has_checkpoint, latest, only_writer
from funcrl.io.comparing import table, verdict
from funcrl.io.files import json_text, write_atomically
from funcrl.io.folders import clear
from funcrl.io.heads import remove_checkpoints
from funcrl.io.restoring import check_settings
from funcrl.io.settings import describe, read_json, settings_from
from funcrl.io.sharded import check_same, write_unless_there
from funcrl.io.sweeps import contestants, program_folder, ranked, result_of, sensitivity, sweep_table
from funcrl.train import Plan, Result, SweepResult, plan_sweep
from funcrl.train.ranks import Rank
from funcrl.train.resolve import resolve_algorithm
from funcrl.train.sweep import Program, Setting, in_order, results_of

_SHOWN = 20
"""settings in the table on the screen"""


@dataclasses.dataclass
class Options:
    """What `funcrl sweep` takes beside the algorithm's own settings."""

    over: tuple[str, ...] = ()
    """a field and its values, FIELD=VALUE,VALUE,…, once for each field: learning_rate=1e-4,1e-3,
    env.half_length=0.25,0.5, hidden=(64,64),(32,)"""
    seeds: str = "16"
    """how many (16 means 0 to 15), a range (100:116), or a list (3,5,8,), for each combination"""
    steps: str | None = None
    """environment steps of each seed (500000, 5e5, 500k); by default those of funcrl train"""
    device: str = "cpu"
    """cpu, cuda or cuda:1"""
    out: Path | None = None
    """folder to leave; runs/ALGORITHM-ENVIRONMENT-sweep by default, numbered where that is taken"""
    replace: bool = False
    """replace the sweep that is in the folder"""
    wrap: tuple[str, ...] = ()
    """wrappers, as in funcrl train"""
    lanes_per_group: int | None = None
    """run this many lanes at once; by default, on a CPU, as many as there are seeds if those are 8 or more, so that
    every lane is to the bit what funcrl train makes of it, else as many as fit into memory"""
    processes: int | None = None
    """share the lanes out to this many processes; by default one a core"""
    checkpoint_every: float = 60.0
    """seconds between two checkpoints, from which funcrl resume goes on; inf for none but at the end"""
    keep_checkpoints: int = 2
    """how many of the last checkpoints stay"""
    save_replay: bool = True
    """save replay buffers in checkpoints too"""


def sweep_command(words: list[str]) -> int:
    """Train every combination of settings with every seed, and say which is best.

    Args:
        words: What stands after `funcrl sweep`.

    Returns:
        Exit status.
    """
    if not words or words[0] in ("-h", "--help"):
        print(
            "usage: funcrl sweep ALGORITHM ENVIRONMENT --over FIELD=VALUE,VALUE [--over ...] [options]\n\n"
            "Train every combination of settings with every seed: numbers as lanes of one program, anything\n"
            "else one program after the other.\n\n"
            "  funcrl sweep ppo CartPole-v1 --over learning_rate=1e-4,3e-4,1e-3 --over gamma=0.98,0.99 --seeds 16\n"
            "  funcrl sweep ppo CartPole-v1 --over env.half_length=0.25,0.5 --over hidden=(64,64),(32,)\n\n"
            f"funcrl sweep {sorted(algos.REGISTRY)[0]} --help   every option and setting"
        )
        return 0 if words else 2
    name = words[0]
    algorithm = resolve_algorithm("sweep", name)
    rest, fields = take_env_fields(words[1:])
    env_name, config, options = parse(
        f"sweep {name}",
        f"Train {name} with every combination of settings and every seed.",
        "as for funcrl train",
        algorithm.Config(),
        Options(),
        gather("--over", gather("--wrap", rest)),
    )
    over = parse_over(options.over)
    programs = plan_sweep(
        algorithm,
        make_env(env_name, fields, options.wrap),
        over,
        config=config,
        seeds=parse_seeds(options.seeds),
        num_steps=None if options.steps is None else parse_count("--steps", options.steps),
        device=options.device,
        lanes_per_group=options.lanes_per_group,
        processes=options.processes,
    )
    check_saving("sweep", options)
    rank = launched(options)
    folder = options.out or default_folder(f"{name}", f"{env_name}-sweep")
    if rank is None:
        check_folder(folder, options.replace, "sweep")
    settings = describe("sweep", words, name, (env_name, fields, options.wrap), config, programs[0].plan)
    # Not those of all lanes; and as they were written, which JSON would change.
    settings |= {"seeds": list(dict.fromkeys(programs[0].plan.seeds)), "over": list(options.over)}
    if rank is not None:
        return _sweep_in_ranks(rank, folder, settings, programs, over, options)
    with only_writer(folder, "sweep"):
        clear(folder)
        write_atomically(folder / "config.json", json_text(settings, indent=2).encode())
        return sweep_into(folder, settings, programs, over, options)


def _sweep_in_ranks(
    rank: Rank,
    folder: Path,
    settings: dict[str, Any],
    programs: list[Program],
    over: dict[str, list[Any]],
    options: Any,
) -> int:
    """Train what of each program is this rank's; the one that finds all of them done finishes the sweep."""
    path = folder / "config.json"
    if not path.is_file():
        check_folder(folder, replace=False, function="sweep")
        write_unless_there(path, json_text(settings, indent=2))
    check_same(folder, read_json(folder, "sweep"), settings)
    label = f"{settings['algorithm']} {settings['environment']}"
    for number, program in enumerate(programs, 1):
        own = program_folder(folder, number)
        if result_of(own, program.plan) is None:
            part = label if len(programs) == 1 else f"{label} ({number} of {len(programs)})"
            group, processes = program.plan.lanes_per_group, program.plan.processes
            own_settings = {**settings, "program": number, "lanes_per_group": group, "processes": processes}
            own_settings["lanes"] = len(program.plan.seeds)
            status = train_in_ranks(part, rank, own, own_settings, program.plan, options, by="lane")
            if status:
                return status
    if any(result_of(program_folder(folder, n), one.plan) is None for n, one in enumerate(programs, 1)):
        return 0
    with only_writer(folder, "sweep"):
        return 0 if (folder / "sweep.csv").exists() else sweep_into(folder, settings, programs, over, options)


def sweep_into(
    folder: Path, settings: dict[str, Any], programs: list[Program], over: dict[str, list[Any]], options: Any
) -> int:
    """Train what is left of the programs of a sweep, write its table and picture, and say which is best.

    Args:
        folder: Of the sweep.
        settings: Content of its `config.json`.
        programs: From `plan_sweep`.
        over: Values by field.
        options: How to save.

    Returns:
        Exit status.
    """
    label = f"{settings['algorithm']} {settings['environment']}"
    count = sum(len(program.settings) for program in programs)
    plural = "s" if len(programs) > 1 else ""
    say(f"{label}: {count} settings × {len(settings['seeds'])} seeds in {len(programs)} program{plural}")
    found: list[tuple[Setting, Result]] = []
    for number, program in enumerate(programs, 1):
        own = program_folder(folder, number)
        result = result_of(own, program.plan)
        if result is None:
            part = label if len(programs) == 1 else f"{label} ({number} of {len(programs)})"
            ended = _train(part, own, {**settings, "program": number}, program.plan, options)
            if ended.result is None or ended.interrupt.number is not None or ended.failed is not None:
                say(
                    f"error: {ended.failed}"
                    if ended.failed
                    else f"\ninterrupted. Go on with: funcrl resume {folder}"
                )
                return ended.interrupt.status if ended.failed is None else 1
            result = ended.result
        found += results_of(program, result)
    result_of_all = in_order(over, found)
    sweep_table(result_of_all, folder / "sweep.csv")
    sensitivity(result_of_all, label, folder / "sweep.png")
    return _say_which_is_best(folder, result_of_all, count * len(settings["seeds"]))


def _train(label: str, folder: Path, settings: dict[str, Any], plan: Plan, options: Any) -> Ended:
    """Train one program, from its last checkpoint where it has one."""
    folder.mkdir(parents=True, exist_ok=True)
    before = latest(folder) if has_checkpoint(folder) else None
    settings = settings | {"lanes_per_group": plan.lanes_per_group, "processes": plan.processes}
    settings["lanes"] = len(plan.seeds)
    if before is not None:
        check_settings(before, settings)
        say(f"{label}: going on from step {before.head['step']:,} of {plan.num_steps:,}")
    extents = None if before is None else before.extents
    recorder = Recorder(folder, settings, extents, by="lane")
    ended = run_on_screen(label, plan, recorder, make_saver(recorder, plan, options, before), before)
    if ended.result is not None and result_of(folder, plan) is not None:
        remove_checkpoints(folder)
    return ended


def _say_which_is_best(folder: Path, result: SweepResult, num_lanes: int) -> int:
    best = ranked(contestants(result))
    if best:
        print("\n" + table(best[:_SHOWN]))
    if len(best) > _SHOWN:
        print(f"and {len(best) - _SHOWN} more in sweep.csv")
    if len(best) > 1:
        print(f"\n{verdict(best)}")
    say(f"\nwrote {folder}: sweep.png, sweep.csv, config.json, programs/", sys.stdout)
    lost = num_lanes - sum(len(one.seeds) for one in result.results)
    if lost:
        say(f"lost: {lost} lanes, whose process died. Train them again with: funcrl resume {folder}")
    return 1 if lost else 0


def resume_sweep(folder: Path, settings: dict[str, Any], options: Any) -> int:
    """Go on with a sweep: with the program that was cut off from its checkpoint, then with the others.

    Args:
        folder: Of the sweep.
        settings: Content of its `config.json`.
        options: How to save, and in how many processes.
    """
    algorithm = resolve_algorithm("resume", settings["algorithm"])
    over = parse_over(tuple(settings["over"]))
    programs = plan_sweep(
        algorithm,
        make_env(settings["environment"], settings["env"], settings["wrappers"]),
        over,
        config=settings_from("resume", algorithm.Config, settings["config"]),
        seeds=settings["seeds"],
        num_steps=settings["asked_steps"],
        device=settings["device"],
        lanes_per_group=settings["lanes_per_group"],
        processes=settings["processes"] if options.processes is None else options.processes,
    )
    return sweep_into(folder, settings, programs, over, options)


def parse_over(words: tuple[str, ...]) -> dict[str, list[Any]]:
    """Return values by field from what a person wrote.

    Raises:
        ValueError: When it cannot be read.

    >>> parse_over(("gamma=0.98,1", "hidden=(64,64),(32,)", "env.name=up,down"))
    {'gamma': [0.98, 1], 'hidden': [(64, 64), (32,)], 'env.name': ['up', 'down']}
    """
    instead = "Write --over learning_rate=1e-4,1e-3."
    require(len(words) > 0, "sweep", "--over", "name a field and its values", "none", instead)
    over: dict[str, list[Any]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip().replace("-", "_")
        require(
            bool(name and equals and text.strip()), "sweep", "--over", "be FIELD=VALUE,VALUE", word, instead
        )
        require(name not in over, "sweep", "--over", "name each field once", name)
        over[name] = [read_value(part) for part in split_values(text)]
    return over
