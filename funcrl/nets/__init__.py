"""Networks as pure functions: a module on the meta device is the template, parameters are data."""

from funcrl.nets import ensemble, images, initialisers, inputs, noisy
from funcrl.nets.autoencoders import autoencoder
from funcrl.nets.convolution import cnn
from funcrl.nets.dueling import AGGREGATIONS, dueling
from funcrl.nets.functional import (
    apply,
    check_output,
    device_of,
    init,
    observations_in_words,
    output_for,
    output_on_zeros,
)
from funcrl.nets.lanes import check_lanes
from funcrl.nets.layers import BatchNorm, Dropout
from funcrl.nets.mlp import activated, mlp
from funcrl.nets.observations import for_observations
from funcrl.nets.pretrained import pretrained
from funcrl.nets.recurrent import Recurrent, recurrent
from funcrl.nets.sequences import reader
from funcrl.nets.state_dicts import from_state_dict, to_state_dict
from funcrl.nets.stateful import Buffers, begin, pure, run
from funcrl.nets.templates import Network, Params, Pure
from funcrl.nets.within_agents import (
    begin_whole,
    buffers_of,
    check_module,
    learning,
    observed,
    own,
    with_new_keys,
    without_gradient,
)

__all__ = [
    "AGGREGATIONS",
    "BatchNorm",
    "Buffers",
    "Dropout",
    "Network",
    "Params",
    "Pure",
    "Recurrent",
    "activated",
    "apply",
    "autoencoder",
    "begin",
    "begin_whole",
    "buffers_of",
    "check_lanes",
    "check_module",
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
    "learning",
    "mlp",
    "noisy",
    "observations_in_words",
    "observed",
    "output_for",
    "output_on_zeros",
    "own",
    "pretrained",
    "pure",
    "reader",
    "recurrent",
    "run",
    "to_state_dict",
    "with_new_keys",
    "without_gradient",
]
