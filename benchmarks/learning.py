"""What the algorithms learn with the references' settings, beside the published figures.

python benchmarks/learning.py [ROW ...] [--seeds 16] [--first-seed 0] [--device cpu] [--out FILE] [--pictures DIR]
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import importlib.util
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from funcrl import envs, ops
from funcrl.algos import REGISTRY
from funcrl.algos.presets import preset
from funcrl.core import random
from funcrl.io import learning_curve, write_video
from funcrl.io.files import json_text
from funcrl.train import evaluate, film, train

TRAINING = "mean return of the last 100 training episodes"
GREEDY = "mean return of 100 greedy episodes"


EVERY = 2
"""steps from picture to picture of a film, which then runs as much faster"""


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure to reach."""

    algorithm: str
    env: str
    target: float
    reference: str
    preset: str | None = None
    """whose settings; the algorithm's own defaults without"""
    statistic: str = TRAINING
    """what is compared with the target, as in the reference"""
    num_steps: int = 500_000
    """environment steps of a seed, where no preset says them"""
    shortened_to: int | None = None
    """environment steps of a seed, where the preset's are not all taken"""
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """fields of the environment that are not as usual"""
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """settings that are not the preset's"""
    needs: str | None = None
    """module of a simulator that may not be there"""
    film: float | None = None
    """return at which a film of the first seed's first greedy episode ends; there is none without"""

    @property
    def settings(self) -> tuple[Any, int]:
        """Settings and environment steps of a seed."""
        if self.preset is None:
            return REGISTRY[self.algorithm].Config(), self.num_steps
        chosen = preset(self.algorithm, self.preset, self.env)
        return dataclasses.replace(chosen.config, **self.changes), self.shortened_to or chosen.num_steps


LAP = 31.4
"""return of one round of the driving environment's track"""

DQN_OF_THE_PAPER = {
    "Asterix": 16.5,
    "Breakout": 10.0,
    "Freeway": 50.5,
    "Seaquest": 20.0,
    "SpaceInvaders": 45.0,
}
"""what DQN reaches in 5M steps, training returns over 30 runs, read off the curves of Young & Tian 2019"""

_PPO = "CleanRL 490.04 ± 6.12"
_DQN = "CleanRL 488.69 ± 16.11"
_ZOO = "zoo 500"

