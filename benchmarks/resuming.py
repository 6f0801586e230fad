"""Kill small runs at random moments, go on with them, and compare all that is left with a run that was not.

    python benchmarks/resuming.py --kills 1000

Prints for one algorithm of each loop, in one process and in two, how often a run was killed, and how often
the agents and files at the end differed from those of the uninterrupted run: never, it is to be.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from funcrl.algos import dqn, ppo, q_learning
from funcrl.io import Checkpoints, Recorder, has_checkpoint, latest
from funcrl.train import Plan, execute, make_plan

CASES = {
    "ppo": ("CartPole-v1", ppo.Config(num_envs=2, window_length=8, num_epochs=1, hidden=(8,)), 16),
    "dqn": ("CartPole-v1", dqn.Config(hidden=(8,), batch_size=4, warmup_steps=40, buffer_size=200), 20),
    "q_learning": ("CliffWalking-v1", q_learning.Config(), 15),
}
FILES = ("returns.csv", "metrics.csv", "metrics.jsonl", "checkpoint/states.safetensors")
ITERATIONS = 20


def planned(name: str, processes: int) -> Plan:
    """Return a run of a second or so, whose programs are traced and not compiled."""
    env, config, size = CASES[name]
    plan = make_plan(name, env, config=config, seeds=range(4), num_steps=size * ITERATIONS, backend="eager")
    return dataclasses.replace(plan, num_iterations=ITERATIONS, steps_per_iteration=size, processes=processes)


def run(folder: Path, plan: Plan) -> None:
    """Train into a folder, from its last checkpoint if it has one, with a checkpoint whenever one can be had."""
    folder.mkdir(exist_ok=True)
    found = latest(folder) if has_checkpoint(folder) else None
    settings = {"command": "", "algorithm": plan.algorithm.__name__, "environment": ""}
    recorder = Recorder(folder, settings, None if found is None else found.extents)
    saver = Checkpoints(recorder, plan, every=0.0, before=found)
    result = execute(plan, recorder, saver, None if found is None else found.start)
    recorder.finish(result, {"algorithm": "x"})


def killed(work: Callable[[], None], after: float) -> bool:
    """Do work in a process that is killed after some seconds; return whether it was at work then."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    until, pid, status = time.perf_counter() + after, 0, 0
    while not pid and time.perf_counter() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.0005)
    if not pid:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if status not in (0, signal.SIGKILL):
        raise RuntimeError(f"a run ended by itself with status {status}")
    return status != 0


def main() -> None:
    """Read the arguments, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    draw = random.Random(given.seed)
    cases = [(name, processes) for name in CASES for processes in (1, 2)]
    print(
        "| run | processes | kills | runs that came to their end | of these different |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as place:
        for number, (name, processes) in enumerate(cases):
            plan, whole, cut = planned(name, processes), Path(place) / "whole", Path(place) / "cut"
            for folder in (whole, cut):
                shutil.rmtree(folder, ignore_errors=True)
            began = time.perf_counter()
            run(whole, plan)
            took = time.perf_counter() - began
            expected = {file: (whole / file).read_bytes() for file in FILES}
            share = given.kills // len(cases) + (number < given.kills % len(cases))
            kills = ends = different = 0
            while kills < share:
                if killed(lambda plan=plan, cut=cut: run(cut, plan), draw.random() * took):
                    kills += 1
                    continue
                ends += 1
                different += any((cut / file).read_bytes() != data for file, data in expected.items())
                shutil.rmtree(cut)
            if cut.exists():
                run(cut, plan)
                ends += 1
                different += any((cut / file).read_bytes() != data for file, data in expected.items())
            print(f"| {name} | {processes} | {kills} | {ends} | {different} |", flush=True)


if __name__ == "__main__":
    main()
