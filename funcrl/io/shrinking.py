"""Smaller policies: neurons left out, weights in eight bits, and what either costs."""

from __future__ import annotations

import dataclasses
import itertools
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from funcrl import ops
from funcrl.core import random, tree
from funcrl.core.checks import require
from funcrl.io.exporting import Exported, Lane, experience, open_exported, split_inputs
from funcrl.io.files import write_atomically
from funcrl.train.deployed import play

EPISODES = 100
"""that are played to see what a smaller policy earns"""

_LAYER = re.compile(r"layers\.(\d+)\.(weight|bias)")


def pruned(lane: Lane, share: float) -> Lane:
    """Return an agent without those neurons of its hidden layers that count least.

    A neuron counts as ‖its weights and bias‖₂ · ‖the weights of the next layer that read it‖₂: the most by which its
    output can move what follows, but for the activation. Each layer loses the same share, and its matrices are smaller.

    Args:
        lane: Whose agent.
        share: Of the neurons of each hidden layer, in (0, 1); one at least stays.

    Raises:
        ValueError: When its policy is no chain of fully connected layers.
    """
    require(0.0 < share < 1.0, "export", "--prune", "lie between 0 and 1", share)
    agent, algorithm = lane.agent, lane.run.algorithm
    params: Any = getattr(agent, "params", {})
    place = "['actor']" if "actor" in params else ""
    chain = params["actor"] if place else params
    hold = "be left out for a policy that is no chain of fully connected layers"
    is_chain = isinstance(chain, dict) and bool(chain) and all(_LAYER.fullmatch(str(name)) for name in chain)
    require(is_chain, "export", "--prune", hold, share)
    smaller = _without(chain, share)
    hidden = tuple(x.shape[0] for x in _matrices(smaller)[:-1])
    config = dataclasses.replace(agent.config, hidden=hidden)
    new = tree.map(tree.as_tensor, algorithm.init(random.key(0, "cpu"), config, lane.env))
    known = {path: tree.as_tensor(x) for path, x in tree.named_leaves(agent).items()}
    known |= {f".params{place}['{name}']": x for name, x in smaller.items()}
    # What has another shape now, as critics have, takes no part in acting.
    kept = iter(
        [
            known[path] if path in known and known[path].shape == x.shape else x
            for path, x in tree.named_leaves(new).items()
        ]
    )
    return dataclasses.replace(lane, agent=tree.map(lambda _: next(kept), new))


def _matrices(chain: dict[str, Tensor]) -> list[Tensor]:
    return [chain[name] for name in _ordered(chain) if name.endswith("weight") and chain[name].ndim == 2]


def _ordered(chain: dict[str, Tensor]) -> list[str]:
    return sorted(chain, key=lambda name: (int(_LAYER.fullmatch(name).group(1)), name.endswith("bias")))  # type: ignore[union-attr]


def _without(chain: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return the parameters of a chain of layers in which each hidden one has lost a share of its neurons."""
    found = dict(chain)
    names = _ordered(chain)
    matrices = [name for name in names if name.endswith("weight") and chain[name].ndim == 2]
    for name, following in itertools.pairwise(matrices):
        place = names.index(name)
        inside = names[place : names.index(following)]  # biases, and normalisation between the layers
        rows = torch.cat([found[name], found[f"{name.removesuffix('weight')}bias"].unsqueeze(1)], dim=1)
        counts = rows.norm(dim=1) * found[following].norm(dim=0)
        keep = (
            counts.argsort(descending=True, stable=True)[: max(1, round(len(counts) * (1 - share)))]
            .sort()
            .values
        )
        for each in inside:
            found[each] = found[each][keep]
        found[following] = found[following][:, keep]
    return found


def quantised(lane: Lane, done: Exported, path: Path, *, static: bool) -> Exported:
    """Write a policy with matrix products of eight bits.

    Args:
        lane: Whose it is; where numbers are not rounded as they come, their ranges are what this agent sees.
        done: The policy, in ONNX.
        path: File to write.
        static: Whether activations have fixed ranges too, found beforehand.

    Raises:
        ModuleNotFoundError: Without what the extra `onnx` brings.
    """
    from onnxruntime import quantization  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as folder:
        here, ready = str(Path(folder) / "policy.onnx"), str(Path(folder) / "ready.onnx")
        quantization.quant_pre_process(str(done.path), ready, skip_symbolic_shape=True)
        if static:
            reader = _Reader(done, *experience(lane))
            quantization.quantize_static(
                ready,
                here,
                reader,
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["MatMul", "Gemm", "Conv"],
            )
        else:
            quantization.quantize_dynamic(ready, here, weight_type=quantization.QuantType.QInt8)
        data = Path(here).read_bytes()
    write_atomically(path, data)
    return open_exported(path, done.signature)


class _Reader:
    """What a policy sees, a row at a time, as onnxruntime reads it to find the ranges of activations."""

    def __init__(self, done: Exported, obs: Any, carry: Any) -> None:
        self._names = done.signature.inputs
        inputs = split_inputs(done.signature, obs, carry)
        self._rows = iter(range(len(inputs[0])))
        self._inputs = inputs
        self._free = [name != "key" for name in self._names]

    def get_next(self) -> dict[str, Any] | None:
        row = next(self._rows, None)
        if row is None:
            return None
        pairs = zip(self._names, self._inputs, self._free, strict=True)
        return {name: (x[row : row + 1] if free else x).numpy() for name, x, free in pairs}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.get_next, None)


@dataclass(frozen=True)
class Measured:
    """What a policy in a file is like."""

    name: str
    size: int
    """bytes"""
    latency: float
    """seconds of a call with one observation, the median"""
    returns: Tensor | None
    """`[EPISODES]`; None where the environment cannot be played here"""

    def row(self) -> str:
        """Return it as a line of the table."""
        earned = ""
        if self.returns is not None:
            low, high = ops.bootstrap_interval(random.key(0, "cpu"), self.returns, statistic=ops.mean)
            earned = f"{float(self.returns.mean()):10.1f}  [{float(low):.1f}, {float(high):.1f}]"
        return f"  {self.name:<22}{self.size / 1e3:9.1f}{self.latency * 1e6:12.1f}{earned}"


HEAD = f"  {'':<22}{'kB':>9}{'µs a call':>12}{'return':>10}  95 % interval, {EPISODES} episodes"


def measured(name: str, lane: Lane, done: Exported, calls: int = 1000) -> Measured:
    """Measure a policy in a file.

    Args:
        name: What it is called in the table.
        lane: Whose it is.
        done: The policy.
        calls: Of one observation each, of which the median is taken.
    """
    obs, carry = experience(lane, rows=1)
    inputs = split_inputs(done.signature, obs, carry)
    seconds = []
    for _ in range(calls):
        began = time.perf_counter()
        done.run(*inputs)
        seconds.append(time.perf_counter() - began)
    returns = None
    if lane.plays:
        first = lane.deployed().first_carry(EPISODES)
        structure = first

        def act(obs: Any, key: Tensor, carry: Any) -> tuple[Any, Any]:
            action, *after = done.run(*split_inputs(done.signature, obs, carry, key))
            rest = iter(after)
            return action, tree.map(lambda _: next(rest), structure)

        returns, *_ = play(act, lane.env, EPISODES, 0, lane.limit, lane.env_state, first)
    return Measured(name, done.size, statistics.median(seconds), returns)
