"""Whether a run that ranks share out leaves the files of one process, whatever happens to the ranks.

    python benchmarks/ranks.py                     # 1, 2 and 3 ranks, one of them killed, two hosts
    python benchmarks/ranks.py --steps 300k        # a longer run

All ranks are started by torchrun on this machine. Two hosts are two network namespaces that a pair of virtual
interfaces joins, which only root may make: elsewhere that part is skipped. A rank is killed by SIGKILL once it has
written a checkpoint; torchrun ends the others and starts all of them again. Each line says which files differ.
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

import funcrl

FILES = ("returns.csv", "metrics.csv", "metrics.jsonl", "checkpoint/states.safetensors")
NAMESPACES = ("funcrl-a", "funcrl-b")
ADDRESSES = ("10.213.7.1", "10.213.7.2")


def command(words: Sequence[str], ranks: int = 0, launcher: Sequence[str] = ()) -> list[str]:
    """Return how to run `funcrl`, by as many ranks on this host or in this process."""
    if ranks == 0:
        return [sys.executable, "-m", "funcrl", *words]
    each = ["--nproc-per-node", str(ranks), *(launcher or ["--standalone"])]
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *each,
        "--max-restarts",
        "2",
        "-m",
        "funcrl",
        *words,
    ]


def environment() -> dict[str, str]:
    """Return this process's variables, for a package that is not installed too."""
    path = os.pathsep.join([str(Path(funcrl.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


def run(words: list[str], log: Path) -> float:
    """Run a command, all output into a file, and return the seconds that it took."""
    began = time.perf_counter()
    with open(log, "w") as out:
        done = subprocess.run(words, stdout=out, stderr=subprocess.STDOUT, env=environment(), check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\nended with {done.returncode}:\n{log.read_text()[-3000:]}")
    return time.perf_counter() - began


def compared(one: Path, other: Path) -> str:
    """Say which files of two runs differ."""
    differ = [name for name in FILES if not filecmp.cmp(one / name, other / name, shallow=False)]
    return f"DIFFER: {', '.join(differ)}" if differ else "equal"


def killed(words: list[str], folder: Path, log: Path) -> str:
    """Run three ranks, kill one once it has a checkpoint, and say how often torchrun began again."""
    with open(log, "w") as out:
        launched = subprocess.Popen(
            command(words, 3), stdout=out, stderr=subprocess.STDOUT, env=environment()
        )
        heads = f"shards/*/checkpoint/{'[0-9]' * 8}.json"
        while launched.poll() is None and not list(folder.glob(heads)):
            time.sleep(0.05)
        ranks = children(launched.pid)
        victim = ranks[len(ranks) // 2]
        os.kill(victim, signal.SIGKILL)
        status = launched.wait()
    text = log.read_text()
    again = text.count("going on from step")
    return f"ended with {status}; {again} shards went on from a checkpoint"


def children(process: int) -> list[int]:
    """Return a process's children."""
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


@contextlib.contextmanager
def two_hosts() -> Iterator[bool]:
    """Make two network namespaces that see each other; say whether that was allowed."""
    a, b = NAMESPACES
    lines = [f"ip netns add {a}", f"ip netns add {b}"]
    lines += [f"ip link add {a} type veth peer name {b}"]
    for name, address in zip(NAMESPACES, ADDRESSES, strict=True):
        lines += [f"ip link set {name} netns {name}", f"ip -n {name} addr add {address}/24 dev {name}"]
        lines += [f"ip -n {name} link set {name} up", f"ip -n {name} link set lo up"]
    try:
        yield all(
            subprocess.run(line.split(), capture_output=True, check=False).returncode == 0 for line in lines
        )
    except FileNotFoundError:
        yield False
    finally:
        for name in NAMESPACES:
            with contextlib.suppress(FileNotFoundError):
                subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def on_two_hosts(words: list[str], folder: Path) -> float:
    """Run two ranks, each in a namespace of its own, and return the seconds that they took."""
    began = time.perf_counter()
    launched = []
    for number, name in enumerate(NAMESPACES):
        meeting = ["--nnodes", "2", "--node-rank", str(number)]
        meeting += ["--master-addr", ADDRESSES[0], "--master-port", "29411"]
        with open(folder / f"host-{number}.txt", "w") as out:
            line = ["ip", "netns", "exec", name, *command(words, 1, meeting)]
            launched.append(subprocess.Popen(line, stdout=out, stderr=subprocess.STDOUT, env=environment()))
    for number, process in enumerate(launched):
        if process.wait():
            sys.exit((folder / f"host-{number}.txt").read_text()[-3000:])
    return time.perf_counter() - began


def main() -> None:
    """Run everything and print a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--algorithm", default="ppo")
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--seeds", default="16")
    parser.add_argument("--steps", default="100k")
    options = parser.parse_args()
    words = ["train", options.algorithm, options.env, "--seeds", options.seeds, "--steps", options.steps]
    print(f"{' '.join(words)}, torch {torch.__version__}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        alone = here / "alone"
        seconds = run(command([*words, "--processes", "1", "--out", str(alone)]), here / "alone.txt")
        print(f"one process                    {seconds:6.1f} s")
        for ranks in (1, 2, 3):
            out = here / f"ranks-{ranks}"
            seconds = run(command([*words, "--out", str(out)], ranks), here / f"ranks-{ranks}.txt")
            print(
                f"{ranks} rank{'s' if ranks > 1 else ' '}                        {seconds:6.1f} s  {compared(alone, out)}"
            )
        out = here / "killed"
        how = killed([*words, "--out", str(out), "--checkpoint-every", "0.5"], out, here / "killed.txt")
        print(f"3 ranks, one killed                      {compared(alone, out)}; {how}")
        with two_hosts() as allowed:
            if not allowed:
                print(
                    "two hosts                                skipped: network namespaces are not allowed here"
                )
                return
            out = here / "hosts"
            seconds = on_two_hosts([*words, "--out", str(out)], here)
            print(f"2 hosts, a rank on each        {seconds:6.1f} s  {compared(alone, out)}")


if __name__ == "__main__":
    main()
