"""Distributions over actions as pytrees, and the one place that chooses among them by the action space."""

from funcrl.policies.bernoulli import Bernoulli
from funcrl.policies.categorical import Categorical, MultiCategorical
from funcrl.policies.choice import for_space
from funcrl.policies.heads import Gaussian, GaussianOfState, Squashed
from funcrl.policies.normal import Normal
from funcrl.policies.product import Product
from funcrl.policies.protocol import Distribution, Head, Parameters
from funcrl.policies.reshaped import Reshaped
from funcrl.policies.scaled import ScaledActions, scaled_actions
from funcrl.policies.smooth import Smooth, SmoothNormal, SmoothTanhNormal
from funcrl.policies.tanh_normal import TanhNormal

__all__ = [
    "Bernoulli",
    "Categorical",
    "Distribution",
    "Gaussian",
    "GaussianOfState",
    "Head",
    "MultiCategorical",
    "Normal",
    "Parameters",
    "Product",
    "Reshaped",
    "ScaledActions",
    "Smooth",
    "SmoothNormal",
    "SmoothTanhNormal",
    "Squashed",
    "TanhNormal",
    "for_space",
    "scaled_actions",
]
