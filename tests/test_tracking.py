"""What is compiled stays as `benchmarks/baseline.json` says; a run there explains the figures.

Where a change is meant: `python benchmarks/tracking.py --update`, and commit the file with the reason.
"""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from funcrl.core import jit

FOLDER = Path(__file__).parent.parent / "benchmarks"
_spec = importlib.util.spec_from_file_location("tracking", FOLDER / "tracking.py")
tracking = importlib.util.module_from_spec(_spec)
sys.modules["tracking"] = tracking  # dataclasses look their module up
_spec.loader.exec_module(tracking)
BASELINE = json.loads(tracking.BASELINE.read_text())

# Another torch may write operations in other ways; what the figures hold against is one version's.
known_torch = pytest.mark.skipif(
    torch.__version__.partition("+")[0] != BASELINE["torch"],
    reason=f"the baseline is torch {BASELINE['torch']}'s",
)


@known_torch
@pytest.mark.unrolled
@pytest.mark.parametrize("name", list(tracking.CASES))
def test_programs_are_as_the_baseline_says(name):
    found = tracking.traced(tracking.CASES[name])
    assert not tracking.differences(found, BASELINE["traced"][name])


@known_torch
@pytest.mark.compiled
@pytest.mark.parametrize("name", list(BASELINE["compiled"]))
def test_compiled_programs_are_as_the_baseline_says(name):
    found = tracking.compiled(tracking.CASES[name])
    assert not tracking.differences(found, BASELINE["compiled"][name])


def test_every_case_is_in_the_baseline():
    assert BASELINE["traced"].keys() == tracking.CASES.keys()
    assert BASELINE["compiled"].keys() == {n for n, case in tracking.CASES.items() if case.compiled}


def programs(function, *calls, donate=()):
    with tracking.watched() as found:
        program = jit.jit(function, donate=donate, backend="aot_eager")
        for arguments in calls:
            program(*arguments)
    return found


def write(buffer, row):
    """Put a row at the beginning."""
    return torch.index_put(buffer, (torch.zeros((), dtype=torch.int64),), row)


def test_a_recompilation_turns_up():
    expected = programs(write, (torch.zeros(4, 2), torch.ones(2)), (torch.zeros(4, 2), torch.ones(2)))
    again = programs(write, (torch.zeros(4, 2), torch.ones(2)), (torch.zeros(5, 2), torch.ones(2)))
    assert list(expected) == ["write"]
    (line,) = tracking.differences(again, expected)
    assert line.startswith("write 2: a program that was not there")


def test_a_lost_donation_turns_up():
    arguments = torch.zeros(4, 2), torch.ones(2)
    expected, lost = programs(write, arguments, donate=(0,)), programs(write, arguments)
    assert {"write: written_bytes is 0, was 32", "write: returned_bytes is 32, was 0"} <= set(
        tracking.differences(lost, expected)
    )


def test_a_copy_between_arguments_turns_up():
    def swap(pair):
        return pair[::-1]

    def keep(pair):
        return pair

    found = programs(swap, ((torch.zeros(4), torch.ones(4)),), donate=(0,))
    assert found["swap"]["copied_bytes"] == 32
    assert programs(keep, ((torch.zeros(4), torch.ones(4)),), donate=(0,))["keep"]["copied_bytes"] == 0


def test_a_program_twice_as_large_turns_up():
    def work(x):
        for _ in range(repeats):
            x = x.sin()
        return x

    repeats = 10
    expected = programs(work, (torch.zeros(4),))
    repeats = 20
    (line,) = tracking.differences(programs(work, (torch.zeros(4),)), expected)
    assert line == f"work: operations is 20, was {expected['work']['operations']}"


@pytest.mark.compiled
def test_a_buffer_that_the_compiler_copies_turns_up():
    with tracking.watched(("write",)) as found:
        jit.jit(write)(torch.zeros(1000, 2), torch.ones(2))
    assert found["write"]["allocated_bytes"] == 8000
