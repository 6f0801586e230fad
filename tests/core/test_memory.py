"""Freed memory is kept, unless the environment says otherwise."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from funcrl.core import memory
kept = memory.keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    for _ in range(50):
        torch.empty(1_000_000).fill_(1.0)  # four megabytes, freed at once: a thousand pages
work()
before = faults()
work()
print(kept, faults() - before)
"""


def run(**variables):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=os.environ | variables
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked")
def test_pages_are_used_again():
    kept, faults = run()
    if not kept:
        pytest.skip("this C library cannot be asked")
    assert faults < 1000


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked")
def test_the_environment_has_the_last_word():
    kept, faults = run(MALLOC_MMAP_THRESHOLD_="131072")
    assert not kept
    assert faults > 10_000
