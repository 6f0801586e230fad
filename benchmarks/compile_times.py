"""Cold compile time of each environment's step, 64 environments with autoreset.

python benchmarks/compile_times.py [--device cpu]

An empty compiler cache; the one-time build of the compiler's header is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

SCRIPT = """
import json, time, torch
from funcrl import envs
from funcrl.core import jit, random, tree
from funcrl.envs.checking.elements import draw

jit.jit(lambda x: x + 1)(torch.ones(4, device="{device}"))
seconds = {{}}
for name in envs.REGISTRY:
    env = envs.make(name)
    keys = random.split(random.key(0, "{device}"), 64)
    states = tree.map(lambda x: x.contiguous(), envs.reset_all(env, keys))
    actions = torch.vmap(lambda key: draw(key, env.action_space))(keys)
    step = jit.jit(lambda states, actions, keys: envs.step_all(env, states, actions, keys))
    began = time.perf_counter()
    step(states, actions, keys)
    seconds[name] = round(time.perf_counter() - began, 1)
print(json.dumps(seconds))
"""


def measure(device: str) -> dict[str, float]:
    """Return seconds to the first step by environment, in a process of its own."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(device=device)],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache},
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    for name, value in measure(parser.parse_args().device).items():
        print(f"{name:<26}{value:>6.1f} s")
