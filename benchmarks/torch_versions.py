"""The quick tests, and three short runs, under several versions of torch.

    python benchmarks/torch_versions.py 2.11.0 2.13.0 newest
    python benchmarks/torch_versions.py 2.11.0 --python /path/to/venv/bin/python      # one that is installed

Each version gets a virtual environment of its own in `--folder` (kept, so that a second time takes no
downloads; a version of torch with CUDA takes some 6 GB) and an empty compiler cache. The table says what
failed, what funcrl warned about, and whether the returns of PPO, DQN and Q-learning are those of the
first version, to the last digit.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
QUICK = [
    "tests/core",
    "tests/ops",
    "tests/optim",
    "tests/nets",
    "tests/train/test_train.py",
]
RUNS = {
    "ppo": ("CartPole-v1", 20_480),
    "dqn": ("CartPole-v1", 12_000),
    "q_learning": ("CliffWalking-v1", 3_000),
}
SCRIPT = """
import sys, torch
from funcrl.train import train
result = train(sys.argv[1], sys.argv[2], seeds=range(4), num_steps=int(sys.argv[3]), processes=1)
print("RETURNS", result.final_returns().tolist())
"""


def environment(version: str, folder: Path) -> str:
    """Return the Python of a virtual environment with a version of torch, made where it is missing."""
    place = folder / f"torch-{version}"
    python = str(place / "bin" / "python")
    if not place.exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        torch = "torch" if version == "newest" else f"torch=={version}"
        subprocess.run([python, "-m", "pip", "install", "-q", "--upgrade", torch], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-e", f"{HERE}[dev]"], check=True)
    return python


def measure(python: str, cache: str) -> dict[str, str]:
    """Return what one version makes of it, by column."""
    variables = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache, "PYTHONPATH": str(HERE)}

    def output(*command: str) -> str:
        done = subprocess.run(
            [python, *command],
            cwd=HERE,
            env=variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return done.stdout

    row = {"torch": output("-c", "import torch; print(torch.__version__)").strip()}
    tests = output("-m", "pytest", "-q", "-n", "auto", *QUICK)
    row["tests"] = tests.strip().splitlines()[-1].strip("= ")
    row["failed"] = ", ".join(re.findall(r"^(?:FAILED|ERROR) (\S+)", tests, re.MULTILINE)) or "–"
    for name, (env, steps) in RUNS.items():
        said = output("-c", SCRIPT, name, env, str(steps))
        found = re.search(r"RETURNS (.*)", said)
        row[name] = hashlib.sha256(found[1].encode()).hexdigest()[:8] if found else said.strip()[-200:]
        if "is not a version that funcrl knows" in said:
            row[name] += " (by torch.compile)"
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("versions", nargs="*", default=["2.11.0", "2.13.0", "newest"], help="of torch")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "funcrl-torch-versions")
    parser.add_argument(
        "--python", nargs="+", default=[], help="Pythons that have torch and funcrl's extra dev"
    )
    given = parser.parse_args()
    pythons = given.python or [environment(version, given.folder) for version in given.versions]
    rows = []
    for python in pythons:
        with tempfile.TemporaryDirectory() as cache:
            rows.append(measure(python, cache))
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")
