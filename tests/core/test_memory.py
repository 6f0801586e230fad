"""Freed memory is kept, unless the environment says otherwise; the collector rests while programs are made."""

import contextlib
import functools
import gc
import os
import subprocess
import sys

import pytest

from funcrl.core import memory

SCRIPT = f"""
import atexit, gc, importlib.util, resource
spec = importlib.util.spec_from_file_location("memory", {memory.__file__!r})  # alone: torch takes seconds to import
memory = importlib.util.module_from_spec(spec)
spec.loader.exec_module(memory)
atexit.register(lambda: print(gc.get_freeze_count() > 0))  # runs after what was registered later
kept = memory.keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    for _ in range(50):
        b"x" * 4_000_000  # freed at once: a thousand pages
work()
before = faults()
work()
print(kept, faults() - before)
with memory.without_collection():
    pass
"""


@functools.cache
def run(**variables):
    """What a process says that frees memory, and that compiles, or as good as."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=os.environ | variables
    )
    kept, faults, frozen = done.stdout.split()
    return kept == "True", int(faults), frozen == "True"


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked")
def test_pages_are_used_again():
    kept, faults, _ = run()
    if not kept:
        pytest.skip("this C library cannot be asked")
    assert faults < 1000


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked")
def test_the_environment_has_the_last_word():
    kept, faults, _ = run(MALLOC_MMAP_THRESHOLD_="131072")
    assert not kept
    assert faults > 10_000


def test_the_collector_rests_and_is_as_it_was_afterwards():
    assert gc.isenabled()
    with contextlib.suppress(ValueError), memory.without_collection():
        assert not gc.isenabled()
        raise ValueError("whatever goes wrong")
    assert gc.isenabled()
    gc.disable()
    try:
        with memory.without_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_process_that_compiled_does_not_collect_at_its_end():
    *_, frozen = run()
    assert frozen
