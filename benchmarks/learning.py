"""What PPO learns on CartPole with the references' settings (config P), beside the published figures.

python benchmarks/learning.py [--seeds 16] [--device cpu]
"""

from __future__ import annotations

import argparse
from typing import Any

from funcrl import ops
from funcrl.core import random
from funcrl.train import evaluate, train

TARGET, REFERENCE = 475.0, "CleanRL 490.04 ± 6.12"


def measure(seeds: int, device: str) -> dict[str, Any]:
    """Train config P for 500,000 steps and return the figures of its row."""
    result = train("ppo", "CartPole-v1", seeds=range(seeds), num_steps=500_000, device=device)
    finals = result.final_returns()
    low, high = ops.bootstrap_interval(random.key(0), finals)
    greedy = evaluate("ppo", "CartPole-v1", result.states, num_episodes=20)
    return {
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


def row(figures: dict[str, Any]) -> str:
    """Return the figures as a row beside target and reference."""
    low, high = figures["interval_95"]
    verdict = "reached" if figures["iqm"] >= TARGET else "MISSED"
    return (
        "| environment | algorithm | env steps | seeds | IQM [95 %] | worst | greedy | target | reference |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
        f"| CartPole-v1 | PPO, config P | {figures['steps']:,} | {figures['seeds']} "
        f"| {figures['iqm']} [{low}, {high}] | {figures['worst']} | {figures['greedy_iqm']} "
        f"| ≥ {TARGET:.0f}: {verdict} | {REFERENCE} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    print(row(measure(given.seeds, given.device)))
