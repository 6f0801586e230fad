"""Gradient transformations as pairs of pure functions.

`optimizer.init(params) -> state` and `optimizer.update(grads, state, params) -> (updates, state)`;
`apply(params, updates)` adds the updates. Every number of an optimiser may be a tensor, so a
learning rate can differ between lanes and change from step to step without a new program.
"""

from funcrl.optim import descending
from funcrl.optim.paths import factor, listed, matching, merge, names_of, partition, scale_by_path, without
from funcrl.optim.transforms import (
    Optimizer,
    adam,
    apply,
    chain,
    clip_by_global_norm,
    global_norm,
    polyak,
    radam,
    rmsprop,
    sgd,
)

__all__ = [
    "Optimizer",
    "adam",
    "apply",
    "chain",
    "clip_by_global_norm",
    "descending",
    "factor",
    "global_norm",
    "listed",
    "matching",
    "merge",
    "names_of",
    "partition",
    "polyak",
    "radam",
    "rmsprop",
    "scale_by_path",
    "sgd",
    "without",
]
