"""`funcrl evaluate`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from funcrl import ops
from funcrl.cli.arguments import parse_folder
from funcrl.cli.progress import say
from funcrl.core import checks, random
from funcrl.core.checks import require
from funcrl.envs.drawing import Frame
from funcrl.io import SavedRun, open_run, write_video
from funcrl.io.files import write_atomically
from funcrl.io.video import check_video
from funcrl.train.episodes import DeviceEpisodes, HostEpisodes, Moment, needs_env_states
from funcrl.train.evaluation import make_episodes
from funcrl.train.film import check_draws


@dataclasses.dataclass
class Options:
    """What `funcrl evaluate` takes beside the folder."""

    episodes: int = 100
    """episodes of each seed's agent, the same ones for all"""
    stochastic: bool = False
    """draw actions from the policy, instead of the best one"""
    seed: int = 0
    """of the episodes"""
    max_steps: int | None = None
    """where to give up on episodes that do not end; the environment's own limit by default"""
    video: Path | None = None
    """draw the first episode of an agent into this file: FILE.gif, or FILE.mp4 (extra video)"""
    video_seed: int | None = None
    """which seed's agent is drawn; the best one by default"""


def evaluate_command(words: list[str]) -> int:
    """Let the final agents of a run play, and print what they earn.

    Args:
        words: What stands after `funcrl evaluate`.

    Returns:
        Exit status.
    """
    folder, options = parse_folder(
        "evaluate",
        "Let the final agents of a run play, and leave evaluation.csv (seed,episode,return) in its folder.",
        Options(),
        words,
    )
    run = open_run(folder)
    agents = run.agents
    fps = _check(run, options)
    how = "drawing from the policy" if options.stochastic else "greedy"
    what = f"{options.episodes} episodes of each of {len(run.kept_seeds)} seeds, {how}"
    say(f"{_label(run)}: {what}")
    episodes = make_episodes(
        "evaluate",
        run.algorithm,
        run.env,
        agents,
        num_episodes=options.episodes,
        seed=options.seed,
        max_steps=options.max_steps,
        greedy=not options.stochastic,
        env_states=run.env_states if needs_env_states(run.env) else None,
        backend="aot_eager",  # starts at once, which is what a person waits for
    )
    with contextlib.closing(episodes):
        returns = episodes().cpu()
        best = _report(run, returns, how)
        if options.video is not None:
            lane = best if options.video_seed is None else run.kept_seeds.index(options.video_seed)
            _draw(run, episodes, lane, float(returns[lane, 0]), options.video, fps)
    return 0


def _check(run: SavedRun, options: Options) -> float:
    """Find out what is wrong before anything is compiled, and return the pictures a second of a video."""
    needed = run.env.max_episode_steps is None and options.max_steps is None
    hold = "be given for an environment without a time limit"
    require(not needed, "evaluate", "--max-steps", hold, None, "Write --max-steps 1000, or 1 for a bandit.")
    checks.integer("evaluate", "--episodes", options.episodes, 1)
    checks.integer("evaluate", "--seed", options.seed, 0)
    require(os.access(run.folder, os.W_OK), "evaluate", "DIR", "be writable", str(run.folder))
    if options.video is None:
        instead = "Write --video agent.gif."
        alone = options.video_seed is not None
        require(not alone, "evaluate", "--video", "be given with --video-seed", None, instead)
        return 0.0
    check_video("evaluate", "--video", options.video)
    if options.video_seed is not None:
        seeds = run.kept_seeds
        names = ", ".join(map(str, seeds)) if len(seeds) <= 16 else f"{seeds[0]}, {seeds[1]}, …, {seeds[-1]}"
        hold = f"be a seed whose agent the run has kept: {names}"
        require(options.video_seed in seeds, "evaluate", "--video-seed", hold, options.video_seed)
    return check_draws("evaluate", run.env)


def _report(run: SavedRun, returns: Tensor, how: str) -> int:
    """Write and print what the agents have earned, `[S, episodes]`, and return the lane of the best one."""
    lines = ["seed,episode,return"]
    for seed, row in zip(run.kept_seeds, returns.tolist(), strict=True):
        lines += [f"{seed},{episode},{earned:.9g}" for episode, earned in enumerate(row)]
    write_atomically(run.folder / "evaluation.csv", ("\n".join(lines) + "\n").encode())
    means = returns.mean(dim=1)
    finite = means[means.isfinite()]
    require(len(finite) > 0, "evaluate", "returns", "be finite for at least one seed", "none")
    low, high = ops.bootstrap_interval(random.key(0, "cpu"), finite)
    best, worst = int(means.nan_to_num(-float("inf")).argmax()), int(means.nan_to_num(float("inf")).argmin())
    print(
        f"{_label(run)}: {len(means)} seeds × {returns.shape[1]} episodes, {how}, mean return of each seed\n\n"
        f"  interquartile mean {float(ops.iqm(finite)):>10.2f}   95 % interval [{float(low):.2f}, {float(high):.2f}]\n"
        f"  best               {float(means[best]):>10.2f}   seed {run.kept_seeds[best]}\n"
        f"  worst              {float(means[worst]):>10.2f}   seed {run.kept_seeds[worst]}\n\n"
        f"  wrote {run.folder / 'evaluation.csv'}"
    )
    return best


def _draw(
    run: SavedRun,
    episodes: DeviceEpisodes | HostEpisodes,
    lane: int,
    counted: float,
    path: Path,
    fps: float,
) -> None:
    """Play the first episode of a lane again, and write it into a file.

    Args:
        run: Whose agents play.
        episodes: What has been played.
        lane: Of which seed.
        counted: What the episode has earned in the evaluation.
        path: Where to.
        fps: Pictures a second.
    """
    seed = run.kept_seeds[lane]
    say(f"{_label(run)}: drawing episode 0 of seed {seed}, which earned {counted:.9g}")
    seen: list[float] = []
    write_video(path, _frames(episodes.moments(lane), seen), fps)
    size = path.stat().st_size
    shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB"
    print(f"  wrote {path}: seed {seed}, episode 0, {len(seen)} pictures, {len(seen) / fps:.1f} s, {shown}")
    if seen[-1] != counted:
        # Only on the host can anything but seed and actions decide what happens.
        say(f"It earned {seen[-1]:.9g} this time: the environment does not repeat its episodes.")


def _frames(moments: Iterator[Moment], seen: list[float]) -> Iterator[Frame]:
    """Yield pictures, note the return at each, and say now and then how far it is."""
    last = time.monotonic()
    for moment in moments:
        seen.append(moment.episode_return)
        if time.monotonic() - last > 5:
            last = time.monotonic()
            say(f"{len(seen)} pictures")
        yield moment.frame


def _label(run: SavedRun) -> str:
    return f"{run.settings['algorithm']} {run.settings['environment']}"
