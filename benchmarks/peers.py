"""funcrl beside other libraries: steps per second with learning, in one run on one machine.

    python benchmarks/peers.py                                # PPO, DQN and SAC, at 1 and 16 lanes, on one core
    python benchmarks/peers.py sac_updates --lanes 1 16 64    # gradient steps alone, compiled and eager
    python benchmarks/peers.py sac_mujoco --lanes 1 2         # HalfCheetah on the host (extra mujoco)
    python benchmarks/peers.py ppo --lanes 1 16 64 --seconds 5
    python benchmarks/peers.py ppo --cores 0 1                # a process on each core, rates added up
    python benchmarks/peers.py ppo --repo ../other-checkout   # another checkout's funcrl beside this one's

Needs the extra `peers`. PPO, config P, beside Rejax (JAX) at as many lanes and stable-baselines3 at one;
DQN beside stable-baselines3; SAC on Pendulum beside both, at two sizes of networks. Each system is a process of its own, with one thread, on one core, the same
for all; it compiles once, and then all take short turns on that core, `--repeats` rounds of them (see
`turns.py`). Two ratios to the reference are given, each the median over rounds of what was measured
within one round, with the lowest and the highest: of steps per second, and of steps per second of CPU
time, which does not see what else runs on that core. Then everyone trains on to as many steps a lane
(`--learn`, 0 for not), and the table says what each has learnt: the interquartile mean over lanes of
what a lane's policy earns. What the settings share and where they differ is in `peers_ppo.py`, `peers_dqn.py`
and `peers_sac.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import peers_dqn
import peers_sac
import torch
from peers_ppo import NUM_STEPS
from turns import Worker, ask, available_cores

import funcrl
from funcrl import ops

HERE = str(Path(funcrl.__file__).parent.parent)
LANES = (1, 16)
DISTRIBUTIONS = {"stable_baselines3": "stable-baselines3", "rejax": "rejax"}
GROUPS = {
    "ppo": ("ppo",),
    "dqn": tuple(f"dqn, {name}" for name in peers_dqn.SETTINGS),
    "sac": tuple(f"sac, {width}" for width in peers_sac.WIDTHS),
    "sac_updates": (f"sac, {peers_sac.UPDATES}",),
    "sac_mujoco": (f"sac, {peers_sac.MUJOCO}",),
}
"""what a person asks for, and the tables that it makes"""
ALWAYS = ("ppo", "dqn", "sac", "sac_updates")
"""what is measured where nothing is asked for; the others need a simulator"""
REFERENCE = {table: "stable_baselines3" for tables in GROUPS.values() for table in tables} | {"ppo": "rejax"}
BESIDE = {"ppo": "rejax", **dict.fromkeys(GROUPS["sac"], "rejax"), GROUPS["sac_updates"][0]: "funcrl_eager"}
"""who is measured beside funcrl at as many lanes, where anyone is"""
ENVIRONMENTS = {
    name: peers_sac.MUJOCO if peers_sac.MUJOCO in name else "Pendulum-v1" if "sac" in name else "CartPole-v1"
    for name in REFERENCE
}


@dataclass
class Entry:
    """One system at work, a process on each core."""

    system: str
    lanes: int
    """of each process"""
    repo: str
    workers: list[Worker]
    turns: list[dict[str, float]]


def entries(table: str, lanes: Sequence[int], cores: Sequence[int], repos: Sequence[str], device: str) -> Any:
    """Start everyone of a table; the reference comes first."""
    module, _, name = table.partition(", ")
    plan: list[tuple[str, int, str]] = []
    if module != "ppo":
        plan.append(("stable_baselines3", 1, HERE))
    for count in lanes:
        plan += [(BESIDE[table], count, HERE)] if table in BESIDE else []
        plan += [("stable_baselines3", 1, HERE)] if module == "ppo" and count == 1 else []
        plan += [("funcrl", count, repo) for repo in repos]
    started: list[Entry] = []
    for system, count, repo in plan:
        arguments = [system, str(count), device, *([name] if name else [])]
        workers = [Worker(f"peers_{module}", arguments, core, repo, device) for core in cores]
        started.append(Entry(system, count, repo, workers, []))
    return started


def compare(
    table: str,
    lanes: Sequence[int],
    cores: Sequence[int],
    repos: Sequence[str],
    repeats: int,
    seconds: float,
    learn: int,
    device: str,
) -> dict[str, Any]:
    """Return the figures of one table, by who."""
    running = entries(table, lanes, cores, repos, device)
    for _ in range(repeats):
        for entry in running:
            entry.turns.append(rates(ask(entry.workers, "go", seconds)))
    rows = {}
    for entry in running:
        found = figures(entry, reference(table, entry, running))
        if learn and table == "ppo":
            found |= learnt(ask(entry.workers, "learn", learn))
        rows[label(entry, repos, len(cores))] = found
        for worker in entry.workers:
            worker.close()
    return rows


def rates(answers: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return steps per second and per second of CPU time of one turn, over all cores."""
    return {
        "wall": sum(answer["steps"] / answer["seconds"] for answer in answers),
        "cpu": sum(answer["steps"] / answer["cpu_seconds"] for answer in answers),
    }


