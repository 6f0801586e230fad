"""What holds for a whole process of tests."""

import os

import hypothesis
import pytest
import torch

from funcrl.train import collect, online

if "PYTEST_XDIST_WORKER" in os.environ:
    # One test process a core: threads of their own would wait for each other's cores, which costs far
    # more than they gain. The variable is for the processes that tests start.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

# Time says nothing here: the first example of a process pays for imports, and other work may keep the core.
hypothesis.settings.register_profile("funcrl", deadline=None)
hypothesis.settings.load_profile("funcrl")


@pytest.fixture(autouse=True)
def _small_programs(request, monkeypatch):
    """One step a program: several in a row, as users have them, are the same code again."""
    if not request.node.get_closest_marker("as_users_have_it"):
        for loop in (collect, online):
            monkeypatch.setattr(loop, "MAX_UNROLL", 1)
