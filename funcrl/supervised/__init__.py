"""Learning from labelled batches, in the form of the other algorithms: `init`, `update(state, batch) -> state`."""

from funcrl.supervised import autoencoder, classifier
from funcrl.supervised.fitting import Fit, fit

__all__ = ["Fit", "autoencoder", "classifier", "fit"]
