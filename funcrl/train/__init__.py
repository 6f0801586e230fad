"""Training and evaluating many lanes at once."""

from funcrl.train.errors import WorkerError
from funcrl.train.evaluation import evaluate
from funcrl.train.off_policy import OffPolicyRun
from funcrl.train.on_policy import OnPolicyRun
from funcrl.train.online import OnlineRun, regret_lower_bound
from funcrl.train.plan import Plan, make_plan, with_evaluations
from funcrl.train.planning import Solution, solve
from funcrl.train.progress import Progress
from funcrl.train.result import Result
from funcrl.train.run import Carry, Report
from funcrl.train.sweep import SweepResult, plan_sweep, sweep
from funcrl.train.training import execute, train

__all__ = [
    "Carry",
    "OffPolicyRun",
    "OnPolicyRun",
    "OnlineRun",
    "Plan",
    "Progress",
    "Report",
    "Result",
    "Solution",
    "SweepResult",
    "WorkerError",
    "evaluate",
    "execute",
    "make_plan",
    "plan_sweep",
    "regret_lower_bound",
    "solve",
    "sweep",
    "train",
    "with_evaluations",
]
