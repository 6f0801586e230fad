"""Time from starting Python to the end of the first training iteration, with a cold and a warm cache.

python benchmarks/startup.py [--lanes 16] [--device cpu]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

SCRIPT = """
from funcrl import envs
from funcrl.algos import ppo
from funcrl.train import OnPolicyRun
OnPolicyRun(ppo, envs.make("CartPole-v1"), ppo.Config(), range({lanes}), device="{device}").iterate()
"""


def measure(lanes: int, device: str) -> dict[str, float]:
    """Return seconds to the first update, `cold` and `warm`, each in a process of its own."""
    seconds = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold", "warm"):
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", SCRIPT.format(lanes=lanes, device=device)],
                check=True,
                env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache},
            )
            seconds[name] = round(time.perf_counter() - began, 1)
    return seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    for name, value in measure(given.lanes, given.device).items():
        print(f"{name}: {value} s")
