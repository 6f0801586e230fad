"""What holds for a whole process of tests."""

import os

import pytest
import torch

from funcrl.train import collect, online

if "PYTEST_XDIST_WORKER" in os.environ:
    # One test process a core: threads of their own would wait for each other's cores, which costs far
    # more than they gain. The variable is for the processes that tests start.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _small_programs(request, monkeypatch):
    """One step a program where the real compiler runs: several in a row are the same code again.

    Tests that only trace keep the number of steps that users have.
    """
    if request.node.get_closest_marker("compiled"):
        for loop in (collect, online):
            monkeypatch.setattr(loop, "MAX_UNROLL", 1)
