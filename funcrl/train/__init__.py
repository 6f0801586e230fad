"""Training and evaluating many lanes at once."""

from funcrl.train.evaluation import evaluate
from funcrl.train.on_policy import OnPolicyRun
from funcrl.train.online import OnlineRun
from funcrl.train.result import Result
from funcrl.train.run import Carry, Report
from funcrl.train.training import Plan, Progress, execute, make_plan, train

__all__ = [
    "Carry",
    "OnPolicyRun",
    "OnlineRun",
    "Plan",
    "Progress",
    "Report",
    "Result",
    "evaluate",
    "execute",
    "make_plan",
    "train",
]
