"""Every effect: checkpoints, tables and pictures."""

from funcrl.io.checkpoint import load, save
from funcrl.io.plots import learning_curve
from funcrl.io.recorder import Recorder, check_folder, free_folder

__all__ = ["Recorder", "check_folder", "free_folder", "learning_curve", "load", "save"]
