"""What holds for a whole process of tests.

torch and funcrl are imported where they are used: the process that only shares out tests to others does without them.
"""

import functools
import gc
import os

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    import torch

    # One test process a core: threads of their own would wait for each other's cores, which costs far
    # more than they gain. The variable is for the processes that tests start.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

# Time says nothing here: the first example of a process pays for imports, and other work may keep the core.
hypothesis.settings.register_profile("funcrl", deadline=None)
hypothesis.settings.load_profile("funcrl")


# All that torch has imported and pytest has collected stays until the end, and need not be searched for garbage again and again.
gc.set_threshold(50_000, 20, 50)


def pytest_collection_finish():
    """See above."""
    gc.collect()
    gc.freeze()


def pytest_collectstart(collector):
    """What a file of tests draws from torch's own state while it is read, or a test while it runs, is the same each time."""
    if isinstance(collector, pytest.Module):
        import torch

        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _same_draws():
    """See above; `torch.manual_seed` goes on to ask for other devices, which takes longer than many a test."""
    import numpy as np
    import torch

    torch.default_generator.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def operators_read_once():
    """For tests that write ONNX: which operators it has is read from the sources of all of them once, not at each export.

    torch asks for them by a function of onnxscript that is there for torch. Where another version asks otherwise, nothing is kept.
    """
    from torch.onnx._internal import _lazy_import

    with pytest.MonkeyPatch.context() as patch:
        asked = getattr(_lazy_import, "onnxscript_apis", None)
        if hasattr(asked, "get_torchlib_ops"):
            patch.setattr(asked, "get_torchlib_ops", functools.cache(asked.get_torchlib_ops), raising=False)
        yield


@pytest.fixture(autouse=True)
def _small_programs(request, monkeypatch):
    """One step a program where the real compiler runs, two where it does not: more in a row are the same code again.

    Tests of how many programs there are, and of how their steps draw, keep the number of steps that users have.
    """
    if request.node.get_closest_marker("unrolled") and not request.node.get_closest_marker("compiled"):
        return
    from funcrl.train import collect, online

    for loop in (collect, online):
        monkeypatch.setattr(loop, "MAX_UNROLL", 1 if request.node.get_closest_marker("compiled") else 2)
