"""Seconds from starting Python to the end of the first update, with a cold and a warm compiler cache.

    python benchmarks/startup.py                               # all programs below
    python benchmarks/startup.py ppo --header                  # also the first time ever on a machine
    python benchmarks/startup.py ppo --repo ../before --repeats 3      # another checkout, in turns

Each figure is a process of its own: importing, tracing, compiling, one iteration with an update in it.
`cold` starts with an empty cache of programs, `warm` with what `cold` left. The compiler also builds a
header, once on a machine, which it keeps in the temporary folder and not in that cache: it is built
before anything is measured, and `first ever` (`--header`) has a temporary folder of its own, so that it
is built again. CPU seconds are of the process and of every compiler that it started: they say what is
to be saved where others use the machine too. With `--repo`, each round measures every checkout.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import funcrl

HERE = str(Path(funcrl.__file__).parent.parent)

SCRIPT = """
from funcrl.algos import {name}
from funcrl.train import make_plan
from funcrl.train.programs import make_run
config = {name}.Config({config})
given = {{"config": config, "seeds": range({lanes}), "device": "{device}", "processes": 1}}
run = make_run(make_plan({name}, "{env}", **given), range({lanes}))
while int(run.agent.step.min()) == 0:  # reading it waits for the device
    run.iterate()
"""
PROGRAMS = {
    "ppo": {"env": "CartPole-v1", "config": ""},
    "ppo, gru": {"env": "CartPole-v1", "config": "recurrent_cell='gru'"},
    "ppo, lstm": {"env": "CartPole-v1", "config": "recurrent_cell='lstm'"},
    "a2c": {"env": "CartPole-v1", "config": ""},
    "actor_critic": {"env": "CartPole-v1", "config": ""},
    "impala": {"env": "CartPole-v1", "config": ""},
    "reinforce": {"env": "CartPole-v1", "config": ""},
    "dqn": {"env": "CartPole-v1", "config": "warmup_steps=100"},
    **{  # Warm near the end of the first thousand steps, which are an iteration: each later one is an update.
        name: {"env": "Pendulum-v1", "config": "warmup_steps=990"} for name in ("ddpg", "td3", "sac", "tqc")
    },
    "discrete_sac": {"env": "CartPole-v1", "config": "warmup_steps=990"},
    "q_learning": {"env": "CliffWalking-v1", "config": ""},
}
HEADER = """
import torch
from funcrl.core import jit
jit.jit(lambda x: (x.exp() @ x).sum(0))(torch.ones(8, 8, device="{device}"))
"""


def run(script: str, repo: str, cache: str, temporary: str | None = None) -> tuple[float, float]:
    """Run a script with a checkout's funcrl, and return its wall and CPU seconds, children included."""
    folders = {"TORCHINDUCTOR_CACHE_DIR": cache, "PYTHONPATH": repo}
    if temporary is not None:
        folders |= {"TMPDIR": temporary}
    began = time.perf_counter()
    # Python looks for modules in the folder where it starts before anywhere else.
    process = subprocess.Popen([sys.executable, "-c", script], env=os.environ | folders, cwd=repo)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"startup: the process ended with status {process.returncode}; see above.")
    return wall, used.ru_utime + used.ru_stime


def one_round(script: str, repo: str, header: bool) -> dict[str, tuple[float, float]]:
    """Return wall and CPU seconds by kind of start."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        if header:
            empty = Path(folder) / "temporary"
            empty.mkdir()
            found["first ever"] = run(script, repo, f"{folder}/first", str(empty))
        found["cold"] = run(script, repo, f"{folder}/cache")
        found["warm"] = run(script, repo, f"{folder}/cache")
    return found


def measure(
    lanes: int,
    device: str,
    programs: Sequence[str] = tuple(PROGRAMS),
    repos: Sequence[str] = (HERE,),
    repeats: int = 1,
    header: bool = False,
) -> dict[str, Any]:
    """Return medians over the rounds, by checkout, program and kind of start."""
    with tempfile.TemporaryDirectory() as cache:
        for repo in repos:
            run(HEADER.format(device=device), repo, cache)
    rounds: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for _ in range(repeats):
        for name in programs:
            script = SCRIPT.format(name=name.partition(",")[0], lanes=lanes, device=device, **PROGRAMS[name])
            for repo in repos:
                for start, seconds in one_round(script, repo, header).items():
                    rounds.setdefault((repo, name, start), []).append(seconds)
    results: dict[str, Any] = {}
    for (repo, name, start), found in rounds.items():
        wall, cpu = zip(*found, strict=True)
        row = {
            "wall_seconds": round(statistics.median(wall), 1),
            "wall_range": [round(min(wall), 1), round(max(wall), 1)],
            "cpu_seconds": round(statistics.median(cpu), 1),
            "cpu_range": [round(min(cpu), 1), round(max(cpu), 1)],
        }
        place = results.setdefault(repo, {}) if len(repos) > 1 else results
        place.setdefault(name, {})[start] = row
    return results


def table(results: dict[str, Any], repos: Sequence[str]) -> str:
    """Return the figures as a table."""
    lines = [
        f"| program | start |{' checkout |' * (len(repos) > 1)} wall [lowest, highest] | CPU [lowest, highest] |",
        f"|---|---|{'---|' * (len(repos) > 1)}---|---|",
    ]
    by_repo = results if len(repos) > 1 else {repos[0]: results}
    for name, start in ((n, s) for n, starts in by_repo[repos[0]].items() for s in starts):
        for repo in repos:
            row = by_repo[repo][name][start]
            shown = [f"{row[f'{kind}_seconds']} s {row[f'{kind}_range']}" for kind in ("wall", "cpu")]
            where = f" {repo} |" if len(repos) > 1 else ""
            lines.append(f"| {name} | {start} |{where} {shown[0]} | {shown[1]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("programs", nargs="*", help=f"some of {', '.join(PROGRAMS)}; all by default")
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=1, help="rounds")
    parser.add_argument("--repo", type=Path, nargs="+", default=[], help="other checkouts of funcrl")
    parser.add_argument("--header", action="store_true", help="also with the compiler's header to build")
    given = parser.parse_args()
    if unknown := set(given.programs) - set(PROGRAMS):
        parser.error(f"there are {', '.join(PROGRAMS)}, got {', '.join(unknown)}")
    checkouts = [HERE, *(str(repo.resolve()) for repo in given.repo)]
    found = measure(
        given.lanes,
        given.device,
        given.programs or list(PROGRAMS),
        checkouts,
        given.repeats,
        given.header,
    )
    print(table(found, checkouts))
