"""Run the tests that need the device, then every benchmark, and write one file of results.

    python benchmarks/run.py                    # this CPU
    python benchmarks/run.py --device cuda      # a GPU: its tests first
    python benchmarks/run.py --only bandits     # one part anew; the others stay as the file has them
    python benchmarks/run.py --only learning --rows 'dqn/*'      # some rows of what is learnt, likewise

The file has the machine, the versions and the date; a short table is printed at the end.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bandits
import compile_times
import learning
import peers
import peers_learning
import startup
import torch
import tracking

import funcrl

HERE = Path(__file__).parent


def machine(device: str) -> dict[str, Any]:
    """Say what the figures were measured on."""
    cpu = platform.processor() or "unknown"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "funcrl": funcrl.__version__,
    }


def speed(device: str) -> list[dict[str, Any]]:
    """Run the benchmarks of speed and return a row for each."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        names = ("test_speed.py", "test_environments.py", "test_buffers.py", "test_compiling.py")
        files = [str(HERE / name) for name in names]
        command = [sys.executable, "-m", "pytest", "-q", *files, "--device", device]
        subprocess.run([*command, f"--benchmark-json={report}", "--benchmark-quiet"], check=True)
        found = json.loads(report.read_text())["benchmarks"]
    return [
        {
            "name": item["name"].removeprefix("test_"),
            "median_us": round(item["stats"]["median"] * 1e6, 1),
            **{rate: round(value) for rate, value in item["extra_info"].items()},
        }
        for item in found
    ]


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--out", type=Path, default=None, help="file; benchmarks/results/ by default")
    names = ("speed", "seconds_to_first_update", "seconds_to_compile_a_step", "learning", "bandits")
    names = (*names, "peers", "peers_learning", "compiled")
    parser.add_argument("--only", nargs="+", choices=names, help="parts to measure; all by default")
    parser.add_argument("--rows", nargs="+", default=[], help="of learning; all by default")
    given = parser.parse_args()
    rows = learning.matching(given.rows)
    if given.device.startswith("cuda"):
        tests = [sys.executable, "-m", "pytest", "-q", str(HERE.parent / "tests"), "-k", "gpu", "-rs"]
        subprocess.run(tests, check=True)
    parts: dict[str, Callable[[], Any]] = {
        "speed": lambda: speed(given.device),
        "seconds_to_first_update": lambda: startup.measure(given.seeds, given.device),
        "seconds_to_compile_a_step": lambda: compile_times.measure(given.device),
        "learning": lambda: [learning.measure(row, list(range(given.seeds)), given.device) for row in rows],
        "bandits": lambda: bandits.measure(1000, 10_000, given.device),
        "peers": lambda: peers.measure(list(peers.GROUPS), 5, 3.0, given.device),
        "peers_learning": lambda: peers_learning.measure(
            list(peers_learning.ROWS), given.seeds, os.cpu_count() or 1, given.device
        ),
        "compiled": tracking.measure,
    }
    here = machine(given.device)
    label = "cpu" if given.device == "cpu" else here["gpu"].replace(" ", "-").lower()
    out = given.out or HERE / "results" / f"{here['date']}-{label}.json"
    results = json.loads(out.read_text()) if given.only and out.exists() else {}
    before = {row["row"]: row for row in results.get("learning", [])}
    results |= {"machine": here} | {name: parts[name]() for name in given.only or parts}
    if "learning" in results:
        found = before | {row["row"]: row for row in results["learning"]}
        results["learning"] = [found[row] for row in learning.ROWS if row in found]
    out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    show(results)
    print(f"\nwrote {out}")


def show(results: dict[str, Any]) -> None:
    """Print what was measured, as a short table."""
    print(f"\n{results['machine']}\n")
    for item in results.get("speed", []):
        rates = ", ".join(f"{value:,} {name}" for name, value in item.items() if name.endswith("_per_second"))
        print(f"{item['name']:<44}{item['median_us']:>12,.1f} µs   {rates}")
    if "seconds_to_first_update" in results:
        print(f"\n{startup.table(results['seconds_to_first_update'], [startup.HERE])}")
    if "seconds_to_compile_a_step" in results:
        print(f"\nseconds_to_compile_a_step: {results['seconds_to_compile_a_step']}")
    for name, figures in results.get("bandits", {}).items():
        print(f"\n{name}: {figures}")
    if "learning" in results:
        print(f"\n{learning.table(results['learning'])}")
    if "peers" in results:
        print(f"\n{peers.table(results['peers'])}")
    if "peers_learning" in results:
        print(f"\n{results['peers_learning']}")
    if "compiled" in results:
        print(f"\n{tracking.table(results['compiled'], json.loads(tracking.BASELINE.read_text()))}")


if __name__ == "__main__":
    main()