ROWS: dict[str, Row] = {
    "ppo/CartPole": Row("ppo", "CartPole-v1", 475, _PPO),
    "ppo/Acrobot": Row("ppo", "Acrobot-v1", -90, "CleanRL -86.36 ± 1.32"),
    "ppo/Pendulum": Row("ppo", "Pendulum-v1", -200, "zoo -172", "zoo", GREEDY),
    "ppo/MountainCarContinuous": Row("ppo", "MountainCarContinuous-v0", 88, "–", "zoo", GREEDY),
    "ppo/LunarLander": Row("ppo", "LunarLander-v3", 200, "–", "zoo", GREEDY, needs="Box2D"),
    "ppo/CartPole-zoo": Row("ppo", "CartPole-v1", 475, _ZOO, "zoo", GREEDY),
    "ppo/Acrobot-zoo": Row("ppo", "Acrobot-v1", -90, "CleanRL -86.36 ± 1.32", "zoo"),
    "ppo/Breakout": Row("ppo", "Breakout-MinAtar", 35, "PureJaxRL 35 to 44", "purejaxrl"),
    **{
        f"ppo/{game}-5M": Row(
            "ppo", f"{game}-MinAtar", dqn, "DQN of its paper", "purejaxrl", shortened_to=5_000_000
        )
        for game, dqn in DQN_OF_THE_PAPER.items()
    },
    "pqn/Breakout-2M": Row(
        "pqn",
        "Breakout-MinAtar",
        0,
        "for comparison",
        "purejaxql",
        shortened_to=2_000_000,
        changes={"exploration_steps": 200_000.0},
    ),
    "dqn/Breakout-500k": Row(
        "dqn", "Breakout-MinAtar", 0, "for comparison", "dopamine", shortened_to=500_000
    ),
    "a2c/CartPole": Row("a2c", "CartPole-v1", 475, _ZOO, "zoo"),
    "reinforce/CartPole": Row("reinforce", "CartPole-v1", 475, _ZOO),
    "actor_critic/CartPole": Row("actor_critic", "CartPole-v1", 475, "–"),
    "impala/CartPole": Row("impala", "CartPole-v1", 475, "–", statistic=GREEDY),
    "ppo/positions": Row("ppo", "PositionOnlyCartPole-v0", 475, "–", "recurrent"),
    "ppo/positions-forgetful": Row(
        "ppo", "PositionOnlyCartPole-v0", 0, "for comparison", "recurrent", changes={"recurrent_cell": "none"}
    ),
    "ppo/maze": Row("ppo", "TMaze-v0", 3.9, "optimum 4, chance 1.95", "recurrent", params={"length": 20}),
    "ppo/maze-forgetful": Row(
        "ppo",
        "TMaze-v0",
        0,
        "chance 1.95",
        "recurrent",
        params={"length": 20},
        changes={"recurrent_cell": "none"},
    ),
    "ppo/gymnasium-CartPole": Row("ppo", "gymnasium:CartPole-v1", 475, _PPO),
    "dqn/CartPole": Row("dqn", "CartPole-v1", 475, _DQN, "cleanrl"),
    "double_dqn/CartPole": Row("double_dqn", "CartPole-v1", 475, _DQN, "cleanrl"),
    "dueling_dqn/CartPole": Row("dueling_dqn", "CartPole-v1", 475, _DQN, "cleanrl"),
    "dqn/CartPole-zoo": Row("dqn", "CartPole-v1", 475, _ZOO, "zoo", GREEDY),
    "dqn/CartPole-slow": Row("dqn", "CartPole-v1", 475, _ZOO, "zoo-slow", GREEDY),
    "double_dqn/CartPole-slow": Row("double_dqn", "CartPole-v1", 475, _ZOO, "zoo-slow", GREEDY),
    "dueling_dqn/CartPole-slow": Row("dueling_dqn", "CartPole-v1", 475, _ZOO, "zoo-slow", GREEDY),
    "dqn/Acrobot": Row("dqn", "Acrobot-v1", -92, "CleanRL -91.54 ± 7.20", "cleanrl"),
    "dqn/MountainCar-zoo": Row("dqn", "MountainCar-v0", -115, "zoo -100.8 ± 9.9", "zoo", GREEDY),
    "dqn/MountainCar-slow": Row("dqn", "MountainCar-v0", -115, "zoo -100.8 ± 9.9", "zoo-slow", GREEDY),
    "sac/Pendulum": Row("sac", "Pendulum-v1", -170, "zoo -157", "zoo", GREEDY),
    "sac/MountainCarContinuous": Row(
        "sac", "MountainCarContinuous-v0", 90, "zoo 94.68 ± 1.13", "zoo", GREEDY
    ),
    "td3/Pendulum": Row("td3", "Pendulum-v1", -170, "zoo -152", "zoo", GREEDY),
    "ddpg/Pendulum": Row("ddpg", "Pendulum-v1", -170, "zoo -152", "zoo", GREEDY),
    "sac/HalfCheetah": Row(
        "sac", "HalfCheetah-v5", 8200, "CleanRL 9635 ± 1424 (v4)", "zoo", GREEDY, needs="mujoco"
    ),
    "td3/HalfCheetah": Row(
        "td3", "HalfCheetah-v5", 9400, "CleanRL 9583 ± 126 (v4)", "zoo", GREEDY, needs="mujoco"
    ),
    "sac/Driving": Row(
        "sac", "Driving-v0", LAP, "a lap 31.4, a scripted driver 73.1", "own", GREEDY, film=LAP
    ),
    "c51/CartPole": Row("c51", "CartPole-v1", 475, "–"),
    "qr_dqn/CartPole": Row("qr_dqn", "CartPole-v1", 475, "–"),
    "pqn/CartPole": Row("pqn", "CartPole-v1", 475, "–"),
}
"""what to reach, by a name that says which"""