def reference(table: str, entry: Entry, running: Sequence[Entry]) -> Entry:
    """Return whom an entry is compared with: the reference at as many lanes, or at one."""
    own = [other for other in running if other.system == REFERENCE[table]]
    return next((other for other in own if other.lanes == entry.lanes), own[0])


def figures(entry: Entry, base: Entry) -> dict[str, Any]:
    """Return medians and spreads over the rounds."""
    wall = [turn["wall"] for turn in entry.turns]
    found = {
        "steps_per_second": round(statistics.median(wall)),
        "range": [round(min(wall)), round(max(wall))],
        "compared_with": f"{base.system}, {base.lanes}",
        "start_and_compile_seconds": round(max(worker.start_seconds for worker in entry.workers), 1),
    }
    for kind in ("wall", "cpu"):
        ratios = [one[kind] / other[kind] for one, other in zip(entry.turns, base.turns, strict=True)]
        found[f"times_{kind}"] = round(statistics.median(ratios), 2)
        found[f"times_{kind}_range"] = [round(min(ratios), 2), round(max(ratios), 2)]
    return found


def learnt(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what was learnt, over the lanes of all cores."""
    returns = torch.tensor([value for answer in answers for value in answer["returns"]])
    return {
        "return_iqm": round(float(ops.iqm(returns)), 1),
        "return_range": [round(float(returns.min()), 1), round(float(returns.max()), 1)],
        "steps_of_a_lane": max(answer["steps_of_a_lane"] for answer in answers),
    }


def label(entry: Entry, repos: Sequence[str], cores: int) -> str:
    """Return an entry's name for the table."""
    lanes = f"{entry.lanes} lane{'s' if entry.lanes > 1 else ''}"
    where = f" of {entry.repo}" if len(repos) > 1 and entry.system == "funcrl" else ""
    return f"{entry.system}{where}, {f'{cores} × ' if cores > 1 else ''}{lanes}"


def measure(
    groups: Sequence[str],
    repeats: int,
    seconds: float,
    device: str,
    lanes: Sequence[int] = LANES,
    cores: Sequence[int] | None = None,
    repos: Sequence[str] = (),
    learn: int = NUM_STEPS,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Return all figures, or what to install; each table is said as soon as it is measured."""
    missing = [name for package, name in DISTRIBUTIONS.items() if importlib.util.find_spec(package) is None]
    if missing:
        return {"skipped": f"{', '.join(missing)} not installed: pip install 'funcrl[peers]'"}
    cores = available_cores()[-1:] if cores is None else cores
    versions = {name: metadata.version(name) for name in ("torch", "jax", *DISTRIBUTIONS.values())}
    results: dict[str, Any] = {"versions": versions, "cores": list(cores), "rounds": repeats}
    for name in (table for group in groups for table in GROUPS[group]):
        results[name] = compare(name, lanes, cores, [HERE, *map(str, repos)], repeats, seconds, learn, device)
        say(table({name: results[name]}))
    return results


def table(results: dict[str, Any]) -> str:
    """Return the figures as tables, a row for each contestant."""
    if "skipped" in results:
        return f"peers: {results['skipped']}"
    lines = []
    for name in (name for group in GROUPS.values() for name in group if name in results):
        lines += [
            "",
            f"| {name} on {ENVIRONMENTS[name]} | {'gradient steps' if peers_sac.UPDATES in name else 'steps'}/s, all lanes | lowest to highest | times {REFERENCE[name]} "
            "| the same by CPU time | start and compile | return IQM [lowest, highest] |",
            "|---|---|---|---|---|---|---|",
        ]
        for who, row in results[name].items():
            low, high = row["range"]
            earned = f"{row['return_iqm']} {row['return_range']}" if "return_iqm" in row else "–"
            lines.append(
                f"| {who} | {row['steps_per_second']:,} | {low:,} to {high:,} "
                f"| {row['times_wall']} {row['times_wall_range']} | {row['times_cpu']} {row['times_cpu_range']} "
                f"| {row['start_and_compile_seconds']} s | {earned} |"
            )
    return "\n".join(lines[1:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "groups", nargs="*", help=f"some of {', '.join(GROUPS)}; {', '.join(ALWAYS)} by default"
    )
    parser.add_argument("--lanes", type=int, nargs="+", default=list(LANES))
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn of each contestant")
    parser.add_argument("--cores", type=int, nargs="+", help="a process each; the last one by default")
    parser.add_argument("--repo", type=Path, nargs="+", default=[], help="other checkouts of funcrl")
    parser.add_argument("--learn", type=int, default=NUM_STEPS, help="steps a lane; 0 for only rates")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    for name in ("lanes", "repeats", "seconds"):
        least = min(getattr(given, name)) if name == "lanes" else getattr(given, name)
        if least <= 0:
            parser.error(f"--{name} must be above 0, got {least}")
    if unknown := set(given.cores or []) - set(available_cores()):
        parser.error(f"--cores: there are {available_cores()}, got {sorted(unknown)}")
    if unknown := set(given.groups) - set(GROUPS):
        parser.error(f"there are {', '.join(GROUPS)}, got {', '.join(unknown)}")
    found = measure(
        given.groups or list(ALWAYS),
        given.repeats,
        given.seconds,
        given.device,
        given.lanes,
        given.cores,
        [repo.resolve() for repo in given.repo],
        given.learn,
    )
    if "skipped" in found:
        print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
