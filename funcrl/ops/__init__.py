"""Equations: tensors in, tensors out, each with its source."""

from funcrl.ops.comparisons import (
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)
from funcrl.ops.distributions import (
    bernoulli_entropy,
    bernoulli_kl,
    bernoulli_log_prob,
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    normal_entropy,
    normal_kl,
    normal_log_prob,
    tanh_log_slope,
    tanh_normal_entropy,
)
from funcrl.ops.quantiles import quantile_regression
from funcrl.ops.returns import discounted_return, gae, lambda_return, n_step, v_trace
from funcrl.ops.statistics import bootstrap_interval, iqm, mean
from funcrl.ops.values import (
    categorical_projection,
    huber,
    importance_weights,
    of_action,
    quantile_huber,
)

__all__ = [
    "bernoulli_entropy",
    "bernoulli_kl",
    "bernoulli_log_prob",
    "bootstrap_interval",
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "categorical_projection",
    "discounted_return",
    "gae",
    "huber",
    "importance_weights",
    "iqm",
    "lambda_return",
    "mean",
    "median",
    "n_step",
    "normal_entropy",
    "normal_kl",
    "normal_log_prob",
    "of_action",
    "optimality_gap",
    "performance_profile",
    "probability_of_improvement",
    "quantile_huber",
    "quantile_regression",
    "stratified_interval",
    "tanh_log_slope",
    "tanh_normal_entropy",
    "v_trace",
]
