"""Learning from labelled batches, in the form of the other algorithms: `init`, `update(state, batch) -> state`."""

from funcrl.supervised import autoencoder, classifier
from funcrl.supervised.fitting import Fit, fit
from funcrl.supervised.images import images_for
from funcrl.supervised.resolve import ALGORITHMS

__all__ = ["ALGORITHMS", "Fit", "autoencoder", "classifier", "fit", "images_for"]
