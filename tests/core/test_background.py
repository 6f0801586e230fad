"""Work done beforehand by a child: the result, the child's silence, and what goes wrong."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from funcrl.core import background


@pytest.fixture(params=[1, 2], ids=["one core", "two cores"], autouse=True)
def cores(request, monkeypatch):
    monkeypatch.setattr(background, "num_cores", lambda: request.param)
    return request.param


def test_the_result_is_that_of_the_work():
    assert background.beforehand(lambda: 42)() == 42


@pytest.mark.skipif(sys.platform != "linux", reason="children are made on Linux")
def test_the_work_is_done_by_a_child_before_anybody_waits(tmp_path, cores):
    def work():
        (tmp_path / str(os.getpid())).touch()

    finish = background.beforehand(work)
    limit = time.monotonic() + 20
    while cores == 2 and not any(tmp_path.iterdir()) and time.monotonic() < limit:
        time.sleep(0.01)
    finish()
    assert len(list(tmp_path.iterdir())) == cores
    assert (tmp_path / str(os.getpid())).exists()


def test_an_error_is_raised_here_and_the_child_says_nothing(capfd):
    def work():
        print("a word")
        raise ValueError("it cannot be done")

    finish = background.beforehand(work)
    with pytest.raises(ValueError, match="it cannot be done"):
        finish()
    assert capfd.readouterr().out.count("a word") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="children are made on Linux")
@pytest.mark.parametrize("cores", [2], indirect=True)  # of this process; the script has two in any case
def test_children_end_with_the_process(cores):
    """Whether it comes to its end or is killed; both are copies of one process, for which torch is imported once."""
    script = """
import os, signal, time
from funcrl.core import background
background.num_cores = lambda: 2
for end in ("of itself", "killed"):
    if os.fork() == 0:
        background.beforehand(lambda: time.sleep(60))
        print(*background._running, flush=True)
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise SystemExit
    os.wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    children = [int(word) for word in done.stdout.split()]
    assert len(children) == 2
    limit = time.monotonic() + 10
    while any(map(is_running, children)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(map(is_running, children))


def is_running(child):
    try:
        state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
