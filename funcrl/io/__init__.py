"""Every effect: checkpoints, tables and pictures."""

from funcrl.io.checkpoint import load, save
from funcrl.io.checkpoints import Checkpoints
from funcrl.io.extracting import extract
from funcrl.io.fits import SavedFit, fit_into, open_fit
from funcrl.io.folders import check_folder, free_folder
from funcrl.io.grids import draw_grid, grid_picture, grid_text, is_grid
from funcrl.io.heads import has_checkpoint
from funcrl.io.locks import only_writer
from funcrl.io.plans import write_plan
from funcrl.io.plots import learning_curve, picture, regret_curve
from funcrl.io.recorder import Recorder
from funcrl.io.restoring import Checkpoint, latest
from funcrl.io.runs import SavedRun, open_run
from funcrl.io.trackers import Tracker, make_tracker
from funcrl.io.video import write_video

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Recorder",
    "SavedFit",
    "SavedRun",
    "Tracker",
    "check_folder",
    "draw_grid",
    "extract",
    "fit_into",
    "free_folder",
    "grid_picture",
    "grid_text",
    "has_checkpoint",
    "is_grid",
    "latest",
    "learning_curve",
    "load",
    "make_tracker",
    "only_writer",
    "open_fit",
    "open_run",
    "picture",
    "regret_curve",
    "save",
    "write_plan",
    "write_video",
]
