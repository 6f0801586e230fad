"""The device to measure on: `pytest benchmarks --device cuda`."""

import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="cpu or cuda")


@pytest.fixture(scope="session")
def device(request):
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def measure(benchmark, device):
    """Time a call without arguments after warming up, and put rates into `extra_info`."""

    def run(call, rounds=20, **amounts):
        def synchronised():
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        benchmark.pedantic(synchronised, rounds=rounds, iterations=1, warmup_rounds=5)
        for name, amount in amounts.items():
            benchmark.extra_info[f"{name}_per_second"] = amount / benchmark.stats["median"]

    return run
