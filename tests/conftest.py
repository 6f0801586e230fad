"""What holds for a whole process of tests."""

import os

import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    # One test process a core: threads of their own would wait for each other's cores, which costs far
    # more than they gain. The variable is for the processes that tests start.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
