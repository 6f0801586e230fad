"""What PPO learns with the references' settings (config P), beside the published figures.

python benchmarks/learning.py [--seeds 16] [--device cpu] [--env Acrobot-v1]
"""

from __future__ import annotations

import argparse
from typing import Any

from funcrl import ops
from funcrl.core import random
from funcrl.train import evaluate, train

ROWS: dict[str, tuple[float, str]] = {
    "CartPole-v1": (475.0, "CleanRL 490.04 ± 6.12"),
    "Acrobot-v1": (-90.0, "CleanRL -86.36 ± 1.32"),
    "gymnasium:CartPole-v1": (475.0, "CleanRL 490.04 ± 6.12"),
}
"""environments, with the return to reach and the published figure"""


def measure(env: str, seeds: int, device: str) -> dict[str, Any]:
    """Train config P for 500,000 steps and return the figures of its row."""
    result = train("ppo", env, seeds=range(seeds), num_steps=500_000, device=device)
    finals = result.final_returns()
    low, high = ops.bootstrap_interval(random.key(0), finals)
    greedy = evaluate("ppo", env, result.states, num_episodes=20)
    return {
        "environment": env,
        "placement": result.placement,
        "seeds": seeds,
        "steps": int(result.steps[-1]),
        "iqm": round(float(ops.iqm(finals)), 2),
        "interval_95": [round(float(low), 2), round(float(high), 2)],
        "worst": round(float(finals.min()), 2),
        "greedy_iqm": round(float(ops.iqm(greedy.mean(dim=1).cpu())), 2),
        "not_finite": result.nonfinite_seeds,
        "steps_per_second": round(result.steps_per_second),
        "compile_seconds": round(result.compile_seconds, 1),
        "run_seconds": round(result.run_seconds, 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as a table, each beside target and reference."""
    lines = [
        "| environment | runs on the | algorithm | env steps | seeds | IQM [95 %] | worst | greedy | target | reference |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        target, reference = ROWS[row["environment"]]
        low, high = row["interval_95"]
        verdict = "reached" if row["iqm"] >= target else "MISSED"
        lines.append(
            f"| {row['environment']} | {row['placement']} | PPO, config P | {row['steps']:,} | {row['seeds']} "
            f"| {row['iqm']} [{low}, {high}] | {row['worst']} | {row['greedy_iqm']} "
            f"| ≥ {target:.0f}: {verdict} | {reference} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--env", choices=ROWS, action="append", help="one of the rows; all by default")
    given = parser.parse_args()
    print(table([measure(env, given.seeds, given.device) for env in given.env or ROWS]))
