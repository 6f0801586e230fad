"""Seconds to trace the programs of a small run, with their counts beside; see `tracking.py`.

    pytest benchmarks/test_compiling.py --benchmark-columns=median,iqr

`python benchmarks/compare.py REVISION test_compiling.py` compares tracing with another revision.
"""

import pytest
import tracking


@pytest.mark.benchmark(group="tracing")
@pytest.mark.parametrize("name", list(tracking.CASES))
def test_tracing(benchmark, name):
    found = benchmark.pedantic(lambda: tracking.traced(tracking.CASES[name]), rounds=3)
    benchmark.extra_info["programs"] = len(found)
    for figure in ("operations", *tracking.EXACT):
        benchmark.extra_info[figure] = sum(figures[figure] for figures in found.values())
