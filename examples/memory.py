"""What a memory is worth: PPO with a GRU and without one, where one observation does not say enough.

python examples/memory.py [--seeds 16] [--steps 1.0] [--out memory.png]

CartPole that shows no velocities, and a T-maze whose first cell, 20 steps before the junction, says where to turn. The
settings are those of the preset `recurrent`; what comes without a memory has the same ones but for the cell.
"""

from __future__ import annotations

import argparse
import dataclasses

from funcrl import envs, ops
from funcrl.algos.presets import preset
from funcrl.core import random
from funcrl.io import picture
from funcrl.io.plots import binned, draw_statistic, finish
from funcrl.train import Result, train

PLACES = {
    "PositionOnlyCartPole-v0": ({}, "CartPole without velocities", 500.0, None),
    "TMaze-v0": ({"length": 20}, "T-maze of length 20", 4.0, 1.95),
}
"""by name: what is not as usual, a title, the best return, and what guessing at the junction earns"""
COLOURS = {"gru": "#1f5fa8", "none": "#b8541a"}


def learn(name: str, cell: str, seeds: int, share: float, backend: str) -> Result:
    """Train with a memory or without one."""
    chosen, env = preset("ppo", "recurrent", name), envs.make(name, **PLACES[name][0])
    config = dataclasses.replace(chosen.config, recurrent_cell=cell)
    steps = max(int(share * chosen.num_steps), config.num_envs * config.window_length)
    return train("ppo", env, config=config, seeds=range(seeds), num_steps=steps, backend=backend)


def main() -> None:
    """Train four times and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=16, help="lanes")
    parser.add_argument("--steps", type=float, default=1.0, help="share of the preset's environment steps")
    parser.add_argument("--backend", default="inductor", help="eager starts at once and is slow")
    parser.add_argument("--out", default="memory.png", help="picture to write")
    given = parser.parse_args()

    with picture(given.out, (11.0, 4.2), columns=2) as both:
        for axes, (name, (_, title, best, chance)) in zip(both, PLACES.items(), strict=True):
            for cell, label in (("gru", "with a GRU"), ("none", "without a memory")):
                result = learn(name, cell, given.seeds, given.steps, given.backend)
                last = result.final_returns()
                low, high = ops.bootstrap_interval(random.key(0), last)
                interval = f"95 % interval [{float(low):.2f}, {float(high):.2f}]"
                print(
                    f"{title}, {label}: interquartile mean {float(ops.iqm(last)):.2f}, {interval}", flush=True
                )
                steps, lanes = binned(result.steps, result.returns)
                draw_statistic(axes, steps, lanes, ops.iqm, label, COLOURS[cell])
            axes.axhline(best, color="0.4", linestyle="--", linewidth=1)
            if chance is not None:
                axes.axhline(chance, color="0.4", linestyle=":", linewidth=1, label="guessing")
            axes.set_title(title, loc="left", fontweight="bold")
            axes.set_ylabel("return")
            finish(axes)
        title = f"PPO, {given.seeds} seeds: interquartile mean and 95 % interval"
        both[0].figure.suptitle(title, fontsize=9)
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
