"""Replay buffers: pure `(init, add, sample)` over a preallocated pytree, one lane at a time."""

from funcrl.buffers import frames, memory, prioritised, sequence, uniform
from funcrl.buffers.ring import Replay, check_storage

__all__ = ["Replay", "check_storage", "frames", "memory", "prioritised", "sequence", "uniform"]
