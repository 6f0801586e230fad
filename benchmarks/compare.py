"""Two revisions of this repository on the same benchmarks, in turns, as ratios.

    python benchmarks/compare.py HEAD~1                          # test_speed.py, the working tree beside it
    python benchmarks/compare.py v0.1.0 test_buffers.py --rounds 5 -k "add and not copy"

The other revision is checked out into a temporary folder. Each round runs the benchmarks once with its
funcrl and once with the working tree's, so that what the machine does meanwhile falls on both. Both run
the working tree's benchmarks: what is compared is the library. A ratio above 1 means that the working
tree is faster. Where lowest and highest lie on both sides of 1, nothing was shown; with one round, neither.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
SUITES = ("test_speed.py",)
CLEAR = (0.98, 1.02)
"""a change is named where the ratios of all rounds are on one side of these"""


def times(checkout: Path, suites: Sequence[str], options: Sequence[str]) -> dict[str, float]:
    """Return the median seconds of each benchmark with a checkout's funcrl."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        files = [str(HERE / suite) for suite in suites]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, *options]
        command += [f"--benchmark-json={report}", "--benchmark-quiet", f"--rootdir={HERE}", "-p", "no:xdist"]
        done = subprocess.run(
            command,
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout)},
            stdout=subprocess.PIPE,
            text=True,
        )
        # 1: some benchmarks failed, for instance because a revision lacks what they measure.
        if done.returncode not in (0, 1) or not report.exists():
            raise SystemExit(
                f"compare: pytest ended with status {done.returncode} in {checkout}.\n{done.stdout}"
            )
        found = json.loads(report.read_text())["benchmarks"]
    return {item["name"]: item["stats"]["median"] for item in found}


def compare(
    revision: str, suites: Sequence[str], rounds: int, options: Sequence[str]
) -> dict[str, list[tuple[float, float]]]:
    """Return seconds before and now by benchmark, a pair for each round."""
    git = ["git", "-C", str(HERE.parent), "worktree"]
    pairs: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "revision"
        subprocess.run([*git, "add", "--detach", "--quiet", str(other), revision], check=True)
        try:
            for _ in range(rounds):
                before, now = (times(checkout, suites, options) for checkout in (other, HERE.parent))
                for name in before.keys() & now.keys():
                    pairs.setdefault(name, []).append((before[name], now[name]))
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], check=True)
    return pairs


def table(pairs: dict[str, list[tuple[float, float]]], revision: str) -> str:
    """Return the figures as a table, the largest change first."""
    rows = []
    for name, found in pairs.items():
        ratios = sorted(before / now for before, now in found)
        before, now = (statistics.median(side) * 1e6 for side in zip(*found, strict=True))
        rows.append((statistics.median(ratios), ratios[0], ratios[-1], name, before, now))
    lines = [
        f"| benchmark | {revision}, µs | here, µs | times as fast [lowest, highest] | |",
        "|---|---|---|---|---|",
    ]
    for middle, low, high, name, before, now in sorted(rows):
        verdict = "slower" if high < CLEAR[0] else "faster" if low > CLEAR[1] else ""
        lines.append(
            f"| {name.removeprefix('test_')} | {before:,.1f} | {now:,.1f} "
            f"| {middle:.2f} [{low:.2f}, {high:.2f}] | {verdict} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("revision", help="a commit, a branch or a tag")
    parser.add_argument("suites", nargs="*", default=list(SUITES), help="files of this folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-k", dest="some", help="which benchmarks, as pytest understands it")
    given = parser.parse_args()
    chosen = ["--device", given.device, *(["-k", given.some] if given.some else [])]
    print(table(compare(given.revision, given.suites, given.rounds, chosen), given.revision))
