"""Replay buffers: pure `(init, add, sample)` over a preallocated pytree, one lane at a time."""

from funcrl.buffers import uniform

__all__ = ["uniform"]
