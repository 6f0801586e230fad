"""Learning from labelled batches, in the form of the other algorithms: `init`, `update(state, batch) -> state`."""

from types import ModuleType

from funcrl.supervised import autoencoder, classifier
from funcrl.supervised.fitting import Fit, fit
from funcrl.supervised.images import images_for

ALGORITHMS: dict[str, ModuleType] = {"autoencoder": autoencoder, "classifier": classifier}
"""by the names that the command line takes"""

__all__ = ["ALGORITHMS", "Fit", "autoencoder", "classifier", "fit", "images_for"]
