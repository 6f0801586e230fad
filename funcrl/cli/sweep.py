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
from funcrl.cli.progress import ProgressBar, say
from funcrl.core.checks import require
from funcrl.io import check_folder, only_writer
from funcrl.io.comparing import table, verdict
from funcrl.io.files import json_text, write_atomically
from funcrl.io.folders import clear
from funcrl.io.settings import describe
from funcrl.io.sweeps import contestants, ranked, sensitivity, sweep_table
from funcrl.train import execute, plan_sweep
from funcrl.train.resolve import resolve_algorithm
from funcrl.train.sweep import in_order, results_of

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
    """run this many lanes at once; by default as many as fit into memory"""
    processes: int | None = None
    """share the lanes out to this many processes; by default one a core"""


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
    folder = options.out or default_folder(f"{name}", f"{env_name}-sweep")
    check_folder(folder, options.replace, "sweep")
    count = sum(len(program.settings) for program in programs)
    label = f"{name} {env_name}"
    what = f"{count} settings × {len(programs[0].plan.seeds) // len(programs[0].settings)} seeds"
    say(f"{label}: {what} in {len(programs)} program{'s' if len(programs) > 1 else ''}")
    found = []
    with only_writer(folder, "sweep"):
        for number, program in enumerate(programs, 1):
            own = label if len(programs) == 1 else f"{label} ({number} of {len(programs)})"
            progress = ProgressBar(own, program.plan)
            try:
                found += list(results_of(program, execute(program.plan, progress)))
            finally:
                progress.close()
        result = in_order(over, found)
        clear(folder)
        settings = describe("sweep", words, name, (env_name, fields, options.wrap), config, programs[0].plan)
        settings |= {"over": {key: list(values) for key, values in over.items()}}
        write_atomically(folder / "config.json", json_text(settings, indent=2).encode())
        sweep_table(result, folder / "sweep.csv")
        sensitivity(result, label, folder / "sweep.png")
    best = ranked(contestants(result))
    if best:
        print("\n" + table(best[:_SHOWN]))
    if len(best) > _SHOWN:
        print(f"and {len(best) - _SHOWN} more in sweep.csv")
    if len(best) > 1:
        print(f"\n{verdict(best)}")
    lost = sum(
        len(program.plan.seeds) // len(program.settings) * len(program.settings) for program in programs
    )
    lost -= sum(len(one.seeds) for one in result.results)
    say(f"\nwrote {folder}: sweep.png, sweep.csv, config.json", sys.stdout)
    if lost:
        say(f"lost: {lost} lanes, whose process died")
    return 1 if lost else 0


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
