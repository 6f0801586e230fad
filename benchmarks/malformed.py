"""Give everything that reads a run's folder, or a person's words, what it should not be given.

    python benchmarks/malformed.py --inputs 10000

Files of a small run are damaged in turn (bytes flipped, cut off, doubled, fields removed, values of other
kinds, pickles under their names), and words are made up. What is refused must be refused with a sentence of
the library's own: an exception of any other kind is counted and shown, and nothing in a file is ever run.
"""

from __future__ import annotations

import argparse
import json
import pickle
import random
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from funcrl import envs
from funcrl.algos import ppo
from funcrl.cli.arguments import parse_count, parse_seeds, take_env_fields
from funcrl.cli.sweep import parse_over
from funcrl.core.jit import jit
from funcrl.io import Checkpoints, Recorder, latest, open_run
from funcrl.io.comparing import contestant, table
from funcrl.train import execute, make_plan, plan_sweep

MARK = Path(tempfile.gettempdir()) / "funcrl-malformed-was-run"


class Trap:
    """What a pickle runs when it is loaded."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return MARK.write_text, ("run",)


def small_run(folder: Path) -> None:
    """Leave a run with two checkpoints."""
    config = ppo.Config(num_envs=2, window_length=8, num_epochs=1, hidden=(4,))
    plan = make_plan("ppo", "CartPole-v1", config=config, seeds=range(2), num_steps=96, backend="eager")
    settings = {
        "command": "funcrl train",
        "algorithm": "ppo",
        "environment": "CartPole-v1",
        "config": {"num_envs": 2, "window_length": 8, "num_epochs": 1, "hidden": [4]},
        "seeds": [0, 1],
        "num_steps": 96,
        "asked_steps": 96,
        "device": "cpu",
        "lanes_per_group": 2,
        "processes": 1,
        "env": {},
        "wrappers": [],
    }
    folder.mkdir()
    recorder = Recorder(folder, settings)
    result = execute(plan, recorder, Checkpoints(recorder, plan, every=0.0))
    recorder.finish(result, {"algorithm": "ppo", "environment": "CartPole-v1"})


def damaged(draw: random.Random, data: bytes, is_json: bool) -> bytes:
    """Return a file's content, damaged in one of many ways."""
    ways = ["flip", "cut", "double", "empty", "pickle", "noise"] + ["field"] * (3 if is_json else 0)
    way = draw.choice(ways)
    if way == "flip":
        changed = bytearray(data)
        for _ in range(draw.randint(1, 8)):
            changed[draw.randrange(len(changed))] ^= draw.randint(1, 255)
        return bytes(changed)
    if way == "cut":
        return data[: draw.randrange(len(data))]
    if way == "double":
        at = draw.randrange(len(data))
        return data[:at] + data[draw.randrange(len(data)) :]
    if way == "pickle":
        return pickle.dumps(Trap())
    if way == "noise":
        return draw.randbytes(draw.randint(0, 300))
    if way == "field":
        value = json.loads(data)
        holders = [value, *(x for x in value.values() if isinstance(x, dict) and x)]
        holder = draw.choice(holders)
        name = draw.choice(list(holder))
        if draw.random() < 0.4:
            del holder[name]
        else:
            odd = [
                None,
                -1,
                1e300,
                "x",
                [],
                {},
                [[]],
                {"a": 1},
                True,
                "9" * 400,
                [None],
                2**70,
                "../../etc/passwd",
            ]
            holder[name] = draw.choice(odd)
        return json.dumps(value).encode()
    return b""


def word(draw: random.Random) -> str:
    """Return something that a person might write by mistake."""
    pieces = [
        "1e4",
        "-1",
        "k",
        "M",
        "nan",
        "inf",
        ",",
        ":",
        "=",
        "--",
        "(",
        ")",
        "[",
        "'",
        "a",
        "0",
        "1e999",
        "é",
        "gamma",
        "env.",
        "half_length",
        "hidden",
        "frame_stack",
        "flatten",
        "scale",
        "__class__",
        "[" * 50,
        "0x10",
        "1_0",
        " ",
    ]
    return "".join(draw.choice(pieces) for _ in range(draw.randint(0, 5)))


def read_folder(folder: Path) -> None:
    """Read everything that can be read of a run."""
    run = open_run(folder)
    table([contestant(run, "run")])
    run.plan(1)
    _ = run.agents, run.kept_seeds
    latest(folder)


def main() -> None:
    """Read the arguments, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    draw = random.Random(given.seed)
    MARK.unlink(missing_ok=True)
    counts: Counter[tuple[str, str]] = Counter()
    config = ppo.Config(num_envs=2, window_length=8, hidden=(4,))
    planned = {"config": config, "seeds": range(2), "num_steps": 32, "backend": "eager"}
    readers: dict[str, Callable[[], Any]] = {
        "--steps": lambda: parse_count("--steps", word(draw)),
        "--seeds": lambda: parse_seeds(word(draw)),
        "--over": lambda: plan_sweep("ppo", "CartPole-v1", parse_over((word(draw), word(draw))), **planned),
        "--env": lambda: envs.from_words(
            "train", "CartPole-v1", take_env_fields([f"--env.{word(draw)}", word(draw)])[1]
        ),
        "--wrap": lambda: envs.from_words("train", "CartPole-v1", {}, [word(draw)]),
    }
    jit(lambda x: x, backend="eager")
    with tempfile.TemporaryDirectory() as place:
        whole, folder = Path(place) / "whole", Path(place) / "run"
        small_run(whole)
        shutil.copytree(whole, folder)
        names = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
        names = [
            name
            for name in names
            if name.suffix in (".json", ".csv", ".safetensors") and name.name != "times.csv"
        ]
        for number in range(given.inputs):
            if number % 3 == 0:
                kind, read = draw.choice(list(readers.items()))
            else:
                name = draw.choice(names)
                kind = "checkpoint head" if name.suffix == ".json" and name.parent.name else str(name.name)
                kind = "checkpoint part" if ".at-" in kind else kind
                data = (whole / name).read_bytes()
                (folder / name).write_bytes(damaged(draw, data, name.suffix == ".json"))
                read = lambda: read_folder(folder)
            try:
                read()
                outcome = "taken"
            except (ValueError, TypeError, OSError) as error:
                own = ": " in str(error) and " must " in str(error)
                outcome = "refused with a sentence" if own else "raw"
                if not own:
                    print(f"{kind}: {type(error).__name__}: {str(error)[:200]}")
            except Exception as error:
                outcome = "raw"
                print(f"{kind}: {type(error).__name__}: {str(error)[:200]}")
            counts[kind, outcome] += 1
            if number % 3:
                (folder / name).write_bytes(data)
    print("| input | outcome | times |\n|---|---|---|")
    for (kind, outcome), times in sorted(counts.items()):
        print(f"| {kind} | {outcome} | {times} |")
    print(
        f"\n{sum(counts.values())} inputs, {sum(n for (_, o), n in counts.items() if o == 'raw')} raw; "
        f"code of a file was {'RUN' if MARK.exists() else 'never run'}"
    )


if __name__ == "__main__":
    main()
