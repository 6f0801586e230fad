"""Learning from labelled batches, in the form of the other algorithms: `init`, `update(state, batch) -> state`."""

from funcrl.supervised import classifier
from funcrl.supervised.fitting import Fit, fit

__all__ = ["Fit", "classifier", "fit"]
