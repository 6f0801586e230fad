"""Networks as pure functions: a module on the meta device is the template, parameters are data."""

from funcrl.nets import ensemble, images, initialisers, inputs, noisy
from funcrl.nets.autoencoders import autoencoder
from funcrl.nets.convolution import cnn
from funcrl.nets.dueling import AGGREGATIONS, dueling
from funcrl.nets.functional import (
    Params,
    apply,
    check_output,
    device_of,
    init,
    observations_in_words,
    output_on_zeros,
)
from funcrl.nets.mlp import activated, mlp
from funcrl.nets.observations import for_observations
from funcrl.nets.recurrent import Recurrent, recurrent
from funcrl.nets.sequences import reader
from funcrl.nets.state_dicts import from_state_dict, to_state_dict
from funcrl.nets.stateful import Buffers, Dropout, Pure, begin, pure, run

__all__ = [
    "AGGREGATIONS",
    "Buffers",
    "Dropout",
    "Params",
    "Pure",
    "Recurrent",
    "activated",
    "apply",
    "autoencoder",
    "begin",
    "check_output",
    "cnn",
    "device_of",
    "dueling",
    "ensemble",
    "for_observations",
    "from_state_dict",
    "images",
    "init",
    "initialisers",
    "inputs",
    "mlp",
    "noisy",
    "observations_in_words",
    "output_on_zeros",
    "pure",
    "reader",
    "recurrent",
    "run",
    "to_state_dict",
]
