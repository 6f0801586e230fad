"""Networks as pure functions: a module on the meta device is the template, parameters are data."""

from funcrl.nets import initialisers
from funcrl.nets.convolution import cnn
from funcrl.nets.functional import Params, apply, check_output, init
from funcrl.nets.mlp import mlp

__all__ = ["Params", "apply", "check_output", "cnn", "init", "initialisers", "mlp"]
