"""Bytes are counted before they are taken, and refused where there are too few."""

import re

import pytest
import torch

from funcrl.algos import dqn
from funcrl.buffers import memory, prioritised, uniform
from funcrl.core import tree
from tests.buffers import steps

CPU = torch.device("cpu")
EXAMPLE = tree.index(steps.window(steps.plain(1, 2)), 0)


@pytest.mark.parametrize("buffers", [uniform, prioritised])
@pytest.mark.parametrize("storage", [None, {"obs": torch.uint8}])
def test_bytes_are_those_of_the_buffer(buffers, storage):
    buffer = buffers.init(EXAMPLE, 3000, storage)
    expected = sum(leaf.untyped_storage().nbytes() for leaf in tree.leaves(buffer))
    assert memory.lane_bytes(lambda example: buffers.init(example, 3000, storage), EXAMPLE) == expected


def test_nothing_is_allocated():
    a_step = 2 * (8 + 8 + 4 + 1 + 1 + 8)
    assert memory.lane_bytes(lambda example: uniform.init(example, 10**15), EXAMPLE) == a_step * 10**15 + 8


def settings(buffer_size, num_envs=1, storage=""):
    return dqn.Config(
        buffer_size=buffer_size, num_envs=num_envs, storage=storage, batch_size=1, window_length=1
    )


def test_what_fits_passes(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 1000)
    memory.check_memory("train", 90, 10, settings(500), CPU)
    monkeypatch.setattr(memory, "available", lambda device: None)
    memory.check_memory("train", 10**30, 10, settings(500), CPU)


def test_what_does_not_fit_is_refused_with_what_to_lower(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 8_000_000_000)
    with pytest.raises(ValueError, match="buffer_size must fit in memory") as error:
        memory.check_memory("train", 1_000_000_000, 16, settings(100_000), CPU)
    assert str(error.value) == (
        "train: buffer_size must fit in memory (8.0 GB are free on cpu), got 100000. That takes 1.0 GB a "
        "lane, 16.0 GB for 16 lanes. Lower buffer_size to 45000 or lanes_per_group to 7. Observations take "
        "less in a smaller dtype: storage='uint8' holds whole numbers up to 255, 'float16' and 'bfloat16' "
        "hold others with less precision."
    )
    memory.check_memory("train", 450_000_000, 16, settings(45_000), CPU)
    memory.check_memory("train", 1_000_000_000, 7, settings(100_000), CPU)


def test_what_is_offered_can_be_written(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 7_000_000_000)
    with pytest.raises(ValueError, match="buffer_size must fit in memory") as error:
        memory.check_memory("train", 1_000_000_000, 16, settings(102_400, 64, "uint8"), CPU)
    offered = int(re.findall(r"Lower buffer_size to (\d+) or", str(error.value))[0])
    assert 40_000 < settings(offered, 64).buffer_size < 41_000
    assert "storage" not in str(error.value)


def test_no_lower_number_is_offered_where_none_fits(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 100)
    with pytest.raises(ValueError, match=r"lanes\. Observations take less") as error:
        memory.check_memory("train", 1000, 16, settings(10), CPU)
    assert "Lower" not in str(error.value)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A made-up /proc and /sys/fs/cgroup: write(path, text)."""
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_OWN_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "sys")

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("meminfo", "MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    return write


def group(write, folder, names, numbers):
    limit, usage, cache = names
    most, used, cached = numbers
    write(f"sys/{folder}/{limit}", f"{most}\n")
    write(f"sys/{folder}/{usage}", f"{used}\n")
    write(f"sys/{folder}/memory.stat", f"anon 1\n{cache} {cached}\nactive_file 7\n")


SECOND = ("memory.max", "memory.current", "inactive_file")
FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def test_the_kernels_estimate(machine):
    assert memory.available(CPU) == 5000 * 1024


def test_no_limit(machine):
    machine("cgroup", "0::/job\n")
    group(machine, "job", SECOND, ("max", 10, 0))
    assert memory.available(CPU) == 5000 * 1024


def test_a_container(machine):
    """The second version, seen from inside: the path is the host's, the files lie at the root."""
    machine("cgroup", "0::/kubepods/some\n")
    group(machine, ".", SECOND, (1_000_000, 400_000, 50_000))
    assert memory.available(CPU) == 650_000


def test_the_tightest_group_above_counts(machine):
    machine("cgroup", "0::/job/step\n")
    group(machine, "job/step", SECOND, (2_000_000, 0, 0))
    group(machine, "job", SECOND, (1_000_000, 900_000, 0))
    assert memory.available(CPU) == 100_000


def test_a_group_that_uses_more_than_its_limit(machine):
    machine("cgroup", "0::/job\n")
    group(machine, "job", SECOND, (1000, 2000, 0))
    assert memory.available(CPU) == 0


def test_the_first_version(machine):
    machine("cgroup", "5:cpu,cpuacct:/\n4:hugetlb,memory:/job\n0::/\n")
    group(machine, "memory/job", FIRST, (1_000_000, 300_000, 100_000))
    assert memory.available(CPU) == 800_000


def test_a_system_that_says_nothing(machine, monkeypatch):
    monkeypatch.setattr(memory, "_MEMINFO", memory._MEMINFO / "missing")
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert memory.available(CPU) == 40_960

    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr(memory.os, "sysconf", unknown)
    assert memory.available(CPU) is None


def test_a_gpu_offers_what_torch_keeps_for_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    assert memory.available(torch.device("cuda")) == 1200
