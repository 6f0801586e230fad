"""Equations: tensors in, tensors out, each with its source."""

from funcrl.ops.distributions import (
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    normal_entropy,
    normal_log_prob,
)
from funcrl.ops.returns import discounted_return, gae, lambda_return
from funcrl.ops.statistics import bootstrap_interval, iqm, mean, mean_of_ended

__all__ = [
    "bootstrap_interval",
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "discounted_return",
    "gae",
    "iqm",
    "lambda_return",
    "mean",
    "mean_of_ended",
    "normal_entropy",
    "normal_log_prob",
]
