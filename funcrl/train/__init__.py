"""Training and evaluating many lanes at once."""

from funcrl.train.carry import Carry, Report
from funcrl.train.errors import WorkerError
from funcrl.train.evaluation import evaluate
from funcrl.train.film import Film, film
from funcrl.train.online import regret_lower_bound
from funcrl.train.plan import Plan, make_plan, with_evaluations
from funcrl.train.planning import Solution, solve
from funcrl.train.progress import Progress
from funcrl.train.result import Result
from funcrl.train.run import Run
from funcrl.train.stages import Evaluations
from funcrl.train.sweep import SweepResult, plan_sweep, sweep
from funcrl.train.training import execute, train

__all__ = [
    "Carry",
    "Evaluations",
    "Film",
    "Plan",
    "Progress",
    "Report",
    "Result",
    "Run",
    "Solution",
    "SweepResult",
    "WorkerError",
    "evaluate",
    "execute",
    "film",
    "make_plan",
    "plan_sweep",
    "regret_lower_bound",
    "solve",
    "sweep",
    "train",
    "with_evaluations",
]
