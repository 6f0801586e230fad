"""Every effect: checkpoints, tables and pictures."""

from funcrl.io.checkpoint import load, save
from funcrl.io.grids import draw_grid, grid_picture, grid_text, is_grid
from funcrl.io.plans import write_plan
from funcrl.io.plots import learning_curve, picture, regret_curve
from funcrl.io.recorder import Recorder, check_folder, free_folder

__all__ = [
    "Recorder",
    "check_folder",
    "draw_grid",
    "free_folder",
    "grid_picture",
    "grid_text",
    "is_grid",
    "learning_curve",
    "load",
    "picture",
    "regret_curve",
    "save",
    "write_plan",
]