def measure(name: str, seeds: list[int], device: str, pictures: Path | None = None) -> dict[str, Any]:
    """Train as a row says and return its figures; with `pictures`, draw the curve into that folder."""
    row = ROWS[name]
    config, num_steps = row.settings
    env = envs.make(row.env, **row.params) if row.params else row.env
    result = train(row.algorithm, env, config=config, seeds=seeds, num_steps=num_steps, device=device)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        title = f"{row.algorithm} on {row.env}, {len(seeds)} seeds"
        stem = name.replace("/", "_").lower()
        learning_curve(result, title, pictures / f"{stem}.png")
        if row.film is not None:
            shown = film(row.algorithm, env, result.states, num_episodes=100)
            moments = itertools.takewhile(lambda moment: moment.episode_return < row.film, shown.moments)
            frames = (moment.frame for moment in itertools.islice(moments, 0, None, EVERY))
            write_video(pictures / f"{stem}.gif", frames, shown.fps)
    returns = {
        TRAINING: result.final_returns(),
        GREEDY: evaluate(row.algorithm, env, result.states, num_episodes=100).mean(dim=1).cpu(),
    }
    return {
        "row": name,
        "placement": result.placement,
        "config": json.loads(
            json_text({f.name: getattr(config, f.name) for f in dataclasses.fields(config)})
        ),
        "seeds": seeds,
        "steps": int(result.steps[-1]),
        "statistic": row.statistic,
        "target": row.target,
        **{name: figures(returns[name]) for name in (TRAINING, GREEDY)},
        "not_finite": result.nonfinite_seeds,
        "steps_per_second": round(result.steps_per_second),
        "compile_seconds": round(result.compile_seconds, 1),
        "run_seconds": round(result.run_seconds, 1),
    }


def figures(returns: torch.Tensor) -> dict[str, Any]:
    """Return the statistics of `[seeds]` returns."""
    low, high = ops.bootstrap_interval(random.key(0), returns)
    return {
        "iqm": round(float(ops.iqm(returns)), 2),
        "interval_95": [round(float(low), 2), round(float(high), 2)],
        "worst": round(float(returns.min()), 2),
        "each": [round(float(one), 2) for one in returns],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as a table, each beside target and reference."""
    lines = [
        "| row | env steps | seeds | training IQM [95 %] | greedy IQM [95 %] | worst | target | reference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for found in rows:
        row = ROWS[found["row"]]
        compared = found[row.statistic]
        shown = [f"{found[s]['iqm']} {found[s]['interval_95']}" for s in (TRAINING, GREEDY)]
        verdict = "reached" if compared["iqm"] >= row.target else "MISSED"
        which = "training" if row.statistic == TRAINING else "greedy"
        lines.append(
            f"| {found['row']} | {found['steps']:,} | {len(found['seeds'])} | {shown[0]} | {shown[1]} "
            f"| {compared['worst']} | {which} ≥ {row.target:g}: {verdict} | {row.reference} |"
        )
    return "\n".join(lines)


def matching(patterns: list[str]) -> list[str]:
    """Return the rows that a person named, `dqn/*` for several; all whose simulators are there where nothing was named."""
    there = [name for name, row in ROWS.items() if row.needs is None or importlib.util.find_spec(row.needs)]
    found = [name for name in ROWS if any(fnmatch.fnmatch(name, p) for p in patterns)] if patterns else there
    if not found:
        raise SystemExit(f"learning: no row is like {patterns}. There are {', '.join(ROWS)}.")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"some of {', '.join(ROWS)}; * stands for anything")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", help="write all figures there as JSON")
    parser.add_argument("--pictures", type=Path, help="draw each row's learning curve into this folder")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {given.seeds}")
    seeds = list(range(given.first_seed, given.first_seed + given.seeds))
    rows = [measure(name, seeds, given.device, given.pictures) for name in matching(given.rows)]
    print(table(rows))
    if given.out:
        Path(given.out).write_text(json_text(rows))
